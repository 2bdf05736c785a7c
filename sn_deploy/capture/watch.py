"""What a module's forward is given and makes, call by call; a hook isn't called where a model calls that itself."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator
from typing import Any

import torch

from sn_deploy.errors import SnDeployError

# Gets the first tensor among a call's arguments, or None where there is none.
Before = Callable[[torch.Tensor | None], None]
# Gets what forward returned; not called where that raises.
After = Callable[[object], None]


@contextlib.contextmanager
def watching(name: str, module: torch.nn.Module, before: Before, after: After | None = None) -> Iterator[None]:
    """While it lasts, calls ``before`` and ``after`` around the module's forward, inside of its own hooks.

    So what hooks make of the input is seen, and what they make of the output isn't: the layer ends with its forward.

    Args:
        name: of the module, as errors have it.

    Raises:
        SnDeployError: from that forward, where it is called inside of a transform such as torch.vmap.
    """
    forward = module.forward

    @functools.wraps(forward)
    def watched(*args: Any, **kwargs: Any) -> Any:
        x = next((value for value in (*args, *kwargs.values()) if isinstance(value, torch.Tensor)), None)
        if x is not None and torch._C._functorch.is_functorch_wrapped_tensor(x):
            raise SnDeployError(
                "is called inside of torch.vmap, or another transform of torch.func, where its input has no values and "
                "lacks an axis",
                where=f"layer {name!r}",
                mend="call it on the whole batch, x.flatten(0, 1) where there are two such axes: the statistics of IN "
                "and LN are each sample's own",
            )
        # Whoever looks may copy the module, and a copy would share this function with it.
        with _forward_as(module, own):
            before(x)
        result = forward(*args, **kwargs)
        if after is not None:
            after(result)
        return result

    own = vars(module).get("forward")
    with _forward_as(module, watched):
        yield


@contextlib.contextmanager
def _forward_as(module: torch.nn.Module, forward: Any) -> Iterator[None]:
    """While it lasts, the instance's own ``forward``; None for that of its class."""
    before = vars(module).get("forward")
    _set(module, forward)
    try:
        yield
    finally:
        _set(module, before)


def _set(module: torch.nn.Module, forward: Any) -> None:
    if forward is not None:
        module.forward = forward
    elif "forward" in vars(module):
        del module.forward

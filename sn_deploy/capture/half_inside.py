"""A model whose code casts to half precision by itself: weights in float32 or float64, as they are run here, don't fit
that.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Final

import torch
from torch.nn.modules.module import register_module_forward_hook, register_module_forward_pre_hook
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode

from sn_deploy.capture.inputs import input_type

_HALF: Final = (torch.float16, torch.bfloat16)


def half_inside(
    model: torch.nn.Module, inputs: Iterable[torch.Tensor], call: Callable[[], object]
) -> tuple[str, str] | None:
    """What of a call that failed is in half precision, though no weight and no input is; None where nothing is.

    Args:
        inputs: of the call; call: makes it again, up to the first tensor of half precision.

    Returns:
        What is wrong, and how to mend it.
    """
    given = (*model.parameters(), *model.buffers(), *inputs)
    if any(tensor.dtype in _HALF for tensor in given):
        return None
    found = _first_half(model, call)
    if found is None:
        return None
    place, dtype = found
    code = f"module {place!r}" if place else f"{type(model).__name__}.forward"
    return (
        f"{code} makes {_name(dtype)} of its input, and weights are {_name(input_type(model))} here, whatever they are "
        "in the model",
        "take the cast out, or cast to the type of a weight, x.to(self.conv.weight.dtype); a file in half precision "
        "is made by --precision fp16",
    )


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


class _FoundError(Exception):
    def __init__(self, dtype: torch.dtype) -> None:
        super().__init__()
        self.dtype = dtype


class _Watch(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Ends the call at the first operator that takes or gives a tensor in half precision."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for value in pytree.tree_leaves((result, args, kwargs)):
            if isinstance(value, torch.Tensor) and value.dtype in _HALF:
                raise _FoundError(value.dtype)
        return result


def _first_half(model: torch.nn.Module, call: Callable[[], object]) -> tuple[str, torch.dtype] | None:
    names = {id(module): name for name, module in model.named_modules()}
    entered: list[str] = []

    def enter(module: torch.nn.Module, _args: Any) -> None:
        entered.append(names.get(id(module), ""))

    def leave(_module: torch.nn.Module, _args: Any, _result: Any) -> None:
        entered.pop()

    hooks = register_module_forward_pre_hook(enter), register_module_forward_hook(leave)
    try:
        with _Watch():  # type: ignore[no-untyped-call]
            call()
    except _FoundError as found:
        return entered[-1] if entered else "", found.dtype
    except Exception:  # noqa: BLE001 - it failed before
        return None
    finally:
        for hook in hooks:
            hook.remove()
    return None

"""A private copy of a module to run probes on: the user's own is never run, changed or trained."""

from __future__ import annotations

import contextlib
import copy
import warnings
from typing import Any

import numpy as np
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from sn_deploy.errors import first_line
from sn_deploy.folded import Float64Array
from sn_deploy.recognise.result import RefusedError
from sn_deploy.recognise.says_cuda import SaysCuda

_LOW_PRECISION = (torch.float32, torch.float16, torch.bfloat16)


class ForwardFailedError(RefusedError):
    """The module's forward raised, or returned something other than a tensor."""


class Subject:
    """The copy: on the CPU, in float64, in evaluation mode, without hooks.

    Attributes:
        dtype: float64, or float32 after `single`.
        says_cuda: whether its forward takes CUDA tensors alone, and is told that it gets some; see
            `sn_deploy.recognise.cuda_check`.

    Raises:
        RefusedError: the module can't be copied, or its copy would run the original.
    """

    def __init__(self, module: torch.nn.Module) -> None:
        _check_forward(module)
        self._module = private_copy(module)
        self.dtype = torch.float64
        self.says_cuda = False
        self._calls = 0

    def single(self) -> None:
        """From now on in float32."""
        self._module.float()
        self.dtype = torch.float32

    def __call__(self, x: Float64Array) -> torch.Tensor:
        """The module's output for ``x``, cast to the subject's dtype; torch's random state stays as it was.

        Raises:
            ForwardFailedError: forward raised, or returned something other than a tensor.
        """
        self._calls += 1
        try:
            output = self._forward(x, self.says_cuda)
        except Exception as error:  # whatever the user's forward raises
            output = None if self.says_cuda else self._forward_as_on_cuda(x)
            if output is None:
                raise _forward_failed(error, x, self.dtype) from error
        if not isinstance(output, torch.Tensor):
            raise ForwardFailedError(
                f"its forward returns {type(output).__name__}, not a tensor", "return the normalised tensor alone"
            )
        return output.detach().cpu()

    def _forward_as_on_cuda(self, x: Float64Array) -> Any:
        """The output where forward works once it is told that its input is on CUDA, and from then on; else None."""
        try:
            output = self._forward(x, says_cuda=True)
        except Exception:  # noqa: BLE001 - what it raised without is what the user is told
            return None
        self.says_cuda = True
        return output

    def _forward(self, x: Float64Array, says_cuda: bool) -> Any:
        # A copy, for modules that write into their input.
        tensor = torch.tensor(np.array(x), dtype=self.dtype)
        with (
            SaysCuda() if says_cuda else contextlib.nullcontext(),
            torch.no_grad(),
            torch.random.fork_rng(devices=[]),
            torch.autocast("cpu", enabled=False),
            warnings.catch_warnings(),
        ):
            warnings.simplefilter("ignore")
            # Other random numbers each time, so that a random forward shows itself; torch.manual_seed would seed
            # the accelerators of the user's program as well.
            torch.default_generator.manual_seed(self._calls)
            # Not __call__, so that hooks registered for all modules don't fire.
            return self._module.forward(tensor)

    def computes_in_low_precision(self, x: Float64Array) -> bool:
        """Whether forward casts to a smaller floating point type inside, given float64."""
        watch = _DtypeWatch()
        with watch:
            self(x)
        return watch.low_precision


class _DtypeWatch(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Notes whether an operator gave a tensor (not a mere 0-dimensional constant) of a smaller type than float64."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.low_precision = False

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if isinstance(result, torch.Tensor) and result.ndim and result.dtype in _LOW_PRECISION:
            self.low_precision = True
        return result


def _check_forward(module: torch.nn.Module) -> None:
    """Refuses a forward that a copy would share with the original, and so run and perhaps change that one.

    And a layer that is more than its forward.
    """
    if type(module).__call__ is not torch.nn.Module.__call__:
        raise RefusedError(
            "its class has a __call__ of its own, which may do more than its forward", "put what it does into forward"
        )
    for part in module.modules():
        if getattr(vars(part).get("forward"), "__closure__", None):
            raise RefusedError(
                "its forward was replaced on the instance by a closure, which a copy of the module would share",
                "put the changed forward in a subclass",
            )


def private_copy(module: torch.nn.Module) -> torch.nn.Module:
    """A copy on the CPU, in float64, in evaluation mode, without hooks.

    Raises:
        RefusedError: the module can't be copied.
    """
    try:
        return _copy(module).cpu().double().eval()
    except Exception as error:  # whatever a module's own __deepcopy__ raises
        raise RefusedError(
            f"it can't be copied, so it can't be probed: {_one_line(error)}",
            "remove parametrizations and attributes that can't be copied",
        ) from error


def _copy(module: torch.nn.Module) -> torch.nn.Module:
    # Seen by deepcopy as copied already: hooks (they belong to the original, and may hold on to half a program) come
    # out empty, and tensors with a graph, which deepcopy refuses, come out detached.
    memo: dict[int, Any] = {}
    for part in module.modules():
        for key, value in vars(part).items():
            if key.endswith("_hooks") and isinstance(value, dict):
                memo[id(value)] = type(value)()
            elif isinstance(value, torch.Tensor) and not value.is_leaf:
                memo[id(value)] = value.detach().clone()
    return copy.deepcopy(module, memo)


def _one_line(error: BaseException) -> str:
    return f"{type(error).__name__}: {first_line(error)[:200]}"


def _forward_failed(error: Exception, x: Float64Array, dtype: torch.dtype) -> ForwardFailedError:
    shape = "×".join(str(size) for size in x.shape)
    text = str(error).lower()
    if any(word in text for word in ("cuda", "gpu", "nvidia")):
        mend = "give a layer that runs on the CPU: those of sn_deploy.nn load the same checkpoint"
    elif any(word in text for word in ("process group", "process_group", "distributed", "init_process")):
        mend = "make its forward skip communication in evaluation mode, or use a layer of sn_deploy.nn instead"
    else:
        mend = "make its forward work in evaluation mode on the CPU, in float64"
    return ForwardFailedError(f"its forward fails on a {shape} {str(dtype)[6:]} input: {_one_line(error)}", mend)

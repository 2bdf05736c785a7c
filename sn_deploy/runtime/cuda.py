"""The project's CUDA kernels without a runtime around them: plugins/include/sn_deploy/cuda.h through ctypes.

Addresses and streams are plain integers, so they may come from anywhere: ``tensor.data_ptr()`` and
``torch.cuda.current_stream().cuda_stream``, or CuPy's. Nothing here imports either.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from sn_deploy.errors import SnDeployError
from sn_deploy.runtime.native import SWITCH, cuda_library

Layout = Literal["linear", "channels last"]
Epilogue = Literal["none", "relu", "add relu"]

_DATA_TYPES: Final = {"float32": 0, "float16": 1, "bfloat16": 2}
_LAYOUTS: Final[Mapping[str, int]] = {"linear": 0, "channels last": 1}
_EPILOGUES: Final[Mapping[str, int]] = {"none": 0, "relu": 1, "add relu": 2}
_TACTICS: Final = {1: "one block", 2: "cluster", 3: "cooperative", 4: "two kernels", 5: "queue", 6: "large queue"}
_MOST_TACTICS: Final = 32
_TACTIC_STATUS: Final = 15  # core/problem.h's Status::kTactic
_DEVICE_STATUS: Final = 16

WORKSPACE_ALIGNMENT: Final = 128  # bytes


class TacticError(SnDeployError):
    """A tactic can't run a problem on the current device; the fallback can."""


@dataclass(frozen=True)
class Problem:
    """What is to be computed.

    Attributes:
        batch, channels, spatial: N, C and HW, the product of all spatial extents. For rank 2, (N, C), spatial is 1.
        rank_two: whether X is (N, C), and so has no IN part.
        dtype: of X, Y and the residual: float32, float16 or bfloat16.
        layout: "linear", (N, C, HW), or "channels last", (N, HW, stored_channels).
        stored_channels: of channels last: C and its padding. 0 for linear.
        epilogue: what follows: nothing, ReLU, or the residual's addition and ReLU.
        ddof, mean_in, mean_ln, var_in, var_ln: the operator's attributes.
    """

    batch: int
    channels: int
    spatial: int
    rank_two: bool = False
    dtype: str = "float32"
    layout: Layout = "linear"
    stored_channels: int = 0
    epilogue: Epilogue = "none"
    ddof: int = 1
    mean_in: float = 0.0
    mean_ln: float = 0.0
    var_in: float = 0.0
    var_ln: float = 0.0


@dataclass(frozen=True)
class Addresses:
    """Where the tensors are on the device. ``y`` may be ``x`` or ``residual``, which is 0 where nothing is added."""

    x: int
    scale: int
    bias: int
    mean_offset: int
    var_offset: int
    y: int
    residual: int = 0


@dataclass(frozen=True, order=True)
class Tactic:
    """One way to run a problem; ``code`` is the number of the C interface."""

    code: int

    @property
    def name(self) -> str:
        """For people: "one block", "cluster of 8", "cooperative, 16 blocks", "two kernels" or "queue, 4 ahead"."""
        kind, blocks = _TACTICS.get(self.code % 256, f"tactic {self.code % 256}"), self.code // 256
        if not blocks:
            return kind
        if kind == "cluster":
            return f"{kind} of {blocks}"
        return f"{kind}, {blocks} {'ahead' if 'queue' in kind else 'blocks'}"


class _Problem(ctypes.Structure):
    _fields_ = (
        *((name, ctypes.c_int64) for name in ("batch", "channels", "spatial", "stored_channels")),
        *((name, ctypes.c_int32) for name in ("has_in", "ddof", "data_type", "layout", "epilogue")),
        *((name, ctypes.c_float) for name in ("mean_in", "mean_ln", "var_in", "var_ln")),
    )


_TENSORS: Final = ("x", "scale", "bias", "mean_offset", "var_offset", "residual", "y")


class _Tensors(ctypes.Structure):
    _fields_ = tuple((name, ctypes.c_void_p) for name in _TENSORS)


class CudaKernels:
    """The kernels of one library.

    Args:
        library: path of libsn_deploy_cuda.so; None for the one that was built with the package.

    Raises:
        SnDeployError: there is no such library, or it isn't one of these.

    Every method works on the calling thread's current device, and raises SnDeployError with the reason where the
    problem is wrong or CUDA fails, and TacticError where the tactic can't run.
    """

    def __init__(self, library: str | os.PathLike[str] | None = None) -> None:
        path = Path(library) if library is not None else cuda_library()
        if path is None:
            raise SnDeployError(
                f"there is no libsn_deploy_cuda.so, or {SWITCH} is 0",
                where="CUDA kernels",
                mend="build it: pip install . -C cmake.define.SN_WITH_CUDA=ON",
            )
        try:
            self._library = ctypes.CDLL(str(path.resolve()))
            _declare(self._library)
        except (OSError, AttributeError) as error:
            raise SnDeployError(
                f"it can't be loaded: {error}", where=str(path), expected="libsn_deploy_cuda.so"
            ) from error

    def tactics(self, problem: Problem) -> list[Tactic]:
        """The tactics worth timing, best guesses first."""
        codes, count = (ctypes.c_int32 * _MOST_TACTICS)(), ctypes.c_int32()
        call = self._library.sn_cuda_list_tactics
        self._check(call(_problem(problem), codes, _MOST_TACTICS, ctypes.byref(count)))
        return [Tactic(code) for code in codes[: count.value]]

    def choose(self, problem: Problem) -> Tactic:
        """The tactic to use where nothing was timed."""
        return self._tactic(problem, self._library.sn_cuda_choose_tactic)

    def fallback(self, problem: Problem) -> Tactic:
        """The tactic that always runs. Needs no device."""
        return self._tactic(problem, self._library.sn_cuda_fallback_tactic)

    def workspace_bytes(self, problem: Problem, tactic: Tactic | None = None) -> int:
        """What one tactic needs on this device; without one, what suffices for all on every device."""
        size = ctypes.c_int64()
        if tactic is None:
            status = self._library.sn_cuda_workspace_bytes(_problem(problem), ctypes.byref(size))
        else:
            call = self._library.sn_cuda_tactic_workspace_bytes
            status = call(_problem(problem), tactic.code, ctypes.byref(size))
        self._check(status)
        return size.value

    def launch(
        self,
        problem: Problem,
        addresses: Addresses,
        tactic: Tactic,
        *,
        workspace: int = 0,
        workspace_bytes: int = 0,
        stream: int = 0,
    ) -> None:
        """Puts the operator on a stream, and doesn't wait for it. Can be captured into a CUDA graph.

        Args:
            workspace: address of memory on the device, a multiple of `WORKSPACE_ALIGNMENT`; its contents don't matter.
            stream: a cudaStream_t; 0 is the legacy default stream.
        """
        tensors = _Tensors(**{name: getattr(addresses, name) or None for name in _TENSORS})
        call = self._library.sn_cuda_launch
        status = call(
            _problem(problem), ctypes.byref(tensors), tactic.code, workspace or None, workspace_bytes, stream or None
        )
        self._check(status)

    def _tactic(self, problem: Problem, call: ctypes._NamedFuncPointer) -> Tactic:
        code = ctypes.c_int32()
        self._check(call(_problem(problem), ctypes.byref(code)))
        return Tactic(code.value)

    def _check(self, status: int) -> None:
        if status == 0:
            return
        reason = self._library.sn_cuda_reason(status).decode()
        if status == _DEVICE_STATUS:
            reason += f": {self._library.sn_cuda_device_error().decode()}"
        kind = TacticError if status == _TACTIC_STATUS else SnDeployError
        raise kind(reason, where="CUDA kernels")


def _declare(library: ctypes.CDLL) -> None:
    problem, number = ctypes.POINTER(_Problem), ctypes.c_int32
    out, size = ctypes.POINTER(ctypes.c_int32), ctypes.POINTER(ctypes.c_int64)
    pointer = ctypes.c_void_p
    arguments: dict[str, list[type]] = {
        "sn_cuda_list_tactics": [problem, out, number, out],
        "sn_cuda_choose_tactic": [problem, out],
        "sn_cuda_fallback_tactic": [problem, out],
        "sn_cuda_workspace_bytes": [problem, size],
        "sn_cuda_tactic_workspace_bytes": [problem, number, size],
        "sn_cuda_launch": [problem, ctypes.POINTER(_Tensors), number, pointer, ctypes.c_int64, pointer],
    }
    for name, types in arguments.items():
        getattr(library, name).argtypes = types
        getattr(library, name).restype = number
    library.sn_cuda_reason.argtypes, library.sn_cuda_reason.restype = [number], ctypes.c_char_p
    library.sn_cuda_device_error.argtypes, library.sn_cuda_device_error.restype = [], ctypes.c_char_p


def _number(numbers: Mapping[str, int], name: str, field: str) -> int:
    if name not in numbers:
        raise SnDeployError(f"{field} is {name!r}", where="CUDA kernels", expected=", ".join(numbers))
    return numbers[name]


def _problem(problem: Problem) -> ctypes._Pointer[_Problem]:
    made = _Problem(
        batch=problem.batch,
        channels=problem.channels,
        spatial=problem.spatial,
        stored_channels=problem.stored_channels,
        has_in=0 if problem.rank_two else 1,
        ddof=problem.ddof,
        data_type=_number(_DATA_TYPES, problem.dtype, "dtype"),
        layout=_number(_LAYOUTS, problem.layout, "layout"),
        epilogue=_number(_EPILOGUES, problem.epilogue, "epilogue"),
        mean_in=problem.mean_in,
        mean_ln=problem.mean_ln,
        var_in=problem.var_in,
        var_ln=problem.var_ln,
    )
    return ctypes.pointer(made)

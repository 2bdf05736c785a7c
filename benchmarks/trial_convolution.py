"""The trial of a 1 x 1 convolution with its SN layer in one kernel (plugins/cuda/convolution), through ctypes."""

from __future__ import annotations

import ctypes
import os
from dataclasses import astuple, dataclass
from typing import Final

from sn_deploy.errors import SnDeployError
from sn_deploy.runtime.cuda import _TENSORS, Addresses, CudaKernels, Problem, _problem, _Tensors

_MOST_TACTICS: Final = 64


@dataclass(frozen=True)
class Convolution:
    """What is convolved: X is (N, x_height, x_width, depth), and Y has every ``stride``-th position of it."""

    depth: int
    stride: int
    x_height: int
    x_width: int


@dataclass(frozen=True)
class ConvolutionTactic:
    """One way to do it; see ConvolutionTactic of plugins/cuda/convolution/plan.h."""

    kept: int
    parts: int
    sides: int
    warps: int
    tiles: int

    @property
    def name(self) -> str:
        """For people: "kept, 4 x 2 blocks of 7 warps, 2 tiles"."""
        kind = "kept" if self.kept else "streamed"
        return f"{kind}, {self.parts} x {self.sides} blocks of {self.warps} warps, {self.tiles} tiles"


class _Convolution(ctypes.Structure):
    _fields_ = tuple((name, ctypes.c_int64) for name in ("depth", "stride", "x_height", "x_width"))


class _Tactic(ctypes.Structure):
    _fields_ = tuple((name, ctypes.c_int32) for name in ("kept", "parts", "sides", "warps", "tiles"))


class ConvolutionKernels(CudaKernels):
    """libsn_deploy_convolution.so, which has what libsn_deploy_cuda.so has, too.

    Raises:
        SnDeployError: it isn't there, or isn't one.
    """

    def __init__(self, library: str | os.PathLike[str]) -> None:
        super().__init__(library)
        try:
            for name in ("sn_convolution_list_tactics", "sn_convolution_launch"):
                getattr(self._library, name).restype = ctypes.c_int32
        except AttributeError as error:
            raise SnDeployError(
                f"it lacks a function: {error}", where=str(library), expected="libsn_deploy_convolution.so"
            ) from error

    def convolution_tactics(self, problem: Problem, convolution: Convolution) -> list[ConvolutionTactic]:
        """Those worth timing. ``problem`` is of Y."""
        found, count = (_Tactic * _MOST_TACTICS)(), ctypes.c_int32()
        made = _Convolution(*astuple(convolution))
        call = self._library.sn_convolution_list_tactics
        self._check(call(_problem(problem), ctypes.byref(made), found, _MOST_TACTICS, ctypes.byref(count)))
        return [ConvolutionTactic(one.kept, one.parts, one.sides, one.warps, one.tiles) for one in found[: count.value]]

    def last_error(self) -> str:
        """What CUDA said when a call of this thread last failed."""
        return str(self._library.sn_cuda_device_error().decode())

    def launch_convolution(
        self,
        problem: Problem,
        addresses: Addresses,
        weight: int,
        convolution: Convolution,
        tactic: ConvolutionTactic,
        *,
        stream: int = 0,
    ) -> None:
        """Puts it on a stream, as `launch`.

        Args:
            problem: of Y, in float16 and channels last.
            addresses: ``x`` is the convolution's input.
            weight: address of W, (C, depth).

        Raises:
            TacticError: the tactic can't run there.
        """
        tensors = _Tensors(**{name: getattr(addresses, name) or None for name in _TENSORS})
        made, chosen = _Convolution(*astuple(convolution)), _Tactic(*astuple(tactic))
        status = self._library.sn_convolution_launch(
            _problem(problem),
            ctypes.byref(tensors),
            ctypes.c_void_p(weight),
            ctypes.byref(made),
            ctypes.byref(chosen),
            ctypes.c_void_p(stream or None),
        )
        self._check(status)

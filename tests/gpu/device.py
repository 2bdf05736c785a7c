"""The CUDA kernels on a GPU, or on the host's stand-in for one, with a case's tensors in their memory."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
import numpy.typing as npt
import torch

from sn_deploy.graph.op import SWITCH_NORM, SWITCH_NORM_ADD_RELU, SWITCH_NORM_RELU
from sn_deploy.runtime.cuda import WORKSPACE_ALIGNMENT, Addresses, CudaKernels, Epilogue, Layout, Problem, Tactic
from sn_deploy.runtime.native import cuda_library
from tests.cases import Case
from tests.fused_forms import residual_of

Array = npt.NDArray[Any]

EPILOGUES: Final[dict[str, Epilogue]] = {
    SWITCH_NORM: "none",
    SWITCH_NORM_RELU: "relu",
    SWITCH_NORM_ADD_RELU: "add relu",
}
GUARD: Final = 256  # bytes before and behind each buffer
POISON: Final = 0xFF  # NaN, in every dtype


@dataclass(frozen=True)
class Form:
    """How a case is given to the kernels.

    Attributes:
        op_type: SwitchNorm or one of its fused forms.
        layout: of X, Y and the residual.
        padded_to: channels last: C is stored padded to a multiple of this.
        shift: bytes that X, Y and the residual begin behind a multiple of 256.
        y: where Y is written.
    """

    op_type: str = SWITCH_NORM
    layout: Layout = "linear"
    padded_to: int = 1
    shift: int = 0
    y: Literal["elsewhere", "in x", "in the residual"] = "elsewhere"


class Buffer:
    """Bytes on a device between guards that nobody may write to."""

    def __init__(self, data: Array, device: torch.device, shift: int = 0) -> None:
        self._bytes, self._first = data.nbytes, GUARD + shift
        whole = np.full(2 * GUARD + shift + data.nbytes, POISON, np.uint8)
        whole[self._first : self._first + data.nbytes] = np.ascontiguousarray(data).view(np.uint8).reshape(-1)
        # Torch aligns to 64 bytes on the host, and to 512 on a GPU.
        room = torch.empty(whole.size + GUARD, dtype=torch.uint8, device=device)
        skip = -room.data_ptr() % GUARD
        self._memory = room[skip : skip + whole.size]
        self._memory.copy_(torch.from_numpy(whole))

    @property
    def address(self) -> int:
        """Of the first byte."""
        return int(self._memory.data_ptr()) + self._first

    def on_device(self) -> torch.Tensor:
        """Its bytes, without the guards, where they are."""
        return self._memory[self._first : self._first + self._bytes]

    def read(self, dtype: np.dtype[Any], shape: Sequence[int]) -> Array:
        """What is in it now; asserts that the guards are as they were."""
        whole = self._memory.cpu().numpy()
        last = self._first + self._bytes
        assert (whole[: self._first] == POISON).all(), "written before the buffer"
        assert (whole[last:] == POISON).all(), "written behind the buffer"
        return whole[self._first : last].view(dtype).reshape(shape)


class Device:
    """Where kernels run: `torch_device` has the memory, `kernels` the launchers."""

    def __init__(self, kernels: CudaKernels, torch_device: str) -> None:
        self.kernels, self.torch_device = kernels, torch.device(torch_device)

    @property
    def is_gpu(self) -> bool:
        """Whether it is more than the host's stand-in."""
        return self.torch_device.type == "cuda"

    def stream(self) -> int:
        """The stream that torch works on."""
        return int(torch.cuda.current_stream().cuda_stream) if self.is_gpu else 0

    def run(self, case: Case, form: Form, tactic: Tactic) -> Array:
        """Y, in X's shape; asserts that nothing was written beside it, and that its padding is 0."""
        return Prepared(self, case, form, tactic).run()

    def problem(self, case: Case, form: Form) -> Problem:
        """The case in the kernels' terms."""
        layer, shape = case.folded, case.x.shape
        spatial = int(np.prod(shape[2:], dtype=np.int64))
        return Problem(
            *(shape[0], shape[1], spatial),
            rank_two=len(shape) == 2,
            dtype=case.dtype,
            layout=form.layout,
            stored_channels=_stored(shape[1], form) if form.layout == "channels last" else 0,
            epilogue=EPILOGUES[form.op_type],
            ddof=layer.ddof,
            mean_in=layer.mean_in,
            mean_ln=layer.mean_ln,
            var_in=layer.var_in,
            var_ln=layer.var_ln,
        )


class Prepared:
    """A case's tensors on the device, with the arguments of its launch."""

    def __init__(self, device: Device, case: Case, form: Form, tactic: Tactic) -> None:
        self.device, self.case, self.form = device, case, form
        self.problem = device.problem(case, form)
        layer, on = case.folded, device.torch_device
        arrays = [layer.scale, layer.bias, layer.mean_offset, layer.var_offset]
        self._parameters = [Buffer(array.astype(np.float32), on) for array in arrays]
        x = stored_array(case.x, form)
        self._x = Buffer(x, on, form.shift)
        adds = form.op_type == SWITCH_NORM_ADD_RELU
        self._residual = Buffer(stored_array(residual_of(case), form), on, form.shift) if adds else None
        places = {"in x": self._x, "in the residual": self._residual}
        self._y = places.get(form.y) or Buffer(np.full(x.nbytes, POISON, np.uint8), on, form.shift)
        self._stored_shape = x.shape
        self.use_tactic(tactic)

    def use_tactic(self, tactic: Tactic) -> None:
        """Launches run another tactic, with a workspace of exactly its size, and forget what Y was."""
        self.tactic = tactic
        self.workspace_bytes = self.device.kernels.workspace_bytes(self.problem, tactic)
        self._workspace = Buffer(np.full(self.workspace_bytes, POISON, np.uint8), self.device.torch_device)
        assert self._workspace.address % WORKSPACE_ALIGNMENT == 0
        if self.form.y == "elsewhere":
            self.y_on_device().fill_(POISON)

    @property
    def workspace(self) -> int:
        """Its address."""
        return self._workspace.address

    def use_workspace_of(self, other: Prepared) -> None:
        """Shares another's workspace, which must be no smaller."""
        assert other.workspace_bytes >= self.workspace_bytes
        self._workspace = other._workspace

    def use_tensors_of(self, other: Prepared, *, swapped: bool) -> None:
        """Reads and writes where another of the same shape does; swapped: reads what that one writes, and writes where
        that one reads."""
        assert (self.form, self._stored_shape) == (other.form, other._stored_shape)
        self._x, self._y = (other._y, other._x) if swapped else (other._x, other._y)

    def x_on_device(self) -> torch.Tensor:
        """X's bytes."""
        return self._x.on_device()

    def y_on_device(self) -> torch.Tensor:
        """Y's bytes."""
        return self._y.on_device()

    @property
    def addresses(self) -> Addresses:
        """For `CudaKernels.launch`."""
        residual = self._residual.address if self._residual else 0
        parameters = [buffer.address for buffer in self._parameters]
        return Addresses(self._x.address, *parameters, y=self._y.address, residual=residual)

    def launch(self) -> None:
        """Puts it on torch's current stream."""
        self.device.kernels.launch(
            self.problem,
            self.addresses,
            self.tactic,
            workspace=self.workspace,
            workspace_bytes=self.workspace_bytes,
            stream=self.device.stream(),
        )

    def run(self) -> Array:
        """Launches once and gives Y."""
        self.launch()
        return self.y()

    def y(self) -> Array:
        """Y, in X's shape."""
        self._workspace.read(np.dtype(np.uint8), [-1])
        return plain_array(self._y.read(self.case.x.dtype, self._stored_shape), self.case.x.shape, self.form)


def _stored(channels: int, form: Form) -> int:
    return -(-channels // form.padded_to) * form.padded_to


def stored_array(x: Array, form: Form) -> Array:
    """(N, C, *spatial) in the form's layout; its padding is NaN, which must not be computed with."""
    if form.layout == "linear":
        return x
    spatial = int(np.prod(x.shape[2:], dtype=np.int64))
    rows = np.moveaxis(x.reshape(*x.shape[:2], spatial), 1, 2)  # (N, HW, C)
    stored = np.full((*rows.shape[:2], _stored(x.shape[1], form)), np.nan, x.dtype)
    stored[..., : x.shape[1]] = rows
    return stored


def plain_array(stored: Array, shape: tuple[int, ...], form: Form) -> Array:
    """What `stored_array` was made of; asserts that its padding is 0."""
    if form.layout == "linear":
        return stored
    padding = stored[..., shape[1] :].astype(np.float32)
    assert (padding == 0).all(), "the padding of Y is not 0"
    return np.moveaxis(stored[..., : shape[1]], 2, 1).reshape(shape)


def forms_of(case: Case, op_type: str = SWITCH_NORM) -> list[Form]:
    """Every layout that the kernels have for the case."""
    plain = [Form(op_type)]
    if case.x.ndim == 2:
        return plain
    return [*plain, Form(op_type, "channels last"), Form(op_type, "channels last", padded_to=8)]


def built(name: str) -> Path | None:
    """A file of the CMake build folder of ``plugins/`` that SN_PLUGIN_BUILD names, or None."""
    build = os.environ.get("SN_PLUGIN_BUILD")
    return Path(build, name) if build and Path(build, name).is_file() else None


def library_of(kind: str) -> Path | None:
    """The library with the kernels ("cuda"), or their stand-in on the host ("host"); None where it wasn't built."""
    if kind == "host":
        return built("cuda/tests/libsn_deploy_cuda_host.so")
    return built("cuda/libsn_deploy_cuda.so") or cuda_library()

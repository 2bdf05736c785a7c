"""Memory of outputs whose size TensorRT knows only while it runs: what NonZero and NMS give."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

from sn_deploy.errors import SnDeployError, first_line
from sn_deploy.runtime.tensors import TensorInfo
from sn_deploy.runtime.trt.library import tensorrt
from sn_deploy.runtime.trt.types import torch_dtype

Allocate = Callable[[int], Any]  # bytes -> a torch tensor of that many on the GPU


class OutputMemory:
    """What one output is written to, made anew for each run, since the caller keeps what the run before gave.

    TensorRT asks for memory, often more than it needs, and tells the shape later; both before its enqueue returns.
    Which thread it asks from is not said. No exception may reach it, so the reason of a failure is kept.
    """

    def __init__(self, info: TensorInfo) -> None:
        self._info = info
        self._allocate: Allocate | None = None
        self._memory: Any = None
        self._shape: tuple[int, ...] | None = None
        self._error: Exception | None = None

    def begin(self, allocate: Allocate) -> None:
        """A run is about to ask."""
        self._allocate, self._memory, self._shape, self._error = allocate, None, None, None

    def reallocate(self, size: int, alignment: int) -> int:
        """The address of ``size`` bytes; 0 where there are none."""
        try:
            assert self._allocate is not None
            # More than was asked for, so that an address of any alignment is in it. torch's own are multiples of 512.
            memory = self._allocate(size + alignment)
            start = -memory.data_ptr() % alignment if alignment else 0
            self._memory = memory[start : start + size]
            return int(self._memory.data_ptr())
        except Exception as error:  # noqa: BLE001 - the reason is told by `check`
            self._error = error
            return 0

    def notify(self, shape: tuple[int, ...]) -> None:
        """The output has this shape."""
        self._shape = shape

    def check(self, where: str) -> None:
        """Says why there was no memory.

        Raises:
            SnDeployError: there was none.
        """
        if self._error is not None:
            raise SnDeployError(
                f"there is no memory for output {self._info.name}: {first_line(self._error)}", where=where
            ) from self._error

    def take(self, where: str) -> Any:
        """The output as a torch tensor; what is left of its memory goes with it.

        Raises:
            SnDeployError: TensorRT has told no shape, or asked for less memory than that shape needs.
        """
        memory, shape = self._memory, self._shape
        self._memory = None
        if memory is None or shape is None or any(size < 0 for size in shape):
            raise SnDeployError(f"TensorRT has told no shape of output {self._info.name}", where=where)
        needed = math.prod(shape) * self._info.dtype.itemsize
        if needed > memory.numel():
            raise SnDeployError(
                f"TensorRT has asked for {memory.numel()} bytes for output {self._info.name}, and tells the shape "
                f"{shape}, which needs {needed}",
                where=where,
            )
        return memory[:needed].view(torch_dtype(self._info.dtype)).reshape(shape)


def output_allocator(memory: OutputMemory) -> Any:
    """TensorRT's IOutputAllocator that asks ``memory``. It must outlive the context that it is given to."""
    return _allocator_class()(memory)


@functools.cache
def _allocator_class() -> Any:
    # Once: a class is in cycles with itself, so whatever it holds would be there until the collector comes.
    trt = tensorrt()

    class Allocator(trt.IOutputAllocator):  # type: ignore[misc, name-defined]
        def __init__(self, memory: OutputMemory) -> None:
            trt.IOutputAllocator.__init__(self)
            self._memory = memory

        def reallocate_output_async(
            self, tensor_name: str, current: int | None, size: int, alignment: int, stream: int
        ) -> int:
            return self._memory.reallocate(size, alignment)

        def reallocate_output(self, tensor_name: str, current: int | None, size: int, alignment: int) -> int:
            # Bindings that do not know the other ask this one.
            return self._memory.reallocate(size, alignment)

        def notify_shape(self, tensor_name: str, shape: Any) -> None:
            self._memory.notify(tuple(shape))

    return Allocator

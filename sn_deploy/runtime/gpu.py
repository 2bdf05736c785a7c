"""The NVIDIA GPU of this process, asked of the driver alone: no CUDA runtime, torch or TensorRT is needed.

TensorRT's builder and runtime must not be made where there is none: the one fails with a message that says nothing, and
the other takes the process down.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Any, Final

from sn_deploy.errors import SnDeployError

_DRIVER: Final = "libcuda.so.1"
_NO_DEVICE: Final = 100  # CUDA_ERROR_NO_DEVICE
_COMPUTE_CAPABILITY: Final = (75, 76)  # CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR, _MINOR
_MIB: Final = 1 << 20


@dataclass(frozen=True)
class Gpu:
    """A GPU that the driver offers.

    Attributes:
        name: ``NVIDIA H200``.
        compute_capability: ``9.0``.
        memory_mib: of all its memory.
        driver_cuda: the newest CUDA version that the driver knows, ``13.0``.
    """

    name: str
    compute_capability: str
    memory_mib: int
    driver_cuda: str

    def as_json(self) -> dict[str, Any]:
        """Its attributes by name."""
        return asdict(self)

    def __str__(self) -> str:
        return f"{self.name} (compute capability {self.compute_capability})"


def find_gpu(index: int = 0) -> Gpu | str:
    """The GPU with that index among those that CUDA_VISIBLE_DEVICES leaves, or why there is none, as a clause."""
    return _find(index)


@contextlib.contextmanager
def on_gpu(index: int) -> Iterator[None]:
    """Within it a GPU is the thread's current one, for TensorRT and everything else that uses CUDA in this process.

    Args:
        index: as `find_gpu` has it, of a GPU that it found.

    Raises:
        SnDeployError: CUDA can't use it.
    """
    driver, context = _primary_context(index)
    _check(driver, driver.cuCtxPushCurrent_v2(context), index)
    try:
        yield
    finally:
        driver.cuCtxPopCurrent_v2(ctypes.byref(ctypes.c_void_p()))


@functools.cache
def _primary_context(index: int) -> tuple[Any, ctypes.c_void_p]:
    """The driver, and the context that CUDA's runtime shares. It is kept: libraries hold what they made in it."""
    driver = ctypes.CDLL(_DRIVER)
    device, context = ctypes.c_int(), ctypes.c_void_p()
    _check(driver, driver.cuDeviceGet(ctypes.byref(device), index), index)
    _check(driver, driver.cuDevicePrimaryCtxRetain(ctypes.byref(context), device), index)
    return driver, context


def _check(driver: Any, status: int, index: int) -> None:
    if status:
        raise SnDeployError(f"GPU {index} can't be used: {_reason(driver, status)}", where="CUDA")


@functools.cache
def _find(index: int) -> Gpu | str:
    try:
        driver = ctypes.CDLL(_DRIVER)
    except OSError:
        return f"there is no NVIDIA driver here ({_DRIVER} was not found)"
    status = driver.cuInit(0)
    if status == _NO_DEVICE:
        return "the NVIDIA driver finds no GPU"
    if status:
        return f"the NVIDIA driver can't be used: {_reason(driver, status)}"
    count = ctypes.c_int()
    status = driver.cuDeviceGetCount(ctypes.byref(count))
    if status or not 0 <= index < count.value:
        return f"there are {count.value} GPUs, and number {index} was asked for (they count from 0)"
    return _describe(driver, index)


def _describe(driver: Any, index: int) -> Gpu | str:
    device, name, memory = ctypes.c_int(), ctypes.create_string_buffer(256), ctypes.c_size_t()
    version, major, minor = ctypes.c_int(), ctypes.c_int(), ctypes.c_int()
    calls: tuple[Callable[[], int], ...] = (
        lambda: driver.cuDeviceGet(ctypes.byref(device), index),
        lambda: driver.cuDeviceGetName(name, len(name), device),
        lambda: driver.cuDeviceTotalMem_v2(ctypes.byref(memory), device),
        lambda: driver.cuDeviceGetAttribute(ctypes.byref(major), _COMPUTE_CAPABILITY[0], device),
        lambda: driver.cuDeviceGetAttribute(ctypes.byref(minor), _COMPUTE_CAPABILITY[1], device),
        lambda: driver.cuDriverGetVersion(ctypes.byref(version)),
    )
    for call in calls:
        status = call()
        if status:
            return f"the NVIDIA driver can't describe GPU {index}: {_reason(driver, status)}"
    return Gpu(
        name=name.value.decode(errors="replace"),
        compute_capability=f"{major.value}.{minor.value}",
        memory_mib=memory.value // _MIB,
        driver_cuda=f"{version.value // 1000}.{version.value % 1000 // 10}",
    )


def _reason(driver: Any, status: int) -> str:
    text = ctypes.c_char_p()
    if driver.cuGetErrorString(status, ctypes.byref(text)) or text.value is None:
        return f"error {status}"
    return text.value.decode(errors="replace")

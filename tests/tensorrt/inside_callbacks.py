"""What TensorRT calls back, called by C++ through the interfaces of TensorRT's own headers, from threads that Python
doesn't know: the real bindings stand between the two. Run by `test_build.py`, in a process for each version.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorrt as trt
import torch

from sn_deploy.engine.heard import Heard
from sn_deploy.errors import SnDeployError
from sn_deploy.runtime.tensors import TensorInfo
from sn_deploy.runtime.trt import library, session
from sn_deploy.runtime.trt.allocator import OutputMemory, output_allocator
from sn_deploy.runtime.trt.progress import Phase, Watch, monitor

MAJOR = int(trt.__version__.split(".")[0])
LIBRARY = Path(os.environ["SN_PLUGIN_BUILD"]) / "tensorrt" / "tests" / f"libsn_callbacks{MAJOR}.so"
BOXES = TensorInfo("boxes", (None, 4), np.dtype(np.float32))


@pytest.fixture(scope="module")
def cpp() -> ctypes.CDLL:
    loaded = ctypes.CDLL(str(LIBRARY))
    loaded.sn_reallocate.restype = ctypes.c_void_p
    loaded.sn_reallocate.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_uint64, ctypes.c_uint64]
    loaded.sn_notify_shape.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p, ctypes.c_int32]
    loaded.sn_progress.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_char_p, ctypes.c_int32]
    loaded.sn_profile.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_float]
    loaded.sn_log.argtypes = [ctypes.c_void_p, ctypes.c_int32, ctypes.c_char_p]
    return loaded


def address(of: Any) -> int:
    """Of the C++ object behind one of the bindings' (pybind11 keeps it behind the object's head)."""
    return ctypes.c_void_p.from_address(id(of) + object.__basicsize__).value or 0


def shape(*extents: int) -> Any:
    return (ctypes.c_int64 * len(extents))(*extents)


def test_an_output_gets_the_memory_and_the_shape_that_tensorrt_tells(cpp: ctypes.CDLL) -> None:
    memory = OutputMemory(BOXES)
    allocator = output_allocator(memory)
    for count in (5, 0, 1000):
        memory.begin(lambda size: torch.full((size,), 255, dtype=torch.uint8))
        given = cpp.sn_reallocate(address(allocator), b"boxes", 16 * count + 512, 256)
        assert given
        assert given % 256 == 0
        written = np.arange(4 * count, dtype=np.float32)
        ctypes.memmove(given, written.ctypes.data, written.nbytes)
        cpp.sn_notify_shape(address(allocator), b"boxes", shape(count, 4), 2)
        boxes = memory.take("net.engine")
        assert boxes.dtype == torch.float32
        np.testing.assert_array_equal(boxes.numpy(), written.reshape(count, 4))


def test_no_memory_is_a_null_pointer_to_tensorrt_and_a_reason_to_us(
    cpp: ctypes.CDLL, capfd: pytest.CaptureFixture[str]
) -> None:
    def fail(size: int) -> Any:
        raise torch.OutOfMemoryError(f"CUDA out of memory. Tried to allocate {size} bytes")

    memory = OutputMemory(BOXES)
    memory.begin(fail)
    assert cpp.sn_reallocate(address(output_allocator(memory)), b"boxes", 16, 256) is None
    assert capfd.readouterr().err == ""  # the binding would print what reaches it
    with pytest.raises(SnDeployError, match="no memory for output boxes: CUDA out of memory"):
        memory.check("net.engine")


def test_shapes_that_are_not_told_or_do_not_fit(cpp: ctypes.CDLL) -> None:
    memory = OutputMemory(BOXES)
    allocator = output_allocator(memory)
    memory.begin(lambda size: torch.empty(size, dtype=torch.uint8))
    cpp.sn_reallocate(address(allocator), b"boxes", 16, 0)
    with pytest.raises(SnDeployError, match="has told no shape of output boxes"):
        memory.take("net.engine")
    cpp.sn_reallocate(address(allocator), b"boxes", 16, 0)
    cpp.sn_notify_shape(address(allocator), b"boxes", shape(2, 4), 2)
    with pytest.raises(SnDeployError, match=r"asked for 16 bytes for output boxes, .* \(2, 4\), which needs 32"):
        memory.take("net.engine")


def test_a_build_s_progress_reaches_us_and_our_answer_tensorrt(cpp: ctypes.CDLL) -> None:
    seen: list[Phase] = []
    told = monitor(Watch(seen.append, lambda: len(seen) > 3))
    assert cpp.sn_progress(address(told), b"Timing", b"Building", 10) == 2
    assert [(phase.name, phase.parent, phase.done, phase.finished) for phase in seen] == [
        ("Timing", "Building", 0, False),
        ("Timing", "Building", 1, False),
        ("Timing", "Building", 2, False),
        ("Timing", "Building", 3, False),
        ("Timing", "Building", 3, True),
    ]
    assert cpp.sn_progress(address(monitor(Watch())), b"Outermost", None, 4) == 4


def test_what_a_callback_raises_stops_the_build_and_does_not_end_the_process(cpp: ctypes.CDLL) -> None:
    def fail(phase: Phase) -> None:
        raise KeyboardInterrupt

    watch = Watch(fail)
    assert cpp.sn_progress(address(monitor(watch)), b"Timing", None, 10) == 0
    with pytest.raises(KeyboardInterrupt):
        watch.check()


@pytest.fixture
def messages() -> Iterator[library.Messages]:
    library.MESSAGES.clear()
    yield library.MESSAGES
    library.MESSAGES.clear()


def test_layer_times_and_messages(cpp: ctypes.CDLL, messages: library.Messages) -> None:
    times: dict[str, list[float]] = {"sn1": []}
    profiler = session._profiler(times)
    cpp.sn_profile(address(profiler), b"sn1", 0.5)
    cpp.sn_profile(address(profiler), b"unknown", 0.5)  # an exception, which must not get further
    assert times == {"sn1": [0.5]}
    severity = trt.ILogger.Severity
    for kind, text in ((severity.ERROR, b"first"), (severity.INFO, b"nothing"), (severity.WARNING, b"careful")):
        cpp.sn_log(address(library.logger()), int(kind), text)
    assert messages.errors() == ["first"]
    assert messages.reason() == "first"


def test_listeners_are_told_in_tensorrt_s_own_thread(cpp: ctypes.CDLL, messages: library.Messages) -> None:
    severity, told, heard = trt.ILogger.Severity, [], Heard()

    def fail(kind: str, message: str) -> None:
        told.append((kind, message))
        raise KeyboardInterrupt  # must not get further

    def log() -> None:
        for kind, text in ((severity.VERBOSE, b"detail"), (severity.INFO, b"fact"), (severity.WARNING, b"a\n  doubt")):
            cpp.sn_log(address(library.logger()), int(kind), text)

    log()
    with messages.told_to(heard, fail, None):
        log()
        log()
    log()
    assert told == [("INFO", "fact"), ("WARNING", "a doubt")] * 2
    assert heard.notes() == ["TensorRT warning: a doubt"]

"""torch with the host in the place of a GPU: streams do at once what they are given, graphs keep it for later."""

from __future__ import annotations

import contextlib
import inspect
import sys
import time
import types
from collections.abc import Callable, Iterator
from typing import Any, ClassVar

import pytest
import torch


class Stream:
    """A stream; `order` is what was asked of all streams, by name."""

    order: ClassVar[list[tuple[str, ...]]] = []
    _count = 0

    def __init__(self, device: Any = None) -> None:
        Stream._count += 1
        self.cuda_stream, self.name = Stream._count, f"stream {Stream._count}"

    def wait_stream(self, other: Stream) -> None:
        Stream.order.append((self.name, "waits for", other.name))

    def synchronize(self) -> None:
        Stream.order.append((self.name, "synchronized"))


class Event:
    """An event; `reached` False is a GPU that is still at what lies before it."""

    reached: ClassVar[bool] = True

    def __init__(self, enable_timing: bool = False) -> None:
        self._timed, self._time = enable_timing, 0.0

    def record(self, stream: Stream | None = None) -> None:
        self._time = time.perf_counter()

    def query(self) -> bool:
        assert self._time
        assert CUDAGraph.capturing is None
        return Event.reached

    def synchronize(self) -> None:
        assert self._time

    def elapsed_time(self, end: Event) -> float:
        assert self._timed
        assert end._timed
        return (end._time - self._time) * 1e3


class CUDAGraph:
    """What was enqueued while it was captured."""

    capturing: CUDAGraph | None = None

    def __init__(self) -> None:
        self.work: list[Callable[[], None]] = []

    def capture_begin(self, pool: Any = None, capture_error_mode: str = "global") -> None:
        assert capture_error_mode in ("global", "thread_local", "relaxed")
        assert CUDAGraph.capturing is None, "two captures at a time"
        CUDAGraph.capturing = self

    def capture_end(self) -> None:
        assert CUDAGraph.capturing is self
        CUDAGraph.capturing = None

    def replay(self) -> None:
        assert self.work, "an empty graph"
        for one in self.work:
            one()


class Cuda(types.ModuleType):
    """torch.cuda, as far as engines use it."""

    Stream, Event, CUDAGraph = Stream, Event, CUDAGraph

    def __init__(self) -> None:
        super().__init__("torch.cuda")
        self.caller = Stream()  # the stream that is current outside
        self.current = self.caller

    def is_available(self) -> bool:
        return True

    def synchronize(self, device: Any = None) -> None:
        return

    def current_stream(self, device: Any = None) -> Stream:
        return self.current

    def is_current_stream_capturing(self) -> bool:
        return CUDAGraph.capturing is not None

    @contextlib.contextmanager
    def device(self, index: Any) -> Iterator[None]:
        yield

    @contextlib.contextmanager
    def stream(self, stream: Stream) -> Iterator[None]:
        before, self.current = self.current, stream
        yield
        self.current = before

    def _sleep(self, cycles: int) -> None:
        return


class Torch(types.ModuleType):
    """torch whose device "cuda" is the host."""

    def __init__(self) -> None:
        super().__init__("torch")
        self.cuda = Cuda()
        self.allocated_on: list[str] = []

    def empty(self, *shape: Any, **options: Any) -> torch.Tensor:
        """Notes the stream that the memory is of."""
        self.allocated_on.append(self.cuda.current.name)
        return torch.empty(*shape, **options)

    def device(self, kind: str, index: int = 0) -> torch.device:
        assert kind == "cuda"
        return torch.device("cpu")

    def __getattr__(self, name: str) -> Any:
        return getattr(torch, name)


def use_host_as_gpu(monkeypatch: pytest.MonkeyPatch) -> Torch:
    """Whoever imports torch from now on gets the host for a GPU."""
    made = Torch()
    # As the real ones have them.
    for own, real in ((Stream, torch.cuda.Stream), (Event, torch.cuda.Event), (CUDAGraph, torch.cuda.CUDAGraph)):
        known = [*dir(real), "work", "capturing", "order", "name", "cuda_stream", "reached"]
        assert all(name in known for name in vars(own) if not name.startswith("_"))
    assert "capture_error_mode" in inspect.signature(torch.cuda.CUDAGraph.capture_begin).parameters
    monkeypatch.setitem(sys.modules, "torch", made)
    Stream.order.clear()
    return made

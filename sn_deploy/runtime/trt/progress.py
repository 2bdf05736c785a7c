"""What the builder tells of its progress, and how it is stopped: TensorRT's own thread must see no exception."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import FrameType
from typing import Any

from sn_deploy.runtime.trt.library import tensorrt
from sn_deploy.signals import ending_signals


@dataclass(frozen=True)
class Phase:
    """A phase of a build, as TensorRT names it.

    Attributes:
        parent: the phase that it is a part of; None for one of the outermost.
        done, steps: how many of its steps are done.
        finished: whether it is over: then all of them may not have been needed.
    """

    name: str
    parent: str | None
    done: int
    steps: int
    finished: bool = False


OnProgress = Callable[[Phase], None]


class Watch:
    """Stands between TensorRT's monitor and who wants to see it; any thread may call.

    Args:
        on_progress: told of each start, step and end. What it raises stops the build and is raised by `check`.
        stopped: asked at each step whether the build is to end.
    """

    def __init__(self, on_progress: OnProgress | None = None, stopped: Callable[[], bool] = lambda: False) -> None:
        self._on_progress, self._stopped = on_progress, stopped
        self._lock = threading.Lock()
        self._phases: dict[str, Phase] = {}
        self._error: BaseException | None = None

    def start(self, name: str, parent: str | None, steps: int) -> None:
        """A phase begins."""
        self._tell(Phase(name, parent, 0, steps))

    def step(self, name: str, step: int) -> bool:
        """A step is done, they count from 0; whether the build is to go on."""
        known = self._phases.get(name, Phase(name, None, 0, step + 1))
        self._tell(Phase(name, known.parent, step + 1, known.steps))
        return self._error is None and not self._stopped()

    def finish(self, name: str) -> None:
        """A phase is over."""
        known = self._phases.get(name, Phase(name, None, 0, 1))
        self._tell(Phase(name, known.parent, known.done, known.steps, finished=True))

    def check(self) -> None:
        """Raises what was raised meanwhile, and KeyboardInterrupt if the build was stopped."""
        if self._error is not None:
            raise self._error
        if self._stopped():
            raise KeyboardInterrupt

    def _tell(self, phase: Phase) -> None:
        try:
            with self._lock:
                self._phases[phase.name] = phase
                if self._on_progress is not None and self._error is None:
                    self._on_progress(phase)
        except BaseException as error:  # noqa: BLE001
            # Through TensorRT's C++ it would end the process.
            self._error = error


def monitor(watch: Watch) -> Any:
    """TensorRT's IProgressMonitor that tells the watch."""
    trt = tensorrt()

    class Monitor(trt.IProgressMonitor):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            trt.IProgressMonitor.__init__(self)

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
            watch.start(phase_name, parent_phase, num_steps)

        def step_complete(self, phase_name: str, step: int) -> bool:
            return watch.step(phase_name, step)

        def phase_finish(self, phase_name: str) -> None:
            watch.finish(phase_name)

    return Monitor()


@contextlib.contextmanager
def interrupts() -> Iterator[Callable[[], bool]]:
    """Within it Ctrl-C raises nothing; the function that it yields tells, in any thread, whether it was pressed.

    Python runs a signal's handler only where it runs Python code, which during a build may be another thread's; the
    pipe is written to by C, at once. Not in the main thread, or under a handler that isn't Python's own, nothing
    changes. Other signals that somebody makes exceptions of end the process at once: TensorRT must see none.
    """
    with _ending_at_once():
        usual = signal.getsignal(signal.SIGINT)
        if threading.current_thread() is not threading.main_thread() or usual is not signal.default_int_handler:
            yield lambda: False
            return
        reader, writer = os.pipe()
        pressed = threading.Event()
        for end in (reader, writer):
            os.set_blocking(end, False)

        def note(number: int, frame: FrameType | None) -> None:
            pressed.set()

        def was_pressed() -> bool:
            with contextlib.suppress(BlockingIOError):
                if signal.SIGINT in os.read(reader, 64):
                    pressed.set()
            return pressed.is_set()

        before = signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
        signal.signal(signal.SIGINT, note)
        try:
            yield was_pressed
        finally:
            signal.signal(signal.SIGINT, usual)
            signal.set_wakeup_fd(before)
            os.close(reader)
            os.close(writer)


@contextlib.contextmanager
def _ending_at_once() -> Iterator[None]:
    raising = {number: handler for number in ending_signals() if callable(handler := signal.getsignal(number))}
    for number in raising:
        signal.signal(number, signal.SIG_DFL)
    try:
        yield
    finally:
        for number, handler in raising.items():
            signal.signal(number, handler)

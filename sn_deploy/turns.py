"""Models run by several threads at once, or one export: torch.export changes what all threads compute by.

While it traces, oneDNN is off and the default type may be another, for the whole process. Models that ran beside it
gave other roundings, which a comparison to the last bit, of the parts of a check say, shows.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator


class _Turns:
    """Who runs what. A thread may run models, and export, within its own export or its own models."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._running: dict[int, int] = {}  # thread -> how deep
        self._exporter: int | None = None
        self._depth = self._waiting = 0

    def begin_run(self) -> None:
        own = threading.get_ident()
        with self._changed:
            if own not in self._running and self._exporter != own:
                # One that waits goes first, or a row of checks would keep it for ever.
                self._changed.wait_for(lambda: self._exporter is None and not self._waiting)
            self._running[own] = self._running.get(own, 0) + 1

    def end_run(self) -> None:
        own = threading.get_ident()
        with self._changed:
            self._running[own] -= 1
            if not self._running[own]:
                del self._running[own]
            self._changed.notify_all()

    def begin_export(self) -> None:
        own = threading.get_ident()
        with self._changed:
            self._waiting += 1
            try:
                self._changed.wait_for(lambda: self._exporter in (None, own) and self._running.keys() <= {own})
            finally:
                self._waiting -= 1
            self._exporter, self._depth = own, self._depth + 1

    def end_export(self) -> None:
        with self._changed:
            self._depth -= 1
            self._exporter = self._exporter if self._depth else None
            self._changed.notify_all()


_TURNS = _Turns()


@contextlib.contextmanager
def running_a_model() -> Iterator[None]:
    """Waits for exports of other threads to end, and makes those that come wait."""
    _TURNS.begin_run()
    try:
        yield
    finally:
        _TURNS.end_run()


@contextlib.contextmanager
def exporting() -> Iterator[None]:
    """Waits for exports and models of other threads to end, and makes those that come wait."""
    _TURNS.begin_export()
    try:
        yield
    finally:
        _TURNS.end_export()

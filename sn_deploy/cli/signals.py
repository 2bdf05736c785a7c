"""SIGTERM and SIGHUP end a command as Ctrl-C does: drafts are removed, and processes that it has started are ended.

``timeout``, a CI that cancels its job, a container or a terminal that is closed send one of them to the command alone.
"""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator
from types import FrameType
from typing import Final

from sn_deploy.signals import ending_signals

_INTERRUPTED: Final = 130  # by SIGINT, as shells say it


class _EndedError(KeyboardInterrupt):
    """Whatever cleans up at Ctrl-C does so at this, too."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.exit_code = 128 + number


@contextlib.contextmanager
def signals_heeded() -> Iterator[None]:
    """Within it these signals are raised as `KeyboardInterrupt`. What `nohup` or a program around us has set stays."""
    numbers = [number for number in ending_signals() if signal.getsignal(number) is signal.SIG_DFL]
    for number in numbers:
        signal.signal(number, _end)
    try:
        yield
    finally:
        for number in numbers:
            signal.signal(number, signal.SIG_DFL)


def exit_code_of(error: BaseException) -> int:
    """That of a command that was interrupted; click raises an exception of its own from what was raised."""
    cause = error.__cause__ if error.__cause__ is not None else error
    return cause.exit_code if isinstance(cause, _EndedError) else _INTERRUPTED


def _end(number: int, frame: FrameType | None) -> None:
    signal.signal(number, signal.SIG_DFL)  # a second one ends it at once
    raise _EndedError(number)

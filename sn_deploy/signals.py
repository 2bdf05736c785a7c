"""The signals by which others end a program: ``timeout``, a CI that cancels its job, a terminal that is closed."""

from __future__ import annotations

import signal
import threading
from typing import Final

_ENDS: Final = ("SIGTERM", "SIGHUP")


def ending_signals() -> list[signal.Signals]:
    """Those that this system has, as far as this thread may set their handlers: the main thread alone may."""
    if threading.current_thread() is not threading.main_thread():
        return []
    return [getattr(signal, name) for name in _ENDS if hasattr(signal, name)]

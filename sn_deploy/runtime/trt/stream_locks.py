"""One lock for each CUDA stream, shared by all sessions whose stream that is.

torch has 32 streams a device and gives them in turn, so the 33rd session has that of the first. What one thread gives a
stream while another captures it would get into the graph, or end the capture.
"""

from __future__ import annotations

import threading
import weakref
from typing import Any, Final

_LOCKS: Final[weakref.WeakValueDictionary[int, threading.Lock]] = weakref.WeakValueDictionary()
_FINDING: Final = threading.Lock()


def lock_of(stream: Any) -> threading.Lock:
    """The lock of a torch stream; there as long as somebody keeps it."""
    with _FINDING:
        lock = _LOCKS.get(stream.cuda_stream)
        if lock is None:
            lock = _LOCKS[stream.cuda_stream] = threading.Lock()
        return lock

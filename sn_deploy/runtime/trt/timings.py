"""TensorRT's timings of kernels in a file, from one build to the next.

The file is read and written under a lock (Polygraphy's, so that its own tools wait, too), and replaced as a whole. One
that TensorRT doesn't take is never written over: it may be of another GPU, or another program's.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from sn_deploy.atomic import atomic_output
from sn_deploy.errors import SnDeployError
from sn_deploy.runtime.trt.library import MESSAGES

# The lock of a file holds back other processes only.
_ONE: Final = threading.Lock()


def load_timings(config: Any, path: Path) -> bool:
    """Gives a builder's config the timings of a file; whether they, and those of the build, can be kept in it.

    A file that isn't there, or is empty, holds none yet. Where TensorRT doesn't take the file the config is as before.

    Args:
        config: TensorRT's IBuilderConfig, with an empty timing cache.

    Raises:
        SnDeployError: the file or its lock can't be opened.
    """
    try:
        with _locked(path):
            content = _content(path)
    except OSError as error:
        raise SnDeployError(
            f"the timings can't be read: {error.strerror or error}",
            where=str(error.filename or path),
            mend="name another file with --timing-cache, or do without: --no-timing-cache",
        ) from error
    if not content:
        return True
    empty = config.get_timing_cache()
    # What can't be read is an error in TensorRT's log, whatever the calls return.
    MESSAGES.clear()
    cache = config.create_timing_cache(content)
    if cache is not None and config.set_timing_cache(cache, ignore_mismatch=False) and not MESSAGES.errors():
        return True
    config.set_timing_cache(empty, ignore_mismatch=False)
    return False


def save_timings(config: Any, path: Path) -> str | None:
    """Puts what a config has timed into the file, beside what others have put there meanwhile.

    Returns:
        Why that couldn't be done, as a sentence: an engine is no worse without.
    """
    made = config.get_timing_cache()
    try:
        with _locked(path):
            content = _content(path)
            there = config.create_timing_cache(content) if content else None
            if content and (there is None or not made.combine(there, ignore_mismatch=True)):
                return f"the timings weren't kept: {path} was replaced by what TensorRT doesn't take"
            with made.serialize() as buffer, atomic_output(path) as temporary:
                temporary.write_bytes(buffer)
    except OSError as error:
        return f"the timings weren't kept: {error.filename or path}: {error.strerror or error}"
    except SnDeployError as error:
        return f"the timings weren't kept: {error}"
    return None


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return b""


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    lock = importlib.import_module("polygraphy.util").LockFile
    with _ONE, lock(os.fspath(path)):
        yield

"""TensorRT's Python module and what it logs."""

from __future__ import annotations

import collections
import contextlib
import functools
import importlib
import operator
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

from sn_deploy.errors import SnDeployError, first_line
from sn_deploy.runtime.gpu import Gpu, find_gpu

MAJORS: Final = (10, 11)
_OLDEST: Final = (10, 6)
# What is kept of the log: the end of it is the reason of a failure.
_KEPT: Final = 200
_SEVERITIES: Final = ("INTERNAL_ERROR", "ERROR", "WARNING")
_TOLD: Final = (*_SEVERITIES, "INFO")

# Given a severity by TensorRT's name for it, and a message in one line.
OnLog = Callable[[str, str], None]


def tensorrt() -> Any:
    """The module ``tensorrt``.

    Raises:
        SnDeployError: it isn't installed, can't be loaded, or is of a version that isn't supported.
    """
    try:
        trt = importlib.import_module("tensorrt")
    except ModuleNotFoundError as error:
        if error.name != "tensorrt":
            raise _broken(error) from error
        raise SnDeployError(
            "it isn't installed", where="TensorRT", mend="install it with: pip install 'sn-deploy[tensorrt]'"
        ) from error
    except (ImportError, OSError) as error:
        raise _broken(error) from error
    found = version_of(trt)
    if found[0] not in MAJORS or found < _OLDEST:
        raise SnDeployError(
            f"version {trt.__version__} is installed",
            where="TensorRT",
            expected=f"{'.'.join(map(str, _OLDEST))} or later, of the major versions {' and '.join(map(str, MAJORS))}",
        )
    return trt


def version_of(trt: Any) -> tuple[int, int]:
    """Major and minor version of the module."""
    major, minor = trt.__version__.split(".")[:2]
    return int(major), int(minor)


def need_gpu(purpose: str, index: int = 0) -> Gpu:
    """The GPU, asked of the driver: TensorRT's own objects must not be made where there is none.

    Args:
        purpose: what it is needed for, as in "building an engine".
        index: among the GPUs that CUDA_VISIBLE_DEVICES leaves.

    Raises:
        SnDeployError: there is none, or the index is no number.
    """
    try:
        gpu = find_gpu(operator.index(index))
    except TypeError:
        raise SnDeployError(f"is {index!r}", where="device", expected="the index of a GPU, from 0 on") from None
    if isinstance(gpu, str):
        raise SnDeployError(
            f"{purpose} needs an NVIDIA GPU, and {gpu}",
            where="TensorRT",
            mend="run this on the machine that the engine is for (sn-deploy doctor tells what it has)",
        )
    return gpu


class Messages:
    """The end of what TensorRT has logged, from warnings up; any thread may add to it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._messages: collections.deque[tuple[str, str]] = collections.deque(maxlen=_KEPT)
        self._listeners: list[Sequence[OnLog]] = []

    def add(self, severity: str, message: str) -> None:
        """Called by the logger."""
        if severity not in _TOLD:
            return
        line = " ".join(message.split())
        with self._lock:
            if severity in _SEVERITIES:
                self._messages.append((severity, line))
            listeners = [listener for group in self._listeners for listener in group]
        for listener in listeners:
            listener(severity, line)

    @contextlib.contextmanager
    def told_to(self, *listeners: OnLog | None) -> Iterator[None]:
        """Within it they are told of all messages from infos up, in whatever thread. What they raise is lost."""
        group = [listener for listener in listeners if listener is not None]
        with self._lock:
            self._listeners.append(group)
        try:
            yield
        finally:
            with self._lock:
                self._listeners = [other for other in self._listeners if other is not group]

    def clear(self) -> None:
        """Forgets what came before."""
        with self._lock:
            self._messages.clear()

    def errors(self) -> list[str]:
        """The errors, in order."""
        with self._lock:
            return [message for severity, message in self._messages if severity != "WARNING"]

    def warnings(self) -> list[str]:
        """The warnings, in order, each once."""
        with self._lock:
            return list(dict.fromkeys(message for severity, message in self._messages if severity == "WARNING"))

    def reason(self) -> str:
        """Why the last call failed, as far as the log tells: the last errors, else the last warning."""
        last = self.errors()[-3:] or self.warnings()[-1:]
        return "; ".join(dict.fromkeys(last)) or "TensorRT gives no reason"


MESSAGES: Final = Messages()


@functools.cache
def logger() -> Any:
    """The one logger of this process: TensorRT keeps the first that it is given."""
    trt = tensorrt()

    class Logger(trt.ILogger):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            trt.ILogger.__init__(self)

        def log(self, severity: Any, message: str) -> None:
            # Called from C++ that knows no exceptions; KeyboardInterrupt may be due here as anywhere.
            try:
                MESSAGES.add(severity.name, message)
            except BaseException:  # noqa: BLE001
                return

    return Logger()


def _broken(error: Exception) -> SnDeployError:
    return SnDeployError(
        f"its Python module can't be loaded: {first_line(error)}",
        where="TensorRT",
        mend="put the folder of libnvinfer on LD_LIBRARY_PATH, or pip install --force-reinstall tensorrt",
    )

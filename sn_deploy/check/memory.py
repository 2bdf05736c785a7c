"""How much memory a backend needs, measured in a process that does nothing else."""

from __future__ import annotations

import importlib
import io
import json
import pickle
import re
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import FunctionType
from typing import Any, Final

from sn_deploy import child
from sn_deploy.errors import SnDeployError, first_line
from sn_deploy.runtime.tensors import Array

RUNS: Final = 3
TIMEOUT_S: Final = 600.0
_MARKER: Final = "sn-deploy-memory:"
_STATUS: Final = Path("/proc/self/status")
_CLEAR_REFS: Final = Path("/proc/self/clear_refs")


def measure_memory(
    opener: Callable[[], Any], inputs: Mapping[str, Array], *, imports: Sequence[str] = (), timeout_s: float = TIMEOUT_S
) -> float:
    """Opens a backend in a process of its own, runs it, and tells by how much the process grew at most.

    What is counted is resident memory on the host: the model, the runtime's arena, activations and outputs, but not the
    imported libraries, which all models share, nor the inputs, which are the caller's. Memory of a GPU isn't.

    Args:
        opener: gives a runner (see `sn_deploy.check.latency.Runner`); a function of a module, or `functools.partial`
            of one, since it is sent to the other process by pickle.
        inputs: of one call, which is made three times: the first allocates, the others may again.
        imports: modules that the opener imports, and that are not to be counted: ``onnxruntime``, ``torch``.

    Returns:
        MiB.

    Raises:
        SnDeployError: the backend fails, crashes or hangs there, or the system doesn't tell (not Linux).
    """
    request = _pickled((list(imports), opener, dict(inputs)))
    try:
        done = child.call("sn_deploy.check.memory:_child", content=request, timeout_s=timeout_s)
    except subprocess.TimeoutExpired:
        raise SnDeployError(f"the backend gave no answer in {timeout_s:g} s", where="memory") from None
    for line in done.stdout.decode(errors="replace").splitlines():
        if line.startswith(_MARKER):
            answer = json.loads(line.removeprefix(_MARKER))
            if "error" in answer:
                raise SnDeployError(answer["error"], where="memory")
            return float(answer["mib"])
    words = done.last_words[:200] or "no message"
    raise SnDeployError(f"the process ended by {done.how}: {words}", where="memory")


def check_measurable(opener: Callable[[], Any]) -> None:
    """Refuses, before any work, a backend that can't be sent to another process.

    Args:
        opener: see `measure_memory`.

    Raises:
        SnDeployError: what in it can't be.
    """
    _pickled(opener)


class _Pickler(pickle.Pickler):
    """Refuses what the other process could not import: the program that a person runs is another module there."""

    def persistent_id(self, obj: Any) -> None:
        """Is asked for every object, before it is pickled; None lets pickle go on."""
        if isinstance(obj, (type, FunctionType)) and obj.__module__ == "__main__":
            raise SnDeployError(
                f"{obj.__qualname__} is defined in the program itself (__main__), and memory is measured in a process "
                "of its own, which has to import it",
                where="memory",
                mend="put it into a module, a .py file that the notebook or the script imports, or leave memory out",
            )


def _pickled(value: object) -> bytes:
    content = io.BytesIO()
    try:
        _Pickler(content).dump(value)
    except SnDeployError:
        raise
    except Exception as error:  # a user's own class may raise anything
        raise SnDeployError(
            f"can't be sent to another process, in which memory is measured: {first_line(error)}",
            where="memory",
            mend="leave memory out, or take off the model what holds no values: hooks, parametrizations, handles",
        ) from error
    return content.getvalue()


def _child() -> None:
    """The other process: a request on its standard input, the answer on its standard output."""
    try:
        imports, opener, inputs = pickle.load(sys.stdin.buffer)  # noqa: S301 (our parent wrote it)
        for name in imports:
            importlib.import_module(name)
        answer: dict[str, float | str] = {"mib": _growth_mib(opener, inputs)}
    except SnDeployError as error:
        answer = {"error": str(error)}
    except Exception as error:  # noqa: BLE001 (a user's own code: its failure is the answer)
        answer = {"error": f"{type(error).__name__}: {first_line(error)}"}
    print(f"\n{_MARKER}{json.dumps(answer)}", flush=True)  # noqa: T201


def _growth_mib(opener: Callable[[], Any], inputs: Mapping[str, Array]) -> float:
    before = _start_peak()
    runner = opener()
    for _ in range(RUNS):
        runner.run(inputs)
    return (_memory_kib("VmHWM") - before) / 1024


def _start_peak() -> int:
    """Resident memory now, in KiB, from where the peak is counted.

    Not getrusage's ru_maxrss, which a new process inherits from the one that started it.
    """
    try:
        _CLEAR_REFS.write_text("5")  # sets the peak to what is resident now
    except OSError:
        return _memory_kib("VmHWM")
    return _memory_kib("VmRSS")


def _memory_kib(field: str) -> int:
    try:
        found = re.search(rf"^{field}:\s+(\d+) kB", _STATUS.read_text(), re.M)
    except OSError:
        found = None
    if found is None:
        raise SnDeployError("this system doesn't tell a process's peak memory", expected="Linux's /proc")
    return int(found.group(1))

"""Functions of this package in a Python process of their own.

For what may end a process (C++ that is given anything, libraries that crash as they are loaded), and for what must be
measured where nothing else happens.
"""

from __future__ import annotations

import contextlib
import json
import signal
import subprocess
import sys
from dataclasses import dataclass
from typing import Final

# The child sees the modules that this process sees: its sys.path, not one made from its working directory. What it says
# names options: who called this process may be the command line, or a program in whose words it is put here.
_CHILD: Final = (
    "import sys, json, importlib; sys.path[:] = json.loads(sys.argv[1]); module, _, name = sys.argv[2].partition(':'); "
    "function = getattr(importlib.import_module(module), name); "
    "from sn_deploy.python_words import naming_options; naming_options()(function)(*sys.argv[3:])"
)


@dataclass(frozen=True)
class Ended:
    """How a child came to its end.

    Attributes:
        returncode: its exit code; of one that a signal ended, the signal's number, negative.
        stdout, stderr: what it wrote. Bytes: what a crashing library prints need not be text.
    """

    returncode: int
    stdout: bytes
    stderr: bytes

    @property
    def how(self) -> str:
        """``SIGSEGV``, or ``exit code 3``."""
        if self.returncode >= 0:
            return f"exit code {self.returncode}"
        try:
            return signal.Signals(-self.returncode).name
        except ValueError:
            return f"signal {-self.returncode}"

    @property
    def last_words(self) -> str:
        """The last line that it wrote to its standard error; ``''`` where there is none."""
        return next(iter(self.stderr.decode(errors="replace").strip().splitlines()[-1:]), "")


def call(function: str, *arguments: str, content: bytes = b"", timeout_s: float | None = None) -> Ended:
    """Calls ``MODULE:FUNCTION`` with ``arguments`` in a Python process of its own, and waits for its end.

    Args:
        content: what its standard input holds.

    Raises:
        subprocess.TimeoutExpired: it took longer than ``timeout_s``, and was ended.
        OSError: no process can be started.
    """
    if not sys.executable:
        raise OSError("Python doesn't know its own program")
    # Python passes over what else programs put there, such as a Path.
    path = json.dumps([place for place in sys.path if isinstance(place, str)])
    command = [sys.executable, "-c", _CHILD, path, function, *arguments]
    done = subprocess.run(command, input=content, capture_output=True, timeout=timeout_s, check=False)
    return Ended(done.returncode, done.stdout, done.stderr)


def limit_memory(most_bytes: int) -> None:
    """Called in a child: a limit of its address space, and no core file left behind; where the system has that."""
    with contextlib.suppress(ImportError, ValueError, OSError):  # not on every system, or not as much
        import resource

        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        resource.setrlimit(resource.RLIMIT_AS, (most_bytes, most_bytes))

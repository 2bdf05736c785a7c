"""Runs a probe in a process of its own: an import that crashes, hangs or exits is a finding, not the doctor's end."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from dataclasses import dataclass
from typing import Any, Final

TIMEOUT_S: Final = 90.0  # importing torch from a cold network disk takes a while
MARKER: Final = "sn-deploy-probe:"

# The child sees the modules that this process sees: its sys.path, not one made from its working directory.
_CHILD: Final = (
    "import sys, json; sys.path[:] = json.loads(sys.argv[1]); from sn_deploy.doctor.probes import main; "
    "main(sys.argv[2], sys.argv[3:])"
)


@dataclass(frozen=True)
class Outcome:
    """What a probe came back with.

    Attributes:
        found: what it found out, by name; empty if it failed.
        missing: the module isn't there at all.
        error: why it failed, one line; ``''`` if it didn't.
    """

    found: dict[str, Any]
    missing: bool = False
    error: str = ""

    @property
    def usable(self) -> bool:
        """Whether the probe ran to its end."""
        return not self.missing and not self.error


def run_probe(probe: str, *arguments: str, timeout_s: float = TIMEOUT_S) -> Outcome:
    """Runs ``sn_deploy.doctor.probes.PROBES[probe]`` in a child process. Never raises for what happens in there."""
    command = [sys.executable, "-c", _CHILD, json.dumps(sys.path), probe, *arguments]
    try:
        # Bytes: what a crashing library prints need not be text.
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=timeout_s, check=False)
    except subprocess.TimeoutExpired:
        return Outcome({}, error=f"gave no answer in {timeout_s:g} s")
    except OSError as error:
        return Outcome({}, error=f"can't be looked at: {error}")
    for line in done.stdout.decode(errors="replace").splitlines():
        if line.startswith(MARKER):
            answer = json.loads(line[len(MARKER) :])
            return Outcome(answer["found"], answer["missing"], answer["error"])
    return Outcome({}, error=_death(done.returncode, done.stderr.decode(errors="replace")))


def _death(returncode: int, stderr: str) -> str:
    if returncode < 0:
        try:
            return f"crashes when it is loaded ({signal.Signals(-returncode).name})"
        except ValueError:
            return f"crashes when it is loaded (signal {-returncode})"
    last = stderr.strip().splitlines()[-1:] or ["no message"]
    return f"ends the process when it is loaded (exit {returncode}: {last[0][:200]})"

"""Runs a probe in a process of its own: an import that crashes, hangs or exits is a finding, not the doctor's end."""

from __future__ import annotations

import json
import subprocess
from dataclasses import dataclass
from typing import Any, Final

from sn_deploy import child

TIMEOUT_S: Final = 90.0  # importing torch from a cold network disk takes a while
MARKER: Final = "sn-deploy-probe:"


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
    try:
        done = child.call("sn_deploy.doctor.probes:main", probe, *arguments, timeout_s=timeout_s)
    except subprocess.TimeoutExpired:
        return Outcome({}, error=f"gave no answer in {timeout_s:g} s")
    except OSError as error:
        return Outcome({}, error=f"can't be looked at: {error}")
    for line in done.stdout.decode(errors="replace").splitlines():
        if line.startswith(MARKER):
            answer = json.loads(line[len(MARKER) :])
            return Outcome(answer["found"], answer["missing"], answer["error"])
    if done.returncode < 0:
        return Outcome({}, error=f"crashes when it is loaded ({done.how})")
    words = done.last_words[:200] or "no message"
    return Outcome({}, error=f"ends the process when it is loaded (exit {done.returncode}: {words})")

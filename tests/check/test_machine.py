"""What a machine tells of itself, and the warnings that come of it."""

from __future__ import annotations

import json
import os
import platform
import re
from pathlib import Path

import pytest

from sn_deploy.check import machine
from sn_deploy.check.machine import Counters, Load, ProcessorTime, load_between, machine_facts, read_counters
from sn_deploy.check.noise import machine_warnings

QUIET = Load(others=0.01, stolen=0.0, throttled=0, quota_stops=0)


def test_the_facts_say_what_a_figure_depends_on_and_do_not_name_the_machine() -> None:
    facts = machine_facts()
    assert facts["processor"]
    assert 1 <= facts["usable_cpus"] <= facts["logical_cpus"]
    assert facts["memory_gib"] > 0
    assert facts["python"] == platform.python_version()
    text = json.dumps(facts)
    for name in (platform.node(), os.environ.get("USER") or "root", str(Path.home())):
        assert not re.search(rf"\b{re.escape(name)}\b", text)


def test_the_counters_of_this_system_advance() -> None:
    before = read_counters()
    sum(range(2_000_000))
    after = read_counters()
    assert after.own_s > before.own_s
    assert before.processors is not None
    assert after.processors is not None
    assert after.processors.total >= before.processors.total >= before.processors.busy > 0


def test_load_is_what_others_took() -> None:
    before = Counters(100.0, 7.0, ProcessorTime(1000.0, 400.0, 1.0), throttled=3, quota_stops=1)
    # Ten seconds of two processors; 12 s busy, of which 8 were ours; 1 s stolen.
    after = Counters(110.0, 15.0, ProcessorTime(1020.0, 412.0, 2.0), throttled=5, quota_stops=4)
    load = load_between(before, after)
    assert load == Load(others=pytest.approx(0.2), stolen=pytest.approx(0.05), throttled=2, quota_stops=3)
    # Rounding to ticks may make it negative, and what is shorter than some of them tells nothing.
    assert load_between(before, Counters(110.0, 27.0, after.processors)).others == 0
    assert load_between(before, Counters(100.1, 7.0, after.processors)).others is None
    assert load_between(Counters(0.0, 0.0), Counters(9.0, 9.0)) == Load(None, None, 0, 0)


@pytest.mark.parametrize(
    ("load", "governors", "threads", "words"),
    [
        (Load(0.45, 0.0, 0, 0), [], 2, "other programs took 45%"),
        (Load(0.0, 0.08, 0, 0), [], 2, "the hypervisor took 8%"),
        (Load(0.0, 0.0, 2, 0), [], 2, "slowed 2 times because of heat"),
        (Load(0.0, 0.0, 0, 7), [], 2, "CPU limit stopped it 7 times"),
        (QUIET, ["performance", "powersave"], 2, "cpupower frequency-set -g performance"),
        (QUIET, [], 8, "8 threads share 4 processors"),
    ],
)
def test_each_disturbance_has_its_warning(load: Load, governors: list[str], threads: int, words: str) -> None:
    (warning,) = machine_warnings(load, governors, threads, 4)
    assert words in warning


def test_a_quiet_machine_has_none() -> None:
    assert list(machine_warnings(QUIET, ["performance"], 4, 4, {"heat": 0.0})) == []
    assert list(machine_warnings(Load(None, None, 0, 0), [], None, 4)) == []


def test_a_gpu_that_was_slowed() -> None:
    (warning,) = machine_warnings(QUIET, [], 2, 4, {"heat": 0.0, "the power limit": 1.25})
    assert warning.startswith("the GPU was slowed for 1.2 s because of the power limit")


NVIDIA_SMI = """#!/bin/sh
case "$1" in
  *name,memory.total*) echo "NVIDIA L4, 23034 MiB, 580.10" ;;
  *hw_thermal*) echo "5 us, 20 us, [N/A], 1000 us"; echo "0 us, 0 us, 0 us, 7 us" ;;
esac
"""


def test_gpus_are_asked_of_nvidia_smi(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tool = tmp_path / "nvidia-smi"
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    tool.write_text(NVIDIA_SMI)
    tool.chmod(0o755)
    assert machine.gpus() == ["NVIDIA L4, 23034 MiB, driver 580.10"]
    assert machine_facts()["gpu"] == machine.gpus()
    assert machine.gpu_slowdowns() == {"heat": 25, "the power limit": 1007, "the power supply": 0}
    # An older driver doesn't know the counters.
    tool.write_text('#!/bin/sh\necho "Field is not a valid field to query."; exit 2\n')
    assert machine.gpu_slowdowns() == {}
    assert machine.gpus() == []

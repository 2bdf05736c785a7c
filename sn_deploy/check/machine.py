"""What a figure depends on, and what else the machine did meanwhile. Nothing here names the machine."""

from __future__ import annotations

import os
import platform
import re
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

_CPUINFO: Final = Path("/proc/cpuinfo")
_STAT: Final = Path("/proc/stat")
_MEMINFO: Final = Path("/proc/meminfo")
_CPUS: Final = Path("/sys/devices/system/cpu")
_CGROUPS: Final = (Path("/sys/fs/cgroup/cpu.stat"), Path("/sys/fs/cgroup/cpu/cpu.stat"))
# Of the instruction sets that an x86 processor lists, those that decide how fast a net runs.
_INSTRUCTIONS: Final = ("avx2", "f16c", "avx512f", "avx512_bf16", "avx512_fp16", "amx_bf16", "amx_int8")

# nvidia-smi's counters of the time that a GPU was slowed -> the reason, in words.
_SLOWDOWNS: Final = {
    "hw_thermal_slowdown": "heat",
    "sw_thermal_slowdown": "heat",
    "hw_power_brake_slowdown": "the power supply",
    "sw_power_cap": "the power limit",
}


def machine_facts() -> dict[str, Any]:
    """Processor, memory, operating system, Python and GPUs. A key is left out where the system doesn't tell."""
    cpuinfo = _read(_CPUINFO)
    facts: dict[str, Any] = {"processor": _processor(cpuinfo), "logical_cpus": os.cpu_count() or 1}
    facts["usable_cpus"] = usable_cpus()
    flags = set(re.findall(r"\w+", next(iter(re.findall(r"^flags\s*:(.*)$", cpuinfo, re.M)), "")))
    if flags:
        facts["instruction_sets"] = [name for name in _INSTRUCTIONS if name in flags]
        facts["virtual"] = "hypervisor" in flags
    if memory := re.search(r"^MemTotal:\s*(\d+) kB", _read(_MEMINFO), re.M):
        facts["memory_gib"] = round(int(memory.group(1)) / 2**20, 1)
    if governors := cpu_governors():
        facts["cpu_governor"] = ", ".join(governors)
    facts["system"] = _system()
    facts["python"] = platform.python_version()
    if found := gpus():
        facts["gpu"] = found
    return facts


def usable_cpus() -> int:
    """Logical processors that this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def cpu_governors() -> list[str]:
    """The frequency governors in use, sorted; empty where the system has none, as in most virtual machines."""
    files = _CPUS.glob("cpu[0-9]*/cpufreq/scaling_governor")
    return sorted({text for text in (_read(file).strip() for file in files) if text})


def gpus() -> list[str]:
    """NVIDIA GPUs as ``name, memory, driver``, as nvidia-smi tells them; empty where there is none or no tool."""
    rows = _nvidia_smi("name,memory.total,driver_version")
    return [f"{row[0]}, {row[1]}, driver {row[2]}" for row in rows if len(row) == 3]


def gpu_slowdowns() -> dict[str, int]:
    """Reason -> µs for which NVIDIA GPUs have run below their clocks since their driver was loaded, summed over GPUs.

    Empty where there is no GPU, or a driver that doesn't count it.
    """
    rows = _nvidia_smi(",".join(f"clocks_event_reasons_counters.{name}" for name in _SLOWDOWNS))
    totals: dict[str, int] = {}
    for row in rows:
        for reason, cell in zip(_SLOWDOWNS.values(), row, strict=False):
            if count := re.match(r"\d+", cell):
                totals[reason] = totals.get(reason, 0) + int(count.group())
    return totals


@dataclass(frozen=True)
class ProcessorTime:
    """Running totals over all processors, in seconds.

    Attributes:
        total: that they had, idle or not.
        busy: spent in programs and the kernel.
        stolen: taken by the hypervisor for other guests.
    """

    total: float
    busy: float
    stolen: float


@dataclass(frozen=True)
class Counters:
    """The system's running totals at one moment.

    Attributes:
        wall_s: of the monotonic clock.
        own_s: processor time of this process.
        processors: None where the system doesn't tell.
        throttled: how often a processor core was slowed because of heat.
        quota_stops: how often a container's CPU limit stopped its processes.
    """

    wall_s: float
    own_s: float
    processors: ProcessorTime | None = None
    throttled: int = 0
    quota_stops: int = 0


def read_counters() -> Counters:
    """The totals now."""
    return Counters(time.monotonic(), time.process_time(), _processor_time(), _thermal_throttles(), _quota_stops())


@dataclass(frozen=True)
class Load:
    """What else happened between two moments.

    Attributes:
        others: share of all processors' time that other processes took, 0 to 1; None where it can't be told.
        stolen: the share that the hypervisor took for other guests.
        throttled, quota_stops: as in `Counters`, meanwhile.
    """

    others: float | None
    stolen: float | None
    throttled: int
    quota_stops: int


_SHORTEST_S: Final = 0.5  # the totals advance in steps of 10 ms


def load_between(before: Counters, after: Counters) -> Load:
    """The load that a measurement met."""
    throttled, stops = after.throttled - before.throttled, after.quota_stops - before.quota_stops
    start, end = before.processors, after.processors
    if start is None or end is None or end.total <= start.total or after.wall_s - before.wall_s < _SHORTEST_S:
        return Load(None, None, throttled, stops)
    total = end.total - start.total
    others = (end.busy - start.busy) - (after.own_s - before.own_s)
    return Load(max(0.0, others / total), max(0.0, (end.stolen - start.stolen) / total), throttled, stops)


def _processor(cpuinfo: str) -> str:
    models = re.findall(r"^(?:model name|Model)\s*:\s*(.+)$", cpuinfo, re.M)
    return models[0].strip() if models else platform.processor() or platform.machine()


def _system() -> str:
    try:
        distribution = platform.freedesktop_os_release().get("PRETTY_NAME", "")
    except OSError:
        distribution = ""
    return ", ".join(filter(None, (f"{platform.system()} {platform.machine()}", distribution)))


def _processor_time() -> ProcessorTime | None:
    processors = re.match(r"cpu +(.*)", _read(_STAT))
    if processors is None:
        return None
    # user, nice, system, idle, iowait, irq, softirq, steal; what guests take is in user already.
    ticks = [int(value) / os.sysconf("SC_CLK_TCK") for value in processors.group(1).split()[:8]]
    total, idle, stolen = sum(ticks), ticks[3] + ticks[4], ticks[7]
    return ProcessorTime(total, total - idle - stolen, stolen)


def _thermal_throttles() -> int:
    counts = [_read(file).strip() for file in _CPUS.glob("cpu[0-9]*/thermal_throttle/core_throttle_count")]
    return sum(int(count) for count in counts if count.isdigit())


def _quota_stops() -> int:
    counts = (re.search(r"^nr_throttled (\d+)", _read(file), re.M) for file in _CGROUPS)
    return next((int(found.group(1)) for found in counts if found), 0)


def _nvidia_smi(query: str) -> list[list[str]]:
    command = ("nvidia-smi", f"--query-gpu={query}", "--format=csv,noheader")
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace", timeout=60, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return []
    if done.returncode:
        return []
    return [[cell.strip() for cell in line.split(",")] for line in done.stdout.splitlines() if line.strip()]


def _read(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""

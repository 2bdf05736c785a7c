"""Timing on a machine that others use too: what is compared takes turns, and only ratios within a turn are trusted."""

from __future__ import annotations

import platform
import random
import time
from collections.abc import Callable, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np


def times_of(calls: Mapping[str, Callable[[], object]], *, rounds: int, warmup: int = 2) -> dict[str, np.ndarray]:
    """Name -> wall times in ms, one a round. Each round calls everything once, in a new random order."""
    order, shuffle = list(calls), random.Random(0)
    times_ms: dict[str, list[float]] = {name: [] for name in calls}
    for index in range(warmup + rounds):
        shuffle.shuffle(order)
        for name in order:
            start = time.perf_counter_ns()
            calls[name]()
            if index >= warmup:
                times_ms[name].append((time.perf_counter_ns() - start) / 1e6)
    return {name: np.array(values) for name, values in times_ms.items()}


def summary(times_ms: Mapping[str, np.ndarray], baseline: str) -> dict[str, dict[str, float]]:
    """Median and spread of each, and its ratio to the baseline.

    ``ratio`` is the median over rounds of the ratio within the round, with its quartiles and the 95 % interval of the
    median (bootstrapped); ``ratio_of_minima`` needs one undisturbed round of each.
    """
    rows = {}
    for name, values in times_ms.items():
        ratios = values / times_ms[baseline]
        low, high = _median_interval(ratios)
        rows[name] = {
            "median_ms": _rounded(np.median(values)),
            "p10_ms": _rounded(np.percentile(values, 10)),
            "p90_ms": _rounded(np.percentile(values, 90)),
            "ratio": _rounded(np.median(ratios)),
            "ratio_q25": _rounded(np.percentile(ratios, 25)),
            "ratio_q75": _rounded(np.percentile(ratios, 75)),
            "ratio_low": _rounded(low),
            "ratio_high": _rounded(high),
            "ratio_of_minima": _rounded(values.min() / times_ms[baseline].min()),
        }
    return rows


def _median_interval(values: np.ndarray) -> tuple[float, float]:
    drawn = np.random.default_rng(0).choice(values, size=(2000, len(values)))
    low, high = np.percentile(np.median(drawn, axis=1), [2.5, 97.5])
    return float(low), float(high)


def _rounded(value: float) -> float:
    return round(float(value), 4)


def machine(packages: Sequence[str], threads: int) -> dict[str, Any]:
    """What a figure depends on and nothing that names the machine."""
    cpu = platform.processor()
    if (info := Path("/proc/cpuinfo")).exists():
        models = [line.split(":", 1)[1].strip() for line in info.read_text().splitlines() if "model name" in line]
        cpu = f"{models[0]}, {len(models)} logical" if models else cpu
    return {
        "cpu": cpu,
        "threads": threads,
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        **{name: metadata.version(name) for name in packages},
    }


def table(rows: Mapping[str, Mapping[str, float]]) -> str:
    """The summary as text, fastest first."""
    lines = [f"{'':52s} {'median':>9s} {'p10-p90':>17s} {'ratio':>6s} {'95 %':>13s} {'minima':>7s}"]
    for name, row in sorted(rows.items(), key=lambda item: item[1]["ratio"]):
        spread = f"{row['p10_ms']:.2f}-{row['p90_ms']:.2f}"
        interval = f"{row['ratio_low']:.3f}-{row['ratio_high']:.3f}"
        lines.append(
            f"{name:52s} {row['median_ms']:6.2f} ms {spread:>17s} {row['ratio']:6.3f} {interval:>13s} "
            f"{row['ratio_of_minima']:7.3f}"
        )
    return "\n".join(lines)

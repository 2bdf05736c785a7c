"""Latency of several backends, measured in turn so that a machine's drift meets them all alike."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Latency:
    """Wall time of one call, in milliseconds.

    Attributes:
        median_ms: the median.
        p10_ms, p90_ms: the 10th and 90th percentile: the spread to be expected.
        calls: how many calls were timed.
    """

    median_ms: float
    p10_ms: float
    p90_ms: float
    calls: int


def measure(backends: Mapping[str, Callable[[], object]], *, calls: int = 100, warmup: int = 10) -> dict[str, Latency]:
    """Times each backend ``calls`` times, one call of each in turn, after ``warmup`` calls that don't count."""
    times_ms: dict[str, list[float]] = {name: [] for name in backends}
    for index in range(warmup + calls):
        for name, backend in backends.items():
            start = time.perf_counter_ns()
            backend()
            if index >= warmup:
                times_ms[name].append((time.perf_counter_ns() - start) / 1e6)
    return {name: _latency_from_times(values) for name, values in times_ms.items()}


def _latency_from_times(times_ms: list[float]) -> Latency:
    p10, median, p90 = (float(value) for value in np.percentile(times_ms, [10, 50, 90]))
    return Latency(median_ms=median, p10_ms=p10, p90_ms=p90, calls=len(times_ms))

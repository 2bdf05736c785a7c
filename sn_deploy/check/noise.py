"""What makes latencies doubtful, in words, and what to do about it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Final

import numpy as np

from sn_deploy.check.machine import Load
from sn_deploy.check.rounds import FEWEST_ROUNDS, Rounds, Times, Warmup, is_stable
from sn_deploy.text import counted

# The baseline's calls from the 10th to the 90th percentile, relative to its median. Below it, on an idle machine, stays
# a net that takes a millisecond or more.
LARGEST_SPREAD: Final = 0.25
LARGEST_DRIFT: Final = 0.05
# Of all processors' time. One busy program is half of two processors, and nothing that matters on fifty.
LARGEST_LOAD: Final = 0.10
LARGEST_STOLEN: Final = 0.02
# A call from Python costs some microseconds by itself.
SHORTEST_MS: Final = 0.02

_IDLE: Final = "end other programs, or wait until the machine is idle"


def timing_warnings(rounds: Rounds, baseline: str, batch: int, *, on_device: bool = False) -> Iterator[str]:
    """What the times of one batch size tell about themselves."""
    at = f"batch {batch}: "
    if not rounds.warm:
        yield (
            f"{at}the warm-up ended at its limit, after {rounds.warmup_rounds} rounds, before the times were stable; "
            "the first calls that count may be slower than the rest: allow a longer warm-up"
        )
    times_ms = rounds.times_ms[baseline]
    if len(times_ms) < FEWEST_ROUNDS:
        yield (
            f"{at}{counted(len(times_ms), 'call')} of each is little, so the intervals of the ratios are too narrow: "
            f"time {FEWEST_ROUNDS} or more"
        )
    spread = spread_of(times_ms)
    if spread > LARGEST_SPREAD:
        lock = "; lock the GPU's clocks with nvidia-smi --lock-gpu-clocks" if on_device else ""
        yield (
            f"{at}the calls of {baseline} spread by {spread:.0%} of their median (10th to 90th percentile), so trust "
            f"the ratios and their intervals more than single times: {_IDLE}{lock}"
        )
    drift = drift_of(times_ms)
    if abs(drift) > LARGEST_DRIFT:
        yield (
            f"{at}{baseline} became {abs(drift):.0%} {'slower' if drift > 0 else 'faster'} from the first half of the "
            f"rounds to the second; ratios hold, since all took turns, but medians depend on when they were "
            f"measured: {_IDLE}, let it cool down, or fix its clock"
        )
    for name, values in rounds.times_ms.items():
        median = float(np.median(values))
        if median < SHORTEST_MS:
            yield (
                f"{at}a call of {name} takes {median * 1e3:.1f} µs, of which Python's own call is a good part: "
                "time larger batches"
            )


def spread_of(times_ms: Times) -> float:
    """10th to 90th percentile over the median."""
    low, median, high = np.percentile(times_ms, [10, 50, 90])
    return float((high - low) / median) if median else 0.0


def drift_of(times_ms: Times) -> float:
    """Median of the second half over that of the first, less 1; 0 where the scatter explains the difference."""
    half = len(times_ms) // 2
    halves = np.concatenate([times_ms[:half], times_ms[-half:]]) if half else times_ms
    if half < 2 or is_stable(halves, Warmup(window=half, tolerance=0.0)):
        return 0.0
    first, second = np.median(times_ms[:half]), np.median(times_ms[-half:])
    return float(second / first - 1) if first else 0.0


def machine_warnings(
    load: Load,
    governors: Sequence[str],
    threads: int | None,
    cpus: int,
    gpu_slowed_s: Mapping[str, float] | None = None,
) -> Iterator[str]:
    """What the machine did meanwhile, or how it is set.

    Args:
        load: from the first round to the last.
        governors: the processors' frequency governors.
        threads: that each backend was given; None for its own choice.
        cpus: logical processors that this process may use.
        gpu_slowed_s: reason -> seconds for which GPUs ran below their clocks meanwhile.
    """
    if load.others is not None and load.others > LARGEST_LOAD:
        yield f"other programs took {load.others:.0%} of the processors' time meanwhile: {_IDLE}"
    if load.stolen is not None and load.stolen > LARGEST_STOLEN:
        yield (
            f"the hypervisor took {load.stolen:.0%} of the processors' time for other virtual machines: measure on a "
            "machine of your own, or again"
        )
    if load.quota_stops:
        yield (
            f"the container's CPU limit stopped it {load.quota_stops} times: raise the limit, or give the backends "
            "fewer threads"
        )
    if load.throttled:
        yield f"the processor was slowed {load.throttled} times because of heat: let it cool down, measure again"
    if any(governor != "performance" for governor in governors):
        yield (
            f"the processor's frequency governor is {', '.join(governors)}, which changes the clock with the load: "
            "sudo cpupower frequency-set -g performance"
        )
    if threads is not None and threads > cpus:
        yield f"{threads} threads share {cpus} processors: give each backend {cpus} or fewer"
    for reason, seconds in (gpu_slowed_s or {}).items():
        if seconds > 0:
            yield (
                f"the GPU was slowed for {seconds:.1f} s because of {reason}: lock a lower clock that it can hold, "
                "with nvidia-smi --lock-gpu-clocks"
            )

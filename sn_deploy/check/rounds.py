"""Timing calls in turn: whatever happens to the machine meanwhile happens to all of them alike."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from sn_deploy.collector import no_collection

Times = npt.NDArray[np.float64]
Clock = Callable[[], int]

# The standard error of a median of n normal values with median absolute deviation d is 1.2533 · 1.4826 · d / √n.
_MEDIAN_ERROR: Final = 1.2533 * 1.4826


# Of fewer the median's interval holds the truth less often than it says: of independent times in 91 % at 20, of fewer
# than 6 it can't be told at all.
FEWEST_ROUNDS: Final = 20


@dataclass(frozen=True)
class Warmup:
    """When the calls that don't count are over.

    They run in windows. They are over when for every backend the medians of the last two windows differ by at most
    ``tolerance``, or by no more than twice what their own scatter explains; or when a limit is reached.

    Attributes:
        window: rounds in a window.
        tolerance: relative to the earlier window's median.
        max_rounds, max_seconds: the limits. The round in which one is passed is still finished.
    """

    window: int = 5
    tolerance: float = 0.05
    max_rounds: int = 100
    max_seconds: float = 60.0


@dataclass(frozen=True)
class Rounds:
    """What was timed.

    Attributes:
        times_ms: name -> (rounds,) wall time of each call, in order; the same index is the same round.
        warmup_rounds: rounds before, that don't count.
        warm: whether they ended because the windows were stable.
    """

    times_ms: Mapping[str, Times]
    warmup_rounds: int
    warm: bool


@dataclass
class _Turns:
    """The calls and the order of the next round."""

    calls: Mapping[str, Callable[[], object]]
    clock: Clock
    shuffle: random.Random
    order: list[str] = field(init=False)

    def __post_init__(self) -> None:
        self.order = list(self.calls)

    def round(self, times: Mapping[str, list[int]]) -> None:
        """Calls each once, in a new random order, and appends its time in ns."""
        clock, calls = self.clock, self.calls
        self.shuffle.shuffle(self.order)
        for name in self.order:
            call, record = calls[name], times[name].append
            start = clock()
            result: Any = call()
            end = clock()
            record(end - start)
            del result  # freeing it is not the backend's time


def take_turns(
    calls: Mapping[str, Callable[[], object]],
    *,
    rounds: int = 100,
    min_rounds: int = FEWEST_ROUNDS,
    max_seconds: float | None = None,
    warmup: Warmup | int = Warmup(),
    seed: int = 0,
    clock: Clock = time.perf_counter_ns,
    on_round: Callable[[int, int], None] | None = None,
) -> Rounds:
    """Times the calls in rounds: each round calls everything once, in a new random order.

    Python's garbage collector is off meanwhile, as in `timeit`: its pauses would meet whoever is running.

    Args:
        calls: name -> what is timed.
        rounds: how many count.
        min_rounds: so many are timed even after ``max_seconds``.
        max_seconds: no round that counts begins later than that after the first; None for no limit.
        warmup: when the calls that don't count are over; a number for so many rounds.
        seed: of the order.
        clock: gives ns.
        on_round: called between rounds with the rounds timed so far (0 during the warm-up) and ``rounds``.
    """
    turns = _Turns(calls, clock, random.Random(seed))
    with no_collection():
        warmup_rounds, warm = _warm_up(turns, warmup, lambda: on_round and on_round(0, rounds))
        times: dict[str, list[int]] = {name: [] for name in calls}
        start = clock()
        for index in range(rounds):
            if max_seconds is not None and index >= min_rounds and clock() - start > max_seconds * 1e9:
                break
            turns.round(times)
            if on_round is not None:
                on_round(index + 1, rounds)
    return Rounds({name: np.array(values) / 1e6 for name, values in times.items()}, warmup_rounds, warm)


def _warm_up(turns: _Turns, warmup: Warmup | int, on_round: Callable[[], object]) -> tuple[int, bool]:
    """Rounds that it took, and whether the windows became stable."""
    limits = Warmup(max_rounds=warmup) if isinstance(warmup, int) else warmup
    times: dict[str, list[int]] = {name: [] for name in turns.calls}
    start, done = turns.clock(), 0
    while done < limits.max_rounds and turns.clock() - start <= limits.max_seconds * 1e9:
        turns.round(times)
        on_round()
        done += 1
        whole_windows = done % limits.window == 0 and done >= 2 * limits.window
        if not isinstance(warmup, int) and whole_windows and all(is_stable(row, limits) for row in times.values()):
            return done, True
    return done, isinstance(warmup, int)


def is_stable(times: npt.ArrayLike, warmup: Warmup) -> bool:
    """Whether the last two windows of these times fulfil `Warmup`'s criterion."""
    size = warmup.window
    values = np.asarray(times, dtype=np.float64)[-2 * size :].reshape(2, size)
    medians = np.median(values, axis=1)
    scatter = float(np.median(np.abs(values - medians[:, None])))
    error = _MEDIAN_ERROR * scatter * np.sqrt(2 / size)
    return bool(abs(medians[1] - medians[0]) <= max(warmup.tolerance * medians[0], 2 * error))

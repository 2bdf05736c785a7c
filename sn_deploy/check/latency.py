"""Latency of several backends that can be trusted on a machine that does other things, too.

All backends are timed in one run and take turns in a random order, so that what happens to the machine happens to all
of them; what is compared is the ratio of two times of the same round. Host to host: from arrays in memory to arrays in
memory, which is what a caller waits for.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final, Protocol, runtime_checkable

import numpy as np

from sn_deploy.check.bootstrap import median_interval
from sn_deploy.check.machine import Counters, cpu_governors, gpu_slowdowns, load_between, read_counters, usable_cpus
from sn_deploy.check.noise import machine_warnings, timing_warnings
from sn_deploy.check.result import BackendLatency, LatencyReport, LayerTime
from sn_deploy.check.rounds import Clock, Rounds, Times, Warmup, take_turns
from sn_deploy.errors import SnDeployError
from sn_deploy.runtime.tensors import Array

Inputs = Mapping[str, Array]

DEVICE_CALLS: Final = 20
# A picture of the progress that is drawn more often than that would be measured.
_PROGRESS_EVERY_S: Final = 0.25


class Runner(Protocol):
    """What is timed: a model opened in some runtime."""

    def run(self, inputs: Inputs) -> Mapping[str, Array]: ...


@runtime_checkable
class TimedOnDevice(Protocol):
    """A runner that can also tell the time on its device alone, without copies from and to the host."""

    def device_time_ms(self, inputs: Inputs) -> float:
        """Runs once, timed by the device's own events, the inputs being there already."""
        ...


@runtime_checkable
class TimedByLayer(Protocol):
    """A runner that can tell how long each of its SN layers takes."""

    def layer_times_ms(self, inputs: Inputs) -> Mapping[str, float]:
        """Layer -> time in one call, in the order in which they run, as the runtime's own profile has it."""
        ...


def measure(
    backends: Mapping[str, Runner],
    inputs: Mapping[int, Inputs],
    *,
    baseline: str | None = None,
    rounds: int = 100,
    max_seconds: float | None = 60.0,
    warmup: Warmup = Warmup(),  # noqa: B008 (frozen)
    threads: int | None = None,
    memory_mib: Mapping[tuple[str, int], float] | None = None,
    seed: int = 0,
    clock: Clock = time.perf_counter_ns,
    counters: Callable[[], Counters] = read_counters,
    on_progress: Callable[[str, float], None] | None = None,
) -> LatencyReport:
    """Times all backends at each batch size.

    Backends that would wait for each other's idle threads (ONNX Runtime's spin by default) should be opened so that
    they don't. CUDA graphs on and off are two backends.

    Args:
        backends: name -> runner, at least one. One that is `TimedOnDevice` or `TimedByLayer` is asked for that, too.
        inputs: batch size -> the inputs of one call.
        baseline: whose time is 1; None for the first.
        rounds: timed calls of each backend at each batch size.
        max_seconds: for the rounds of one batch size, after which no more begin, but at least 20 are timed.
        warmup: when the calls before, that don't count, are over.
        threads: that each backend was given: stated in the report.
        memory_mib: (backend, batch) -> what `sn_deploy.check.memory.measure_memory` found.
        seed: of the order of the turns.
        clock, counters: where the time in ns, and the machine's load, are read.
        on_progress: called now and then between rounds with what is done and how far all is, 0 to 1. It must return
            soon, and nothing should be drawn in the background meanwhile.

    Raises:
        SnDeployError: no backend, no batch size, or a baseline that isn't among the backends; what a backend raises.
    """
    reference = _checked(backends, inputs, baseline, rounds)
    on_device = any(isinstance(backend, TimedOnDevice) for backend in backends.values())
    before, slowed_before = counters(), gpu_slowdowns() if on_device else {}
    results: list[BackendLatency] = []
    warnings: list[str] = []
    for index, (batch, batch_inputs) in enumerate(inputs.items()):
        report = _Progress(on_progress, clock, f"batch {batch}", index, len(inputs))
        timed = take_turns(
            {name: functools.partial(backend.run, batch_inputs) for name, backend in backends.items()},
            rounds=rounds,
            max_seconds=max_seconds,
            warmup=warmup,
            seed=seed,
            clock=clock,
            on_round=report,
        )
        device_ms = device_times(backends, batch_inputs)
        results += latencies_from_rounds(timed, reference, batch, device_ms, memory_mib or {})
        warnings += timing_warnings(timed, reference, batch, on_device=on_device)
    load = load_between(before, counters())
    slowed = gpu_slowdowns() if on_device else {}
    slowed_s = {reason: (total - slowed_before.get(reason, 0)) / 1e6 for reason, total in slowed.items()}
    warnings += machine_warnings(load, cpu_governors(), threads, usable_cpus(), slowed_s)
    layer_times = list(_layer_times(backends, *next(iter(inputs.items()))))
    return LatencyReport(reference, results, warnings, threads, layer_times)


def latencies_from_rounds(
    rounds: Rounds,
    baseline: str,
    batch: int,
    device_ms: Mapping[str, float] | None = None,
    memory_mib: Mapping[tuple[str, int], float] | None = None,
) -> Iterator[BackendLatency]:
    """The figures of one batch size, a row for each backend."""
    for name, times_ms in rounds.times_ms.items():
        median, p90, p99 = (float(value) for value in np.percentile(times_ms, [50, 90, 99]))
        ratio, low, high = ratio_of(times_ms, rounds.times_ms[baseline])
        yield BackendLatency(
            backend=name,
            batch=batch,
            median_ms=median,
            p90_ms=p90,
            p99_ms=p99,
            calls=len(times_ms),
            warmup_calls=rounds.warmup_rounds,
            ratio=ratio,
            ratio_low=low,
            ratio_high=high,
            throughput=batch / median * 1e3 if median else float("inf"),
            device_ms=(device_ms or {}).get(name),
            memory_mib=(memory_mib or {}).get((name, batch)),
            times_ms=[round(float(value), 4) for value in times_ms],  # to 0.1 µs
        )


def ratio_of(times_ms: Times, baseline_ms: Times) -> tuple[float, float, float]:
    """Median over the rounds of the ratio within the round, and its 95 % interval (`median_interval`)."""
    ratios = times_ms / baseline_ms
    return float(np.median(ratios)), *median_interval(ratios)


def speedup(report: LatencyReport, backend: str, over: str, batch: int | None = None) -> tuple[float, float, float]:
    """How many times faster ``backend`` is than ``over``, and the 95 % interval; above 1 it is faster.

    Args:
        batch: None for the first batch size that was timed.

    Raises:
        SnDeployError: one of them wasn't timed, or not at that batch size.
    """
    wanted = report.results[0].batch if batch is None else batch
    rows = {row.backend: np.asarray(row.times_ms) for row in report.results if row.batch == wanted}
    for name in (backend, over):
        if name not in rows:
            timed = ", ".join(rows) or ", ".join(sorted({row.backend for row in report.results}))
            raise SnDeployError(
                f"{name} was not timed" + (f" at batch {wanted}" if rows else ""), where="latency", expected=timed
            )
    return ratio_of(rows[over], rows[backend])


def device_times(backends: Mapping[str, Runner], inputs: Inputs, calls: int = DEVICE_CALLS) -> dict[str, float]:
    """Median time on the device alone of those backends that can tell it, in turns as well, after two calls each."""
    timed = {name: backend for name, backend in backends.items() if isinstance(backend, TimedOnDevice)}
    times_ms = [{name: backend.device_time_ms(inputs) for name, backend in timed.items()} for _ in range(2 + calls)]
    return {name: float(np.median([row[name] for row in times_ms[2:]])) for name in timed}


def _layer_times(backends: Mapping[str, Runner], batch: int, inputs: Inputs) -> Iterator[LayerTime]:
    told = {name: one.layer_times_ms(inputs) for name, one in backends.items() if isinstance(one, TimedByLayer)}
    # A runtime may tell some layers only: each has the same place in all backends.
    longest = max(map(list, told.values()), key=len, default=[])
    places = {layer: place for place, layer in enumerate(longest)}
    for name, times_ms in told.items():
        known = times_ms.keys() <= places.keys()
        for place, (layer, layer_ms) in enumerate(times_ms.items()):
            yield LayerTime(name, layer, places[layer] if known else place, batch, layer_ms)


def _checked(backends: Mapping[str, Any], inputs: Mapping[int, Any], baseline: str | None, rounds: int) -> str:
    """The baseline's name."""
    if not backends or not inputs:
        raise SnDeployError(
            "there is nothing to time", where="latency", expected="at least one backend and one batch size"
        )
    if rounds < 1:
        raise SnDeployError(f"{rounds} rounds", where="latency", expected="1 or more")
    reference = next(iter(backends)) if baseline is None else baseline
    if reference not in backends:
        raise SnDeployError(
            f"the baseline {reference!r} is none of the backends", where="latency", expected=", ".join(backends)
        )
    return reference


class _Progress:
    """Turns the rounds of one batch size into a share of the whole, now and then."""

    def __init__(
        self, tell: Callable[[str, float], None] | None, clock: Clock, text: str, index: int, count: int
    ) -> None:
        self._tell, self._clock, self._text, self._index, self._count = tell, clock, text, index, count
        self._next_ns = 0

    def __call__(self, done: int, rounds: int) -> None:
        now = self._clock()
        if self._tell is None or (now < self._next_ns and done < rounds):
            return
        self._next_ns = now + int(_PROGRESS_EVERY_S * 1e9)
        self._tell(self._text if done else f"{self._text}: warm-up", (self._index + done / rounds) / self._count)

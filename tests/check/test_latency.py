"""Latency on a machine whose time is simulated: what is found must be what was planted."""

from __future__ import annotations

import functools
import gc
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest

from sn_deploy.check.latency import latencies_from_rounds, measure, ratio_of, speedup
from sn_deploy.check.machine import Counters, ProcessorTime
from sn_deploy.check.noise import drift_of
from sn_deploy.check.rounds import Rounds, Warmup, is_stable, take_turns
from sn_deploy.check.timing import batch_sizes, of_speedups, parse_speedup
from sn_deploy.errors import SnDeployError

INPUTS = {"x": np.zeros((1, 3), np.float32)}


@dataclass
class Machine:
    """A clock that advances only by what is run on it.

    Attributes:
        noise: standard deviation of the logarithm of each call's time.
        pace: a factor on all times, by the calls made so far.
    """

    noise: float = 0.0
    pace: Callable[[int], float] = field(default=lambda _: 1.0)
    now_ns: int = 0
    calls: int = 0
    random: np.random.Generator = field(default_factory=lambda: np.random.default_rng(0))

    def clock(self) -> int:
        return self.now_ns

    def spend(self, ms: float) -> None:
        self.now_ns += int(ms * 1e6 * self.pace(self.calls) * np.exp(self.noise * self.random.standard_normal()))
        self.calls += 1

    def counters(self) -> Counters:
        seconds = self.now_ns / 1e9
        return Counters(seconds, seconds, ProcessorTime(2 * seconds, seconds, 0.0))


@dataclass
class Runner:
    """Takes ``ms``, by the index of its call."""

    machine: Machine
    ms: Callable[[int], float]
    calls: int = 0

    def run(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        self.machine.spend(self.ms(self.calls))
        self.calls += 1
        return dict(inputs)


def runners(machine: Machine, **ms: float) -> dict[str, Runner]:
    return {name: Runner(machine, lambda _, value=value: value) for name, value in ms.items()}  # type: ignore[misc]


def measured(machine: Machine, backends: Mapping[str, Any], **options: Any) -> Any:
    options = {"inputs": {1: INPUTS}, "clock": machine.clock, "counters": machine.counters, **options}
    return measure(backends, **options)


def test_each_round_calls_everything_once_in_an_order_of_its_own() -> None:
    called: list[str] = []
    calls = {name: lambda name=name: called.append(name) for name in "abc"}  # type: ignore[misc]
    result = take_turns(calls, rounds=40, warmup=3)
    rounds = list(zip(*[iter(called)] * 3, strict=True))
    assert len(rounds) == 43
    assert all(sorted(row) == ["a", "b", "c"] for row in rounds)
    assert len(set(rounds)) == 6  # all orders there are
    assert {name: len(times) for name, times in result.times_ms.items()} == {"a": 40, "b": 40, "c": 40}
    assert (result.warmup_rounds, result.warm) == (3, True)


def test_times_throughput_and_percentiles_are_those_of_the_clock() -> None:
    machine = Machine()
    backend = Runner(machine, lambda index: 1.0 + (index % 10))
    (row,) = measured(machine, {"a": backend}, inputs={4: INPUTS}, rounds=50).results
    assert row.calls == 50
    assert sorted(set(row.times_ms)) == list(range(1, 11))
    assert (row.median_ms, row.p90_ms, row.p99_ms) == tuple(np.percentile(row.times_ms, [50, 90, 99]))
    assert row.throughput == pytest.approx(4 / 5.5e-3)
    assert (row.ratio, row.ratio_low, row.ratio_high) == (1, 1, 1)


def test_a_backend_of_twice_the_time_is_found_in_noise() -> None:
    machine = Machine(noise=0.3)
    report = measured(machine, runners(machine, base=5.0, slow=10.0, same=5.0), rounds=300)
    rows = {row.backend: row for row in report.results}
    assert rows["slow"].ratio == pytest.approx(2, rel=0.06)
    assert rows["slow"].ratio_low <= 2 <= rows["slow"].ratio_high
    assert rows["slow"].ratio_high / rows["slow"].ratio_low < 1.25
    assert rows["same"].ratio_low <= 1 <= rows["same"].ratio_high
    faster, low, high = speedup(report, "base", "slow")
    assert low <= 2 <= high
    assert faster == pytest.approx(1 / speedup(report, "slow", "base")[0], rel=0.01)
    assert any("spread" in warning for warning in report.warnings)


def test_a_speedup_is_that_of_the_first_over_the_second_at_each_batch() -> None:
    machine = Machine(noise=0.01)
    inputs = {1: INPUTS, 4: {"x": np.zeros((4, 3), np.float32)}}
    report = measured(machine, runners(machine, slow=6.0, fast=2.0), inputs=inputs, rounds=50)

    def asked(text: str) -> list[tuple[float, bool]]:
        return [(one.value, one.passed) for one in of_speedups([parse_speedup(text)], report)]

    assert asked("fast/slow:2.9") == [(pytest.approx(3, rel=0.05), True)] * 2
    assert asked("fast/slow:3.2") == [(pytest.approx(3, rel=0.05), False)] * 2
    assert asked("slow/fast@4:0.4") == [(pytest.approx(1 / 3, rel=0.05), False)]
    assert asked("slow/fast@4:0.3") == [(pytest.approx(1 / 3, rel=0.05), True)]


def test_a_machine_that_slows_down_changes_times_but_no_ratio() -> None:
    machine = Machine(noise=0.02, pace=lambda calls: 1 + calls / 200)
    report = measured(machine, runners(machine, base=5.0, slow=10.0), rounds=200)
    rows = {row.backend: row for row in report.results}
    assert max(rows["base"].times_ms) > 2 * min(rows["base"].times_ms)
    assert rows["slow"].ratio == pytest.approx(2, rel=0.02)
    (warning,) = [warning for warning in report.warnings if "slower from the first half" in warning]
    assert "ratios hold" in warning
    # One after the other, as it is often done, the same machine tells something else.
    machine = Machine(noise=0.02, pace=lambda calls: 1 + calls / 200)
    base, slow = (
        take_turns({name: functools.partial(backend.run, INPUTS)}, rounds=200, clock=machine.clock).times_ms[name]
        for name, backend in runners(machine, base=5.0, slow=10.0).items()
    )
    assert np.median(slow) / np.median(base) > 2.5


def test_a_disturbance_of_some_rounds_does_not_move_the_ratio() -> None:
    machine = Machine(noise=0.02, pace=lambda calls: 8.0 if (calls // 40) % 5 == 4 else 1.0)
    report = measured(machine, runners(machine, base=5.0, fast=2.5), rounds=200)
    rows = {row.backend: row for row in report.results}
    assert rows["fast"].ratio == pytest.approx(0.5, rel=0.02)
    assert rows["fast"].p99_ms > 4 * rows["fast"].median_ms


def test_the_warm_up_lasts_until_the_times_are_stable() -> None:
    machine = Machine(noise=0.01)
    warming = Runner(machine, lambda index: 5.0 + 40.0 * 0.9**index)  # 60 calls until it is within 1 %
    report = measured(machine, {"steady": Runner(machine, lambda _: 5.0), "warming": warming}, rounds=50)
    rows = {row.backend: row for row in report.results}
    assert 30 <= rows["warming"].warmup_calls < 100
    assert rows["warming"].warmup_calls % 5 == 0  # whole windows
    assert rows["warming"].times_ms[0] < 1.1 * rows["warming"].median_ms
    assert not any("warm-up" in warning for warning in report.warnings)
    # Without noise, and stable from the beginning: the two windows that it takes to know.
    machine = Machine()
    assert measured(machine, runners(machine, a=1.0)).results[0].warmup_calls == 10


@pytest.mark.parametrize("limit", [Warmup(max_rounds=30), Warmup(max_seconds=0.3)])
def test_a_warm_up_that_ends_at_its_limit_is_told(limit: Warmup) -> None:
    machine = Machine()
    growing = Runner(machine, lambda index: 1.1**index)
    report = measured(machine, {"a": growing}, rounds=20, warmup=limit)
    assert report.results[0].warmup_calls <= 37
    assert any("warm-up ended at its limit" in warning for warning in report.warnings)


def test_stable_means_by_no_more_than_the_scatter_explains() -> None:
    warmup = Warmup()
    assert is_stable([5, 5, 5, 5, 5, 5.2, 5.2, 5.2, 5.2, 5.2], warmup)
    assert not is_stable([5, 5, 5, 5, 5, 5.3, 5.3, 5.3, 5.3, 5.3], warmup)
    assert not is_stable([10, 8, 6.5, 5.5, 5.2, 5.1, 5, 5, 5, 5], warmup)
    assert is_stable([4, 6, 5, 7, 3, 6, 4, 5.5, 7, 5], warmup)


def test_rounds_end_at_the_limit_of_time_but_not_before_the_fewest() -> None:
    machine = Machine()
    options: dict[str, Any] = {"clock": machine.clock, "warmup": 0, "max_seconds": 1.0}
    call = {"a": lambda: machine.spend(100.0)}
    assert len(take_turns(call, rounds=500, min_rounds=3, **options).times_ms["a"]) == 11
    assert len(take_turns(call, rounds=500, min_rounds=20, **options).times_ms["a"]) == 20
    assert len(take_turns(call, rounds=5, **options).times_ms["a"]) == 5


def test_the_collector_is_off_meanwhile_and_on_again_even_after_a_failure() -> None:
    seen: list[bool] = []
    take_turns({"a": lambda: seen.append(gc.isenabled())}, rounds=2, warmup=0)
    assert seen == [False, False]
    assert gc.isenabled()
    with pytest.raises(ZeroDivisionError):
        take_turns({"a": lambda: 1 / 0})
    assert gc.isenabled()


def test_device_and_layer_times_are_asked_of_those_that_can_tell() -> None:
    machine = Machine()

    class OnDevice(Runner):
        def device_time_ms(self, inputs: Mapping[str, Any]) -> float:
            self.calls += 1
            return 100.0 if self.calls <= 62 else 3.0  # the first two calls on the device

        def layer_times_ms(self, inputs: Mapping[str, Any]) -> dict[str, float]:
            return {"sn1": 0.5, "sn2": 0.25}

    gpu = OnDevice(machine, lambda _: 5.0)
    report = measured(machine, {"cpu": Runner(machine, lambda _: 9.0), "gpu": gpu}, rounds=50)
    assert [row.device_ms for row in report.results] == [None, 3.0]
    assert [(row.backend, row.layer, row.index, row.ms) for row in report.layer_times] == [
        ("gpu", "sn1", 0, 0.5),
        ("gpu", "sn2", 1, 0.25),
    ]


def test_a_layer_has_one_place_where_a_runtime_tells_only_some() -> None:
    machine = Machine()

    class Told(Runner):
        def __init__(self, **times_ms: float) -> None:
            super().__init__(machine, lambda _: 1.0)
            self.times_ms = times_ms

        def layer_times_ms(self, inputs: Mapping[str, Any]) -> dict[str, float]:
            return self.times_ms

    backends = {"fused": Told(sn1=4.0, sn3=6.0), "all": Told(sn1=1.0, sn2=2.0, sn3=3.0), "others": Told(a=7.0, sn1=8.0)}
    report = measured(machine, backends, rounds=2)
    assert [(row.backend, row.layer, row.index) for row in report.layer_times] == [
        ("fused", "sn1", 0),
        ("fused", "sn3", 2),
        ("all", "sn1", 0),
        ("all", "sn2", 1),
        ("all", "sn3", 2),
        ("others", "a", 0),
        ("others", "sn1", 1),
    ]


def test_several_batch_sizes_and_memory() -> None:
    machine = Machine()
    backends = runners(machine, a=2.0, b=4.0)
    told: list[tuple[str, float]] = []
    report = measured(
        machine,
        backends,
        inputs={1: INPUTS, 8: INPUTS},
        rounds=100,
        memory_mib={("b", 8): 12.5},
        threads=2,
        on_progress=lambda text, share: told.append((text, share)),
    )
    assert [(row.backend, row.batch) for row in report.results] == [("a", 1), ("b", 1), ("a", 8), ("b", 8)]
    assert [row.throughput for row in report.results] == pytest.approx([500, 250, 4000, 2000])
    assert [row.memory_mib for row in report.results] == [None, None, None, 12.5]
    assert (report.baseline, report.threads) == ("a", 2)
    assert speedup(report, "a", "b", batch=8)[0] == 2
    shares = [share for _, share in told]
    assert shares == sorted(shares)
    assert shares[-1] == 1
    assert len(told) < 12  # 220 rounds of 6 ms
    assert told[0][0] == "batch 1: warm-up"


def test_what_cannot_be_timed_is_refused() -> None:
    machine = Machine()
    for backends, options, words in [
        ({}, {}, "nothing to time"),
        (runners(machine, a=1.0), {"inputs": {}}, "nothing to time"),
        (runners(machine, a=1.0), {"baseline": "b"}, "'b' is none of the backends"),
        (runners(machine, a=1.0), {"rounds": 0}, "0 rounds"),
    ]:
        with pytest.raises(SnDeployError, match=words):
            measured(machine, backends, **options)
    report = measured(machine, runners(machine, a=1.0))
    with pytest.raises(SnDeployError, match=r"b was not timed at batch 1 \(expected a\)"):
        speedup(report, "b", "a")
    with pytest.raises(SnDeployError, match=r"a was not timed \(expected a\)"):
        speedup(report, "a", "a", batch=3)


def test_the_ratio_is_of_the_same_round() -> None:
    base = np.array([1.0, 10.0, 100.0, 2.0, 20.0])
    assert ratio_of(base * 3, base) == (3, 3, 3)
    assert ratio_of(base[::-1], base)[1:] != (1, 1)
    rows = latencies_from_rounds(Rounds({"a": base, "b": base * 3}, 2, warm=True), "a", 1)
    assert [row.ratio for row in rows] == [1, 3]


def test_drift_is_what_the_scatter_does_not_explain() -> None:
    rng = np.random.default_rng(0)
    assert drift_of(rng.normal(10, 2, 100)) == 0
    assert drift_of(np.concatenate([rng.normal(10, 0.1, 50), rng.normal(12, 0.1, 50)])) == pytest.approx(0.2, abs=0.01)
    assert drift_of(np.concatenate([rng.normal(10, 0.1, 50), rng.normal(8, 0.1, 50)])) == pytest.approx(-0.2, abs=0.01)
    assert drift_of(np.array([1.0])) == 0


def test_a_quiet_machine_gives_no_warning() -> None:
    machine = Machine(noise=0.02)
    assert measured(machine, runners(machine, a=5.0, b=7.0)).warnings == []


def test_too_few_calls_for_an_interval_are_told() -> None:
    machine = Machine(noise=0.02)
    for rounds, said in ((1, "batch 1: 1 call of each is little"), (19, "batch 1: 19 calls of each is little")):
        (warning,) = measured(machine, runners(machine, a=5.0, b=7.0), rounds=rounds).warnings
        assert warning.startswith(said)
    assert measured(machine, runners(machine, a=5.0, b=7.0), rounds=20).warnings == []


def test_calls_that_are_mostly_pythons_own_are_told() -> None:
    machine = Machine()
    (warning,) = measured(machine, runners(machine, a=5.0, tiny=0.004)).warnings
    assert warning.startswith("batch 1: a call of tiny takes 4.0 µs")


def test_the_batch_sizes_that_are_timed() -> None:
    assert batch_sizes([], 8, None) == [1, 8]
    assert batch_sizes([], 1, None) == [1]
    assert batch_sizes([4, 2, 4], 8, None) == [2, 4]
    assert batch_sizes([], 8, 3) == batch_sizes([3], 8, 3) == [3]
    with pytest.raises(SnDeployError, match=r"--latency-batch: batch 4 can't be timed .expected 3, which a file fixes"):
        batch_sizes([3, 4], 8, 3)

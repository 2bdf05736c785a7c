"""Throughput under load: what is counted, and what happens to callers of a backend that fails."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from sn_deploy.check.load import load, measure_load
from sn_deploy.errors import SnDeployError
from sn_deploy.runtime.tensors import Array

X = {"x": np.zeros((3, 1), np.float32)}


class Counter:
    """Counts calls, and how many run at once."""

    def __init__(self, *, fail_at: int | None = None) -> None:
        self.calls = self.running = self.most = 0
        self.fail_at = fail_at
        self._lock = threading.Lock()

    def run(self, inputs: Mapping[str, Array]) -> Mapping[str, Array]:
        with self._lock:
            self.calls += 1
            self.running += 1
            self.most = max(self.most, self.running)
            if self.calls == self.fail_at:
                raise SnDeployError("the server is gone", where="here")
        time.sleep(0.002)
        with self._lock:
            self.running -= 1
        return inputs


def test_each_caller_makes_its_calls_and_all_at_once() -> None:
    runner = Counter()
    row = load("server", runner, 3, X, 4, 10)
    assert runner.calls == 4 * (2 + 10)
    assert runner.most == 4
    assert (row.backend, row.batch, row.concurrency, row.calls) == ("server", 3, 4, 40)
    assert row.throughput == pytest.approx(40 * 3 / row.seconds)
    assert 2 <= row.median_ms <= row.p90_ms <= row.p99_ms
    assert row.seconds >= 10 * 0.002


@pytest.mark.parametrize("level", [1, 3])
def test_the_time_is_from_the_first_callers_start(level: int) -> None:
    """Whenever the thread that started the callers comes to its turn: it waits while they are warmed up."""

    class Busy(Counter):
        def run(self, inputs: Mapping[str, Array]) -> Mapping[str, Array]:
            if self.calls < 2 * level:
                return super().run(inputs)
            end = time.perf_counter() + 0.003
            while time.perf_counter() < end:
                pass  # and keeps Python's lock
            return inputs

    interval = sys.getswitchinterval()
    sys.setswitchinterval(10)
    try:
        row = load("torch", Busy(), 3, X, level, 2)
    finally:
        sys.setswitchinterval(interval)
    assert row.seconds >= 2 * level * 0.003
    assert row.throughput == pytest.approx(row.calls * 3 / row.seconds)


@pytest.mark.parametrize("call", [1, 7, 30])
def test_a_failure_ends_the_load_and_is_told(call: int) -> None:
    with pytest.raises(SnDeployError, match="here: the server is gone"):
        load("server", Counter(fail_at=call), 3, X, 4, 10)
    assert threading.active_count() < 4


def test_what_may_not_be_called_by_several_is_left_out() -> None:
    def backend(name: str, kind: str) -> Any:
        runner = Counter()
        return SimpleNamespace(info=SimpleNamespace(name=name, kind=kind), timed=lambda inputs: runner)

    rows = measure_load([backend("a", "ort"), backend("b", "trt")], {3: X}, [1, 2], calls=2)
    assert [(row.backend, row.concurrency) for row in rows] == [("a", 1), ("a", 2)]

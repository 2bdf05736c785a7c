"""Latency is measured in turn; what the numbers are is for benchmarks, not for tests."""

from __future__ import annotations

from sn_deploy.check.latency import measure


def test_backends_take_turns_and_the_warm_up_does_not_count() -> None:
    order: list[str] = []
    result = measure({"a": lambda: order.append("a"), "b": lambda: order.append("b")}, calls=5, warmup=2)
    assert order == ["a", "b"] * 7
    for latency in result.values():
        assert latency.calls == 5
        assert 0 <= latency.p10_ms <= latency.median_ms <= latency.p90_ms

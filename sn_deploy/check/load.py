"""Throughput under load: so many callers at once, each of which sends its next request when it has its answer.

That is what a server's dynamic batching and instances are for, and what one call after another can't show. Backends
aren't timed in turns here, a level runs for itself: compare levels of one run, and trust small differences less than
the ratios of `sn_deploy.check.latency`.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Final

import numpy as np

from sn_deploy.check.backends.adapted import AdaptedBackend
from sn_deploy.check.latency import Runner
from sn_deploy.check.result import LoadResult
from sn_deploy.runtime.tensors import Array

Inputs = Mapping[str, Array]

# Kinds of backends that may be called from several threads at once.
_CONCURRENT: Final = ("ort", "ort-native", "ort-rounded", "ort-cuda", "ort-cuda-native", "torch", "triton")
_WARMUP_CALLS: Final = 2
_MAX_SECONDS: Final = 30.0


def measure_load(
    backends: Sequence[AdaptedBackend], inputs: Mapping[int, Inputs], levels: Sequence[int], *, calls: int
) -> list[LoadResult]:
    """Loads each backend that may be called by several at once, at each batch size, with each number of callers.

    Args:
        inputs: batch size -> inputs.
        calls: of each caller; after 30 seconds no new one is made.

    Raises:
        SnDeployError: what a backend raises.
    """
    usable = [backend for backend in backends if backend.info.kind in _CONCURRENT]
    return [
        load(backend.info.name, backend.timed(inputs), batch, values, level, calls)
        for batch, values in inputs.items()
        for backend in usable
        for level in levels
    ]


def load(name: str, runner: Runner, batch: int, inputs: Inputs, level: int, calls: int) -> LoadResult:
    """One level of one backend: ``level`` callers of ``calls`` calls each, after two that don't count.

    Raises:
        SnDeployError: what the backend raises, in any caller.
    """
    times_ms: list[list[float]] = [[] for _ in range(level)]
    failures: list[BaseException] = []
    starts, ends = [0.0] * level, [0.0] * level
    # All begin when all have their connections and are warm.
    start_line = threading.Barrier(level)

    def call(index: int) -> None:
        try:
            for _ in range(_WARMUP_CALLS):
                runner.run(inputs)
            start_line.wait()
            starts[index] = time.perf_counter()
            times_ms[index] += _timed_calls(lambda: runner.run(inputs), calls, starts[index] + _MAX_SECONDS)
            ends[index] = time.perf_counter()
        except threading.BrokenBarrierError:
            pass
        except BaseException as error:  # noqa: BLE001 (raised again by who started the thread)
            failures.append(error)
            start_line.abort()

    threads = [threading.Thread(target=call, args=(index,), daemon=True) for index in range(level)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]
    seconds = max(ends) - min(starts)
    every = np.concatenate([np.asarray(times) for times in times_ms])
    median, p90, p99 = (float(value) for value in np.percentile(every, [50, 90, 99]))
    return LoadResult(name, batch, level, len(every), seconds, len(every) * batch / seconds, median, p90, p99)


def _timed_calls(call: Callable[[], object], calls: int, until: float) -> Iterator[float]:
    for index in range(calls):
        start = time.perf_counter()
        if index and start > until:
            return
        call()
        yield (time.perf_counter() - start) * 1e3

"""The latency part of a check: which backends are timed, at which batch sizes, and how much faster one has to be."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from sn_deploy.check.backends.adapted import AdaptedBackend
from sn_deploy.check.backends.open import Backends
from sn_deploy.check.backends.served import TRITON
from sn_deploy.check.backends.spec import TORCH64
from sn_deploy.check.batch import Batch
from sn_deploy.check.latency import measure, speedup
from sn_deploy.check.limits import number
from sn_deploy.check.load import measure_load
from sn_deploy.check.memory import check_measurable, measure_memory
from sn_deploy.check.result import Assertion, LatencyReport
from sn_deploy.errors import SnDeployError
from sn_deploy.runtime.tensors import Array

# Kind of backend -> the library that it runs in, which isn't its own memory.
_IMPORTS: Final = {"torch": ["torch"], "trt": ["tensorrt", "torch"], "trt-no-graph": ["tensorrt", "torch"]}


@dataclass(frozen=True)
class Speedup:
    """``backend`` has to be ``factor`` times as fast as ``over``, at one batch size or (None) at each."""

    backend: str
    over: str
    factor: float
    batch: int | None = None


def parse_speedup(text: str) -> Speedup:
    """``--min-speedup A/B:1.2``, or ``A/B@BATCH:1.2``.

    Raises:
        SnDeployError: it isn't of that form.
    """
    match = re.fullmatch(r"(?P<one>[^/]+)/(?P<other>[^/@]+)(@(?P<batch>[1-9]\d*))?:(?P<factor>[0-9.eE+-]+)", text)
    try:
        if match is None or not 0 < (factor := float(match["factor"])) < float("inf"):
            raise ValueError
    except ValueError:
        raise SnDeployError(
            "can't be read", where=f"--min-speedup {text}", expected="BACKEND/OVER:FACTOR, as in ort-native/ort:1.2"
        ) from None
    return Speedup(match["one"], match["other"], factor, int(match["batch"]) if match["batch"] else None)


def timed_backends(backends: Backends) -> list[AdaptedBackend]:
    """Those whose time is of interest: not a reference in float64."""
    return [backend for backend in backends.all if backend.info.name != TORCH64]


def check_speedups(speedups: Sequence[Speedup], backends: Backends, batches: Sequence[int]) -> None:
    """Refuses, before any work, speedups of what isn't timed.

    Raises:
        SnDeployError: there is such a one.
    """
    names = [backend.info.name for backend in timed_backends(backends)]
    for wanted in speedups:
        for name in (wanted.backend, wanted.over):
            if name not in names:
                raise SnDeployError(f"there is no backend {name!r}", where="--min-speedup", expected=", ".join(names))
        if wanted.batch is not None and wanted.batch not in batches:
            raise SnDeployError(
                f"batch {wanted.batch} isn't timed", where="--min-speedup", expected=f"{', '.join(map(str, batches))}"
            )


def check_memory(backends: Backends) -> None:
    """Refuses, before any work, to measure the memory of what can't be sent to a process of its own.

    Raises:
        SnDeployError: there is such a backend.
    """
    for backend in _measured(backends):
        check_measurable(backend.reopen)


def _measured(backends: Backends) -> list[AdaptedBackend]:
    """Those whose memory is this machine's."""
    return [backend for backend in timed_backends(backends) if backend.info.kind != TRITON]


def batch_sizes(asked: Sequence[int], batch_size: int, fixed_batch: int | None) -> list[int]:
    """The batch sizes to time: those asked for, or one sample and the check's own batch.

    Raises:
        SnDeployError: a file fixes another batch size.
    """
    if fixed_batch is not None:
        wrong = [size for size in asked if size != fixed_batch]
        if wrong:
            raise SnDeployError(
                f"batch {wrong[0]} can't be timed",
                where="--latency-batch",
                expected=f"{fixed_batch}, which a file fixes",
            )
        return [fixed_batch]
    return sorted(set(asked)) if asked else sorted({1, batch_size})


def time_backends(
    backends: Backends,
    batch: Batch,
    batches: Sequence[int],
    *,
    calls: int,
    threads: int | None,
    baseline: str | None,
    memory: bool,
    concurrency: Sequence[int] = (),
    on_progress: Callable[[str, float], None] | None,
) -> LatencyReport:
    """Times the backends on the samples of ``batch``, repeated or cut to each batch size.

    Args:
        calls: timed calls of each at each batch size.
        baseline: whose time is 1; None for the first.
        memory: measure each one's memory, too, in a process of its own.
        concurrency: numbers of callers at once, for throughput under load.

    Raises:
        SnDeployError: a backend fails.
    """
    timed = timed_backends(backends)
    inputs = {size: resized(batch.inputs, size) for size in batches}
    found = {}
    if memory:
        for backend in _measured(backends):
            for size, values in inputs.items():
                found[backend.info.name, size] = measure_memory(
                    backend.reopen, backend.cast(values), imports=_IMPORTS.get(backend.info.kind, ["onnxruntime"])
                )
    report = measure(
        {backend.info.name: backend.timed(inputs) for backend in timed},
        inputs,
        baseline=baseline,
        rounds=calls,
        threads=threads,
        memory_mib=found,
        on_progress=on_progress,
    )
    return replace(report, load=measure_load(timed, inputs, concurrency, calls=calls)) if concurrency else report


def resized(inputs: Mapping[str, Array], size: int) -> dict[str, Array]:
    """The first ``size`` samples, beginning again where there are fewer."""
    return {
        name: np.ascontiguousarray(array[np.arange(size) % len(array)]) if array.ndim else array
        for name, array in inputs.items()
    }


def of_speedups(speedups: Sequence[Speedup], report: LatencyReport) -> list[Assertion]:
    """The assertions about latency."""
    made = []
    for wanted in speedups:
        batches = dict.fromkeys(row.batch for row in report.results)
        for batch in [wanted.batch] if wanted.batch is not None else batches:
            value, low, high = speedup(report, wanted.backend, wanted.over, batch)
            pair = f"{wanted.backend}/{wanted.over}"
            interval = f"({number(low)} to {number(high)})"
            text = f"{pair}: speedup at batch {batch} {number(value)} {interval} >= {number(wanted.factor)}"
            made.append(Assertion(text, "speedup", wanted.backend, value, wanted.factor, value >= wanted.factor))
    return made

"""A whole check, whoever asks for it: open the backends and the data, compare, find the culprit, time, put together."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from sn_deploy.arguments import of_kind, whole_number, whole_numbers
from sn_deploy.check.assemble import Circumstances, result_from
from sn_deploy.check.backends.open import BackendOptions, Backends, open_backends
from sn_deploy.check.backends.spec import TORCH, is_engine, parse_backend
from sn_deploy.check.backends.torch_model import TorchRunner
from sn_deploy.check.batch import Batch, Source, batch_size_for, check_whole_batches
from sn_deploy.check.bisect.run import DEFAULT_RUNS, OnRun, bisect, failed_backend
from sn_deploy.check.comparison import Comparison
from sn_deploy.check.data.open import DataOptions, open_data
from sn_deploy.check.machine import machine_facts
from sn_deploy.check.result import BisectReport, CheckResult, LatencyReport
from sn_deploy.check.run import Plan, run_comparison
from sn_deploy.check.shard import WHOLE
from sn_deploy.check.timing import (
    Speedup,
    batch_sizes,
    check_memory,
    check_speedups,
    of_speedups,
    parse_speedup,
    time_backends,
)
from sn_deploy.errors import SnDeployError
from sn_deploy.input_file import check_is_path
from sn_deploy.inspection.onnx_file import layers_from_onnx
from sn_deploy.inspection.show import json_from_layers
from sn_deploy.output_file import check_onnx_output

DEFAULT_CALLS: Final = 100


@dataclass(frozen=True)
class Latency:
    """What is timed.

    Attributes:
        batches: sizes; none for one sample and the check's own batch.
        calls: timed calls of each backend at each size.
        memory: measure each backend's memory, too, in a process of its own.
        concurrency: numbers of callers at once, for throughput under load.
        speedups: how much faster one has to be than another; as text ``ort-native/ort:1.2``, and ``…@8:1.2`` at
            batch 8 alone.

    Raises:
        SnDeployError: one of them is of another kind.
    """

    batches: Sequence[int] = ()
    calls: int = DEFAULT_CALLS
    memory: bool = False
    concurrency: Sequence[int] = ()
    speedups: Sequence[Speedup | str] = ()

    def __post_init__(self) -> None:
        for name in ("batches", "concurrency"):
            object.__setattr__(self, name, whole_numbers(getattr(self, name), f"Latency.{name}"))
        object.__setattr__(self, "calls", whole_number(self.calls, "Latency.calls"))
        object.__setattr__(self, "speedups", tuple(_speedups(self.speedups)))

    @property
    def wanted(self) -> list[Speedup]:
        """The speedups, as they were read."""
        return [one for one in self.speedups if isinstance(one, Speedup)]


@dataclass(frozen=True)
class Bisect:
    """Of a half-precision file that fails: find the layers that must stay in float32.

    Attributes:
        output: where a file with these in float32 is written; None for nowhere.
        runs: files that are tried at most.

    Raises:
        SnDeployError: one of them is of another kind.
    """

    output: str | os.PathLike[str] | None = None
    runs: int = DEFAULT_RUNS

    def __post_init__(self) -> None:
        if self.output is not None:
            check_is_path(self.output, "Bisect.output")
        object.__setattr__(self, "runs", whole_number(self.runs, "Bisect.runs"))


@dataclass(frozen=True)
class Job:
    """What is to be found out, of what.

    Attributes:
        plan: see there; how many classes the labels tell apart is the data's to say.
        latency, bisect: None where it isn't asked for.
        command: what was typed, for the result; nothing where that was no command.

    Raises:
        SnDeployError: something that a part of the data can't give.
    """

    backends: BackendOptions
    data: DataOptions
    plan: Plan
    latency: Latency | None = None
    bisect: Bisect | None = None
    command: str = ""

    def __post_init__(self) -> None:
        if self.data.shard != WHOLE and self.latency is not None:
            raise SnDeployError(
                "can't be part of a part: times of different runs can't be merged",
                where="--latency and --min-speedup",
                mend="time the backends in a run without --shard",
            )
        if self.data.shard != WHOLE and self.bisect is not None:
            raise SnDeployError(
                "can't be done on a part", where="--bisect", mend="bisect in a run without --shard, with --limit"
            )


def _speedups(given: object) -> Iterator[Speedup]:
    for one in (
        (given,) if isinstance(given, (str, Speedup)) else tuple(given) if isinstance(given, Iterable) else (given,)
    ):
        yield parse_speedup(one) if isinstance(one, str) else of_kind(one, Speedup, "Latency.speedups")


class Watcher:
    """Is told how far a job is; this one keeps it to itself."""

    def note(self, text: str) -> None:
        """A line for people."""

    def warn(self, text: str) -> None:
        """The same, of what may not be what was wanted."""
        self.note(text)

    def comparing(self, batches: int | None) -> AbstractContextManager[Callable[[Batch], None]]:
        """While batches are compared; what it gives is called after each. ``batches``: how many, if that is known."""
        return contextlib.nullcontext(lambda batch: None)

    def bisecting(self, most_runs: int) -> AbstractContextManager[OnRun]:
        """While files are tried; what it gives is called after each."""
        return contextlib.nullcontext(lambda done, most, seconds: None)

    def timing(self) -> AbstractContextManager[Callable[[str, float], None] | None]:
        """While backends are timed; what it gives is called with what is timed, and the share of it that is done."""
        return contextlib.nullcontext()


@dataclass(frozen=True)
class Outcome:
    """A result, and the likely cause where it fails and one is known."""

    result: CheckResult
    cause: str | None = None


def run_job(job: Job, watcher: Watcher) -> Outcome:
    """Does all of it.

    Raises:
        SnDeployError: a file, the model, the data or an option is wrong, or a backend fails.
    """
    start = time.monotonic()
    if job.bisect is not None and job.bisect.output is not None:
        check_onnx_output(job.bisect.output)
    backends = open_backends(job.backends)
    with contextlib.closing(backends):
        for note in backends.notes:
            watcher.note(note)
        for doubt in backends.doubts:
            watcher.warn(doubt)
        latency = job.latency
        size = batch_size_for(job.data.batch_size, backends.fixed_batch)
        data = replace(job.data, batch_size=size)
        if latency is not None:
            latency = replace(latency, batches=batch_sizes(latency.batches, size, backends.fixed_batch))
            check_speedups(latency.wanted, backends, latency.batches)
            if latency.memory:
                check_memory(backends)
        source = open_data(data, backends.inputs)
        check_whole_batches(source, backends.fixed_batch)
        plan = replace(job.plan, label_classes=getattr(source, "label_classes", None))
        with watcher.comparing(source.batches) as advance:
            comparison, first = run_comparison(source, backends, plan, advance, watcher.warn)
        cause = _cause(job, comparison, backends, first)
        bisected = _bisect(job.bisect, comparison, backends, source, plan, watcher) if job.bisect is not None else None
        timed = _time(latency, job.backends.threads, backends, first, watcher) if latency is not None else None
    circumstances = Circumstances(
        command=job.command,
        machine=machine_facts(),
        data=source.describe(),
        importance=_importance(job.backends),
        seconds=time.monotonic() - start,
        name_of=getattr(source, "name_of", lambda sample: None),
    )
    more = of_speedups(latency.wanted, timed) if latency is not None and timed is not None else []
    result = result_from(comparison, circumstances, shard=data.shard, bisect=bisected, latency=timed, more=more)
    return Outcome(result, cause)


def _cause(job: Job, comparison: Comparison, backends: Backends, first: Batch) -> str | None:
    """Why nothing agrees with the PyTorch model, where that can be told from it and the comparison failed."""
    torch = next((one for one in backends.all if one.info.kind == TORCH), None)
    divided = job.backends.model is not None and job.backends.model.finalize_batch_average is not None
    if torch is None or divided or all(one.passed for one in comparison.assertions()):
        return None
    from sn_deploy.recognise.undivided import undivided_sums

    assert isinstance(torch.runner, TorchRunner)
    why = undivided_sums(torch.runner.model, lambda: torch.run(first.inputs))
    if why is None:
        return None
    return f"{why}; give --finalize-batch-average N, with N the number of batches summed, to check as to export"


def _bisect(
    wanted: Bisect, comparison: Comparison, backends: Backends, source: Source, plan: Plan, watcher: Watcher
) -> BisectReport | None:
    backend = failed_backend(comparison, backends)
    if backend is None:
        watcher.note("nothing to bisect: every backend passes")
        return None
    watcher.note(f"bisecting {backend.info.name}: at most {wanted.runs} runs of all {comparison.samples} samples")
    with watcher.bisecting(wanted.runs) as on_run:
        found = bisect(backend, backends, source, plan, most_runs=wanted.runs, on_run=on_run)
    return found.write(Path(wanted.output)) if wanted.output is not None else found.report


def _time(latency: Latency, threads: int | None, backends: Backends, first: Batch, watcher: Watcher) -> LatencyReport:
    with watcher.timing() as on_progress:
        return time_backends(
            backends,
            first,
            latency.batches,
            calls=latency.calls,
            threads=threads,
            baseline=latency.wanted[0].over if latency.speedups else None,
            memory=latency.memory,
            concurrency=latency.concurrency,
            on_progress=on_progress,
        )


def _importance(options: BackendOptions) -> list[Mapping[str, Any]]:
    """The SN layers of the first file that says which it has."""
    for file in _files(options):
        # One without such nodes is nothing to complain about.
        with contextlib.suppress(SnDeployError):
            if not is_engine(file):
                layers: Any = json_from_layers(layers_from_onnx(file), file)["layers"]
                return list(layers)
    return []


def _files(options: BackendOptions) -> Iterator[Path]:
    yield from options.files
    for text in options.named:
        yield parse_backend(text).file

"""What a check found, in the form that is written as JSON (schema 1) and that the report is made from.

Every number is a plain int or float, every name a string: `as_json` of a `CheckResult` is the whole document. NaN and
infinity, which JSON doesn't have, become None.
"""

from __future__ import annotations

import dataclasses
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from sn_deploy.compare.parity import Parity
from sn_deploy.errors import CheckFailedError
from sn_deploy.printed import Printed

if TYPE_CHECKING:
    from sn_deploy.console import Console

SCHEMA: Final = 1


@dataclass(frozen=True)
class BackendInfo:
    """One of the things that were compared.

    Attributes:
        name: as it is called in every table: ``torch``, ``ort``, ``ort-native``, or the user's own.
        kind: which runner it is.
        file: the model file; None for a model built by code.
        sha256: of that file.
        versions: library -> version.
        settings: what else its result or speed depends on: threads, providers, TF32.
    """

    name: str
    kind: str
    file: str | None = None
    sha256: str | None = None
    versions: Mapping[str, str] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class OutputParity(Parity):
    """How far one output of one backend is from the reference's.

    Attributes:
        output, dtype, shape: of the backend's tensor, with the batch axis as 'N'.
        tolerance: metric -> its limit; passed: whether all hold.
    """

    output: str
    dtype: str
    shape: Sequence[int | str]
    tolerance: Mapping[str, float]
    passed: bool


@dataclass(frozen=True)
class TaskMetric:
    """A figure of the task: accuracy, agreement, mIoU or the user's own.

    Attributes:
        name: ``top1_agreement``, ``top5_agreement``, ``top1_accuracy``, ``pixel_agreement``, ``miou``, or the user's.
        output: the output that it is taken from; None where the metric sees all.
        backend: whose.
        value: the figure; low, high: its 95 % interval, None where there is none.
        count: over how many samples (or pixels).
        p_value: of the paired test that backend and reference are equally often right (McNemar, exact); None where it
            doesn't apply.
        difference: value minus the reference's, for metrics that both have.
    """

    name: str
    backend: str
    value: float
    output: str | None = None
    low: float | None = None
    high: float | None = None
    count: int | None = None
    p_value: float | None = None
    difference: float | None = None


@dataclass(frozen=True)
class LayerError:
    """One SN layer of one backend beside the reference's.

    Attributes:
        layer: its name; index: its place in the order in which the layers run.
        input_rel_l2: relative L2 error of X as it reaches the layer: what everything before has cost.
        rel_l2: of the layer's Y: what has come together up to here.
        own_rel_l2: of Y against the layer's reference run on this backend's own X: what the layer itself adds.
        tolerance, own_tolerance: the limits of the last two.
        passed: whether both hold.
    """

    layer: str
    index: int
    shape: Sequence[int | str]
    dtype: str
    input_rel_l2: float
    rel_l2: float
    own_rel_l2: float
    tolerance: float
    own_tolerance: float
    passed: bool


@dataclass(frozen=True)
class LayerReport:
    """All SN layers of one backend.

    Attributes:
        culprit: the first layer that leaves its tolerance; None where all hold.
        culprit_part: ``layer`` where it is the SN layer itself, ``before`` where its input was wrong already.
        notes: what couldn't be compared, and why.
    """

    backend: str
    layers: Sequence[LayerError]
    culprit: str | None
    culprit_part: str | None
    notes: Sequence[str] = ()


@dataclass(frozen=True)
class BisectReport:
    """Which layers of a half-precision file must stay in float32.

    Attributes:
        backend: the one that was bisected.
        blocks: how many blocks its graph has: each SN layer with what leads to it, and what is behind the last one.
        kept: the layers of the blocks that stay in float32, in order.
        passed: whether the result passes with these in float32. If not, it doesn't with all of them either: precision
            isn't the cause.
        minimal: whether it was tried to leave out each one alone, in vain.
        runs: how many files were tried.
        says: what came of it, for people.
        culprit, culprit_part: of the file in float32, where that doesn't pass: see `LayerReport`.
        file: where the mixed file was written.
    """

    backend: str
    blocks: int
    kept: Sequence[str]
    passed: bool
    minimal: bool
    runs: int
    says: Sequence[str]
    culprit: str | None = None
    culprit_part: str | None = None
    file: str | None = None


@dataclass(frozen=True)
class BackendLatency:
    """Times of one backend at one batch size, in ms of one call from arrays to arrays unless ``device`` says more.

    Attributes:
        median_ms, p90_ms, p99_ms: percentiles over the timed calls; calls: how many; warmup_calls: how many before them
            didn't count.
        ratio: median over rounds of its time over the baseline's in the same round; ratio_low, ratio_high: the 95 %
            interval (bootstrap over rounds). 1 for the baseline itself.
        throughput: samples a second at the median.
        device_ms: median time on the device alone; None on a CPU.
        memory_mib: what opening and running it added to the process's peak; None where it wasn't measured.
        times_ms: every timed call, in order, for the pictures; too many for a `repr`.
    """

    backend: str
    batch: int
    median_ms: float
    p90_ms: float
    p99_ms: float
    calls: int
    warmup_calls: int
    ratio: float
    ratio_low: float
    ratio_high: float
    throughput: float
    device_ms: float | None
    memory_mib: float | None
    times_ms: Sequence[float] = field(repr=False)


@dataclass(frozen=True)
class LayerTime:
    """How long one SN layer takes in one call, as its runtime's own profile has it.

    Attributes:
        layer: its name; index: its place in the order in which the layers run.
        batch: the samples of the call.
    """

    backend: str
    layer: str
    index: int
    batch: int
    ms: float


@dataclass(frozen=True)
class LoadResult:
    """One backend under the load of several callers, each of which waits for its answer before it asks again.

    Attributes:
        batch: samples of a call; concurrency: callers.
        calls: of all of them together; seconds: from the first's start to the last's end.
        throughput: samples a second.
        median_ms, p90_ms, p99_ms: what a caller waits.
    """

    backend: str
    batch: int
    concurrency: int
    calls: int
    seconds: float
    throughput: float
    median_ms: float
    p90_ms: float
    p99_ms: float


@dataclass(frozen=True)
class LatencyReport:
    """All timed backends.

    Attributes:
        baseline: whose time is 1.
        results: a row for each backend and batch size.
        warnings: what makes the figures doubtful and what to do about it.
        threads: threads within an operator.
        layer_times: of the backends that can tell them.
        load: throughput by the number of callers, where that was asked for.
    """

    baseline: str
    results: Sequence[BackendLatency]
    warnings: Sequence[str]
    threads: int | None
    layer_times: Sequence[LayerTime] = ()
    load: Sequence[LoadResult] = ()


@dataclass(frozen=True, repr=False)
class Assertion:
    """One limit that the user or the tolerance table set, and what was found.

    Attributes:
        text: for people: ``ort: logits: rel_l2 3.1e-7 <= 1e-5``.
    """

    text: str
    metric: str
    backend: str
    value: float
    limit: float
    passed: bool

    def __repr__(self) -> str:
        """A line: pytest shows ``result.failed`` where it isn't empty."""
        return f"<{'holds' if self.passed else 'fails'}: {self.text}>"


@dataclass(frozen=True, repr=False)
class CheckResult(Printed):
    """Everything that one check found.

    Attributes:
        command: what was typed, to be run again; nothing where Python called `sn_deploy.check.check`.
        machine: processor, memory, operating system, GPU; nothing that names the machine.
        data: what the samples were: ``{"kind": "random", "seed": 0, …}``; ``samples`` and ``batches`` were run.
        reference: the backend that the others are compared with.
        shard: "2/8" where this is a part; None for the whole, merged or not.
        partial: of a part, what `sn-deploy merge` needs to make the whole of it, exactly; None for the whole.
        sample_names: index -> file of the samples that ``parity`` names, where samples are files.
        importance: SN layers and their weights of IN, LN and BN, where a model file has them, as `inspect` gives them.
        passed: whether every assertion holds.
    """

    command: str
    version: str
    created: str
    machine: Mapping[str, Any]
    data: Mapping[str, Any]
    samples: int
    batches: int
    reference: str
    backends: Sequence[BackendInfo]
    parity: Mapping[str, Sequence[OutputParity]]
    metrics: Sequence[TaskMetric]
    assertions: Sequence[Assertion]
    layers: Sequence[LayerReport] = ()
    bisect: BisectReport | None = None
    latency: LatencyReport | None = None
    importance: Sequence[Mapping[str, Any]] = ()
    sample_names: Mapping[str, str] = field(default_factory=dict)
    shard: str | None = None
    partial: Mapping[str, Any] | None = None
    seconds: float = 0.0
    schema: int = SCHEMA

    @property
    def passed(self) -> bool:
        """Whether every assertion holds."""
        return not self.failed

    @property
    def failed(self) -> tuple[Assertion, ...]:
        """The limits that don't hold."""
        return tuple(assertion for assertion in self.assertions if not assertion.passed)

    def raise_if_failed(self, *, cause: str | None = None) -> None:
        """Refuses a result in which a limit doesn't hold.

        Args:
            cause: what is likely to be behind it, and how to mend it.

        Raises:
            CheckFailedError: with the first that doesn't, and the first layer that is off where layers were compared.
        """
        if self.passed:
            return
        layers = [f"{one.backend}: {one.culprit}" for one in self.layers if one.culprit is not None]
        first_off = f"; the first layer that is off: {', '.join(layers)}" if layers else ""
        raise CheckFailedError(
            f"{len(self.failed)} of {len(self.assertions)} limits don't hold, the first: {self.failed[0].text}"
            f"{first_off}",
            mend=cause,
        )

    def write_json(self, path: str | os.PathLike[str]) -> None:
        """Writes the document: docs/reference/check-json.md.

        Raises:
            SnDeployError: it can't be written.
        """
        from sn_deploy.check.document import write_document

        write_document(self, Path(path))

    def write_html(self, path: str | os.PathLike[str]) -> None:
        """Writes the report for people, one file that loads nothing.

        Raises:
            SnDeployError: it can't be written, or what it is drawn with isn't installed.
        """
        from sn_deploy.check.report.html import write_html

        write_html(as_json(self), path)

    def _line(self) -> str:
        others = ", ".join(backend.name for backend in self.backends if backend.name != self.reference)
        failed, limits = len(self.failed), len(self.assertions)
        verdict = f"{failed} of {limits} limits don't hold" if failed else "every limit holds"
        part = "" if self.shard is None else f"part {self.shard}, "
        return f"{part}{others} against {self.reference}, {self.samples} samples: {verdict}"

    def _print(self, console: Console) -> None:
        from sn_deploy.check.show import tables_from_result, verdict

        console.print(tables_from_result(self))
        console.print(verdict(self))


def as_json(result: CheckResult) -> dict[str, Any]:
    """The document: `CheckResult` with ``passed``, in dicts, lists, strings and finite numbers."""
    document = _plain(dataclasses.asdict(result) | {"passed": result.passed})
    assert isinstance(document, dict)
    return document


def as_json_object(part: Any) -> dict[str, Any]:
    """A part of the document, such as a `LayerReport`, as it stands there."""
    plain = _plain(dataclasses.asdict(part))
    assert isinstance(plain, dict)
    return plain


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value

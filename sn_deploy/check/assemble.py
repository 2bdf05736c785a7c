"""A comparison and what else is known, as one `CheckResult`: of a run, of a part, and of merged parts alike."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import sn_deploy
from sn_deploy.check.comparison import Comparison
from sn_deploy.check.result import Assertion, BisectReport, CheckResult, LatencyReport, OutputParity
from sn_deploy.check.shard import WHOLE, Shard


@dataclass(frozen=True)
class Circumstances:
    """What a result says beside its figures.

    Attributes:
        command: what was typed; machine: see `sn_deploy.check.machine.machine_facts`.
        data: what `Source.describe` gives.
        importance: see `CheckResult`.
        name_of: the file of a sample, where it is one.
        seconds: how long it took.
    """

    command: str
    machine: Mapping[str, Any]
    data: Mapping[str, Any]
    importance: Sequence[Mapping[str, Any]]
    seconds: float
    name_of: Callable[[int], str | None] = lambda sample: None


def result_from(
    comparison: Comparison,
    circumstances: Circumstances,
    *,
    shard: Shard = WHOLE,
    bisect: BisectReport | None = None,
    latency: LatencyReport | None = None,
    more: Sequence[Assertion] = (),
) -> CheckResult:
    """The whole result.

    Args:
        shard: the part that was run.
        more: assertions beside those of the comparison.
    """
    parity, part = comparison.parity(), None
    if shard != WHOLE:
        part = {"specification": comparison.specification(), "state": comparison.state()}
    return CheckResult(
        command=circumstances.command,
        version=sn_deploy.__version__,
        created=datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        machine=circumstances.machine,
        data=circumstances.data,
        samples=comparison.samples,
        batches=comparison.batches,
        reference=comparison.reference,
        backends=list(comparison.backends.values()),
        parity=parity,
        metrics=comparison.figures(),
        assertions=[*comparison.assertions(), *more],
        layers=comparison.layers.reports() if comparison.layers is not None else (),
        bisect=bisect,
        latency=latency,
        importance=circumstances.importance,
        sample_names=_sample_names(parity, circumstances),
        shard=str(shard) if shard != WHOLE else None,
        partial=part,
        seconds=round(circumstances.seconds, 3),
    )


def _sample_names(parity: Mapping[str, Sequence[OutputParity]], circumstances: Circumstances) -> dict[str, str]:
    named = {
        index for rows in parity.values() for row in rows for index in (row.max_abs_sample, row.worst_rel_l2_sample)
    }
    names = {str(index): circumstances.name_of(index) for index in sorted(named)}
    return {index: name for index, name in names.items() if name is not None}

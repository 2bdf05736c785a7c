"""The run of a check: every batch through every backend."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from sn_deploy.check.backends.open import Backends
from sn_deploy.check.batch import Batch, Source
from sn_deploy.check.comparison import Comparison
from sn_deploy.check.layers.comparison import LayerTolerance
from sn_deploy.check.layers.run import LayerRun
from sn_deploy.check.limits import Limits
from sn_deploy.check.metrics.choose import choose_metrics, why_unused
from sn_deploy.check.metrics.metric import Outputs
from sn_deploy.check.metrics.user import load_metric
from sn_deploy.errors import SnDeployError


@dataclass(frozen=True)
class Plan:
    """What is to be found out.

    Attributes:
        limits: what has to hold.
        task: see `sn_deploy.check.metrics.choose.choose_metrics`.
        user_metrics: ``PACKAGE.MODULE:CALLABLE`` of each, or the callable.
        label_classes: how many classes the labels tell apart, where that is known.
        layers: what is allowed after each SN layer; None where they aren't compared.
    """

    limits: Limits
    task: str = "auto"
    user_metrics: Sequence[str | Callable[..., Any]] = ()
    label_classes: int | None = None
    layers: LayerTolerance | None = None


def run_comparison(
    source: Source,
    backends: Backends,
    plan: Plan,
    on_batch: Callable[[Batch], None] = lambda batch: None,
    warn: Callable[[str], None] = lambda text: None,
) -> tuple[Comparison, Batch]:
    """Runs all batches.

    Args:
        on_batch: called after each.
        warn: told what of the data could do nothing.

    Returns:
        What was gathered, and the first batch.

    Raises:
        SnDeployError: bad data, a backend that fails, outputs that don't match, or limits of what isn't there.
    """
    layers = LayerRun(backends, plan.layers) if plan.layers is not None else None
    comparison, first = None, None
    with contextlib.closing(layers) if layers is not None else contextlib.nullcontext():
        for batch in source:
            outputs = {backend.info.name: backend.run(batch.inputs) for backend in backends.all}
            if comparison is None or first is None:
                comparison, first = _comparison(batch, outputs, backends, plan, layers, warn), batch
            elif (batch.labels is None) != (first.labels is None):
                raise SnDeployError("some batches have labels and some have none", where="--data")
            comparison.update(batch, outputs)
            if layers is not None:
                layers.update(batch)
            on_batch(batch)
    if comparison is None or first is None:
        raise SnDeployError("gives no batch", where="--data")
    return comparison, first


def _comparison(
    batch: Batch,
    outputs: Outputs,
    backends: Backends,
    plan: Plan,
    layers: LayerRun | None,
    warn: Callable[[str], None],
) -> Comparison:
    names = [backend.info.name for backend in backends.all]
    # A detector's boxes are (K, 4): no scores of K samples.
    reference = outputs[backends.reference]
    by_sample = {name: value for name, value in reference.items() if value.ndim and len(value) == batch.samples}
    metrics = choose_metrics(
        plan.task,
        by_sample,
        batch.labels,
        backends=names,
        reference=backends.reference,
        label_classes=plan.label_classes,
    )
    # Names of folders are there whatever the net is; labels that were given are for something.
    given = plan.task == "auto" and plan.label_classes is None and not plan.user_metrics
    if given and batch.labels is not None and not any(metric.spec["labelled"] for metric in metrics):
        warn(why_unused(batch.labels, by_sample))
    metrics += [load_metric(metric, names, backends.reference) for metric in plan.user_metrics]
    infos = [backend.info for backend in backends.all]
    names = list(outputs[backends.reference])
    own = layers.comparison if layers is not None else None
    return Comparison(infos, backends.reference, names, metrics, plan.limits, own)

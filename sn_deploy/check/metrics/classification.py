"""Classification: who has the same classes on top as the reference, and who is right.

A tie never counts in anybody's favour: a class is among the first k if fewer than k others score as high as it does
or higher. An output that is the same for all classes, as a dead network's, is right about nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from sn_deploy.check.batch import Batch
from sn_deploy.check.intervals import mcnemar, wilson
from sn_deploy.check.metrics.class_numbers import class_numbers
from sn_deploy.check.metrics.metric import Outputs
from sn_deploy.check.result import TaskMetric
from sn_deploy.errors import SnDeployError
from sn_deploy.folded import Float64Array
from sn_deploy.runtime.tensors import Array

# The k of top-1 and top-5; of a k that isn't below the number of classes nothing can be said.
TOP: Final = (1, 5)

# How many samples have several classes on top.
TIES: Final = "top1_ties"

Mask = npt.NDArray[np.bool_]


def leaders(scores: Float64Array) -> Mask:
    """(N, classes): the classes with a sample's largest score; several in a tie, none where a score is NaN."""
    mask: Mask = scores == scores.max(axis=1, keepdims=True)
    return mask


def rivals(scores: Float64Array, targets: Mask) -> npt.NDArray[np.int64]:
    """(N,): how many classes that are no targets score as high as the highest target, or higher: any target will do.

    All of them where a score is NaN or there is no target.
    """
    highest = np.where(targets, scores, -np.inf).max(axis=1, keepdims=True)
    count = np.count_nonzero((scores >= highest) & ~targets, axis=1)
    defined = targets.any(axis=1) & ~np.isnan(scores).any(axis=1)
    result: npt.NDArray[np.int64] = np.where(defined, count, scores.shape[1])
    return result


def targets_from_labels(labels: Array, classes: int, first: int = 0, output: str | None = None) -> Mask:
    """(N, classes): true at each sample's label.

    Raises:
        SnDeployError: a label is no class.
    """
    outside = np.flatnonzero((labels < 0) | (labels >= classes))
    if outside.size:
        raise SnDeployError(
            f"the label of sample {first + int(outside[0])} is {int(labels[outside[0]])}",
            where="labels",
            expected=f"0 to {classes - 1}, the classes of {'the output' if output is None else f'output {output}'}",
            mend="give the right ones with --labels FILE or none with --labels none, or name the output that they are "
            "of with --task classification:OUTPUT",
        )
    mask: Mask = np.arange(classes) == labels[:, None]
    return mask


def top1_agreement(reference: npt.ArrayLike, candidate: npt.ArrayLike) -> float:
    """Share of samples for which both scores (N, classes) have the same class on top."""
    return float(np.mean(rivals(_float64(candidate), leaders(_float64(reference))) == 0))


def accuracy(scores: npt.ArrayLike, labels: npt.ArrayLike) -> float:
    """Share of samples for which the largest of the scores (N, classes) is at the label (N,)."""
    values = _float64(scores)
    return float(np.mean(rivals(values, targets_from_labels(np.asarray(labels), values.shape[1])) == 0))


def _float64(scores: npt.ArrayLike) -> Float64Array:
    return np.asarray(scores).astype(np.float64)


@dataclass
class _Counts:
    """How many samples of one backend do what, at one k.

    Attributes:
        agree: have the reference's leading class among the first k.
        right: have the label there; only_this, only_reference: and the other one has not.
    """

    agree: int = 0
    right: int = 0
    only_this: int = 0
    only_reference: int = 0

    def add_labelled(self, right: Mask, reference_right: Mask) -> None:
        self.right += int(np.count_nonzero(right))
        self.only_this += int(np.count_nonzero(right & ~reference_right))
        self.only_reference += int(np.count_nonzero(reference_right & ~right))


class Classification:
    """Agreement and accuracy from one output of shape (N, classes).

    Args:
        output: its name; classes: how many.
        backends: all of them; reference: which the others are compared with.
        labelled: whether the batches have labels (N,), or one-hot.
    """

    def __init__(self, output: str, classes: int, backends: Sequence[str], reference: str, labelled: bool) -> None:
        self.spec = {"kind": "classification", "output": output, "classes": classes, "labelled": labelled}
        self._output, self._classes, self._reference, self._labelled = output, classes, reference, labelled
        self._ks = [k for k in TOP if k < classes]
        self._samples = 0
        self._ties = dict.fromkeys(backends, 0)
        self._counts = {name: {k: _Counts() for k in self._ks} for name in backends}

    def update(self, batch: Batch, outputs: Outputs) -> None:
        """See `Metric`."""
        self._samples += batch.samples
        scores = {name: _float64(outputs[name][self._output]) for name in self._counts}
        leading = leaders(scores[self._reference])
        labels = None
        if self._labelled and batch.labels is not None:
            numbers = class_numbers(batch.labels, 1, self._classes, batch.first)
            labels = targets_from_labels(numbers, self._classes, batch.first, self._output)
        for name, row in self._counts.items():
            own = leading if name == self._reference else leaders(scores[name])
            self._ties[name] += int(np.count_nonzero(np.count_nonzero(own, axis=1) > 1))
            of_leading = rivals(scores[name], leading)
            for k, counts in row.items():
                counts.agree += int(np.count_nonzero(of_leading < k))
            if labels is not None:
                of_label, expected = rivals(scores[name], labels), rivals(scores[self._reference], labels)
                for k, counts in row.items():
                    counts.add_labelled(of_label < k, expected < k)

    def state(self) -> dict[str, Any]:
        """See `Metric`."""
        counts = {name: {str(k): asdict(count) for k, count in row.items()} for name, row in self._counts.items()}
        return {"samples": self._samples, "ties": dict(self._ties), "counts": counts}

    def merge(self, state: Mapping[str, Any]) -> None:
        """See `Metric`."""
        self._samples += int(state["samples"])
        for name, row in self._counts.items():
            self._ties[name] += int(state["ties"][name])
            for k, count in row.items():
                for field, value in state["counts"][name][str(k)].items():
                    setattr(count, field, getattr(count, field) + int(value))

    def figures(self) -> list[TaskMetric]:
        """See `Metric`."""
        rows = []
        for k in self._ks:
            rows += [self._agreement(name, k) for name in self._counts if name != self._reference]
        if self._labelled:
            for k in self._ks:
                rows += [self._accuracy(name, k) for name in self._counts]
        return rows + [
            TaskMetric(TIES, name, ties / self._samples, self._output, count=self._samples)
            for name, ties in self._ties.items()
        ]

    def _agreement(self, name: str, k: int) -> TaskMetric:
        share = wilson(self._counts[name][k].agree, self._samples)
        return TaskMetric(f"top{k}_agreement", name, share.value, self._output, share.low, share.high, share.count)

    def _accuracy(self, name: str, k: int) -> TaskMetric:
        count, reference = self._counts[name][k], self._counts[self._reference][k]
        share = wilson(count.right, self._samples)
        compared = name != self._reference
        return TaskMetric(
            f"top{k}_accuracy",
            name,
            share.value,
            self._output,
            share.low,
            share.high,
            share.count,
            p_value=mcnemar(count.only_this, count.only_reference) if compared else None,
            difference=(count.right - reference.right) / self._samples if compared else None,
        )

"""Segmentation: which pixels have the same class as the reference's, and mIoU.

A pixel's class is the one with the largest score. Where several share it, or a score is NaN, the pixel has no class: it
is wrong, in whatever it is compared with. Pixels to which the reference gives no class are left out of the agreement.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from sn_deploy.check.batch import Batch
from sn_deploy.check.metrics.class_numbers import class_numbers
from sn_deploy.check.metrics.metric import Outputs
from sn_deploy.check.result import TaskMetric
from sn_deploy.errors import SnDeployError
from sn_deploy.runtime.tensors import Array

# Labels that mean "don't count this pixel": Pascal VOC's and most others' 255, where that is no class, and any negative
# number.
IGNORED_LABEL: Final = 255

IntArray = npt.NDArray[np.int64]


def classes_from_scores(scores: Array) -> IntArray:
    """(N, classes, H, W) -> (N, H, W): each pixel's class; ``classes`` where it has none."""
    # Class by class: argmax along a strided axis takes several times as long, and tells no ties.
    best = _comparable(scores[:, 0]).copy()
    found = np.zeros(best.shape, dtype=np.int64)
    tied, undefined = np.zeros(best.shape, dtype=np.bool_), np.isnan(best)
    for index in range(1, scores.shape[1]):
        plane = _comparable(scores[:, index])
        above = plane > best
        tied = (tied & ~above) | (plane == best)
        undefined |= np.isnan(plane)
        np.copyto(best, plane, where=above)
        found[above] = index
    found[tied | undefined] = scores.shape[1]
    return found


def _comparable(plane: Array) -> Array:
    # NumPy compares half precision in software.
    return plane.astype(np.float32) if plane.dtype.itemsize == 2 else plane


class Segmentation:
    """Agreement, and accuracy with labels (N, H, W), from one output of shape (N, classes, H, W).

    Args: see `sn_deploy.check.metrics.classification.Classification`.
    """

    def __init__(self, output: str, classes: int, backends: Sequence[str], reference: str, labelled: bool) -> None:
        self.spec = {"kind": "segmentation", "output": output, "classes": classes, "labelled": labelled}
        self._output, self._classes, self._reference = output, classes, reference
        self._agreement = {name: _Counts.none(classes) for name in backends if name != reference}
        self._accuracy = {name: _Counts.none(classes) for name in backends} if labelled else {}

    def update(self, batch: Batch, outputs: Outputs) -> None:
        """See `Metric`."""
        predicted = {name: classes_from_scores(arrays[self._output]) for name, arrays in outputs.items()}
        reference = predicted[self._reference]
        defined = reference < self._classes
        for name, counts in self._agreement.items():
            counts.add(reference[defined], predicted[name][defined])
        if self._accuracy and batch.labels is not None:
            labels = class_numbers(batch.labels, 3, self._classes, batch.first)
            counted = self._counted(labels, reference.shape, batch.first)
            truth = labels[counted].astype(np.int64)
            for name, counts in self._accuracy.items():
                counts.add(truth, predicted[name][counted])

    def _counted(self, labels: Array, shape: tuple[int, ...], first: int) -> npt.NDArray[np.bool_]:
        if labels.shape != shape:
            raise SnDeployError(
                f"have shape {labels.shape}", where="labels", expected=f"the output's without its classes, {shape}"
            )
        counted: npt.NDArray[np.bool_] = labels >= 0
        if self._classes <= IGNORED_LABEL:
            counted &= labels != IGNORED_LABEL
        wrong = np.argwhere(counted & (labels >= self._classes))
        if wrong.size:
            sample, *_ = wrong[0]
            ignored = f"{IGNORED_LABEL} or " if self._classes <= IGNORED_LABEL else ""
            raise SnDeployError(
                f"a pixel of sample {first + int(sample)} has label {int(labels[tuple(wrong[0])])}",
                where="labels",
                expected=f"0 to {self._classes - 1}, or {ignored}below 0 for a pixel that doesn't count",
            )
        return counted

    def state(self) -> dict[str, Any]:
        """See `Metric`."""
        return {
            kind: {name: _sparse(counts.table) for name, counts in rows.items()}
            for kind, rows in (("agreement", self._agreement), ("accuracy", self._accuracy))
        }

    def merge(self, state: Mapping[str, Any]) -> None:
        """See `Metric`."""
        for kind, rows in (("agreement", self._agreement), ("accuracy", self._accuracy)):
            for name, counts in rows.items():
                for place, count in state[kind][name].items():
                    counts.table.flat[int(place)] += int(count)

    def figures(self) -> list[TaskMetric]:
        """See `Metric`."""
        rows = [self._share("pixel_agreement", name, counts) for name, counts in self._agreement.items()]
        rows += [self._miou("miou_agreement", name, counts) for name, counts in self._agreement.items()]
        for make, title in ((self._share, "pixel_accuracy"), (self._miou, "miou")):
            expected = {name: make(title, name, counts) for name, counts in self._accuracy.items()}
            rows += [self._with_difference(row, expected[self._reference]) for row in expected.values()]
        return rows

    def _share(self, title: str, name: str, counts: _Counts) -> TaskMetric:
        # No interval: neighbouring pixels are far from independent.
        truth, _, both = counts.table
        pixels = int(truth.sum())
        return TaskMetric(title, name, int(both.sum()) / pixels if pixels else math.nan, self._output, count=pixels)

    def _miou(self, title: str, name: str, counts: _Counts) -> TaskMetric:
        truth, predicted, both = counts.table
        either = truth + predicted - both
        present = either > 0
        value = math.fsum(both[present] / either[present]) / int(present.sum()) if present.any() else math.nan
        return TaskMetric(title, name, value, self._output, count=int(truth.sum()))

    def _with_difference(self, row: TaskMetric, reference: TaskMetric) -> TaskMetric:
        if row.backend == self._reference:
            return row
        return TaskMetric(row.name, row.backend, row.value, row.output, count=row.count,
                          difference=row.value - reference.value)  # fmt: skip


@dataclass(frozen=True)
class _Counts:
    """Pixels of one backend by class: what mIoU is made of. A table of every class with every other grows too large.

    Attributes:
        table: (3, classes): those of the truth (the reference's class, or the label), of the backend, of both.
    """

    table: IntArray

    @classmethod
    def none(cls, classes: int) -> _Counts:
        return cls(np.zeros((3, classes), dtype=np.int64))

    def add(self, truth: IntArray, predicted: IntArray) -> None:
        """Takes in pixels, of which a prediction beyond the classes is none."""
        classes = self.table.shape[1]
        for row, found in zip(self.table, (truth, predicted, truth[truth == predicted]), strict=True):
            row += np.bincount(found, minlength=classes)[:classes]


def _sparse(table: IntArray) -> dict[str, int]:
    return {str(place): int(table.flat[place]) for place in np.flatnonzero(table)}

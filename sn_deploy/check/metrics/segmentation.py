"""Segmentation: which pixels have the same class as the reference's, and mIoU.

A pixel's class is the one with the largest score. Where several share it, or a score is NaN, the pixel has no class: it
is wrong, in whatever it is compared with. Pixels to which the reference gives no class are left out of the agreement.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from sn_deploy.check.batch import Batch
from sn_deploy.check.metrics.metric import Outputs
from sn_deploy.check.result import TaskMetric
from sn_deploy.errors import SnDeployError
from sn_deploy.runtime.tensors import Array

# Labels that mean "don't count this pixel": Pascal VOC's and most others' 255, and any negative number.
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
        # Rows are the truth (the reference's classes, or the labels), columns what a backend says, "none" the last.
        shape = (classes, classes + 1)
        self._agreement = {name: np.zeros(shape, dtype=np.int64) for name in backends if name != reference}
        self._accuracy = {name: np.zeros(shape, dtype=np.int64) for name in backends} if labelled else {}

    def update(self, batch: Batch, outputs: Outputs) -> None:
        """See `Metric`."""
        predicted = {name: classes_from_scores(arrays[self._output]) for name, arrays in outputs.items()}
        reference = predicted[self._reference]
        for name, table in self._agreement.items():
            table += self._confusion(reference, predicted[name], reference < self._classes)
        if self._accuracy and batch.labels is not None:
            counted = self._counted(batch.labels, reference.shape, batch.first)
            for name, table in self._accuracy.items():
                table += self._confusion(batch.labels, predicted[name], counted)

    def _confusion(self, truth: Array, predicted: IntArray, counted: npt.NDArray[np.bool_]) -> IntArray:
        width = self._classes + 1
        places = truth[counted].astype(np.int64) * width + predicted[counted]
        return np.bincount(places, minlength=self._classes * width).reshape(self._classes, width)

    def _counted(self, labels: Array, shape: tuple[int, ...], first: int) -> npt.NDArray[np.bool_]:
        if labels.shape != shape:
            raise SnDeployError(
                f"have shape {labels.shape}", where="labels", expected=f"the output's without its classes, {shape}"
            )
        counted: npt.NDArray[np.bool_] = (labels >= 0) & (labels != IGNORED_LABEL)
        wrong = np.argwhere(counted & (labels >= self._classes))
        if wrong.size:
            sample, *_ = wrong[0]
            raise SnDeployError(
                f"a pixel of sample {first + int(sample)} has label {int(labels[tuple(wrong[0])])}",
                where="labels",
                expected=f"0 to {self._classes - 1}, or {IGNORED_LABEL} or below 0 for a pixel that doesn't count",
            )
        return counted

    def state(self) -> dict[str, Any]:
        """See `Metric`."""
        return {
            kind: {name: _sparse(table) for name, table in tables.items()}
            for kind, tables in (("agreement", self._agreement), ("accuracy", self._accuracy))
        }

    def merge(self, state: Mapping[str, Any]) -> None:
        """See `Metric`."""
        for kind, tables in (("agreement", self._agreement), ("accuracy", self._accuracy)):
            for name, table in tables.items():
                for place, count in state[kind][name].items():
                    table.flat[int(place)] += int(count)

    def figures(self) -> list[TaskMetric]:
        """See `Metric`."""
        rows = [self._share("pixel_agreement", name, table) for name, table in self._agreement.items()]
        rows += [self._miou("miou_agreement", name, table) for name, table in self._agreement.items()]
        for make, title in ((self._share, "pixel_accuracy"), (self._miou, "miou")):
            expected = {name: make(title, name, table) for name, table in self._accuracy.items()}
            rows += [self._with_difference(row, expected[self._reference]) for row in expected.values()]
        return rows

    def _share(self, title: str, name: str, table: IntArray) -> TaskMetric:
        # No interval: neighbouring pixels are far from independent.
        pixels = int(table.sum())
        share = int(np.trace(table)) / pixels if pixels else math.nan
        return TaskMetric(title, name, share, self._output, count=pixels)

    def _miou(self, title: str, name: str, table: IntArray) -> TaskMetric:
        both = np.diagonal(table)
        either = table.sum(axis=1) + table[:, : self._classes].sum(axis=0) - both
        present = either > 0
        value = math.fsum(both[present] / either[present]) / int(present.sum()) if present.any() else math.nan
        return TaskMetric(title, name, value, self._output, count=int(table.sum()))

    def _with_difference(self, row: TaskMetric, reference: TaskMetric) -> TaskMetric:
        if row.backend == self._reference:
            return row
        return TaskMetric(row.name, row.backend, row.value, row.output, count=row.count,
                          difference=row.value - reference.value)  # fmt: skip


def _sparse(table: IntArray) -> dict[str, int]:
    return {str(place): int(table.flat[place]) for place in np.flatnonzero(table)}

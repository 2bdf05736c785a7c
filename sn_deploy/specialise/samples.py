"""Samples to measure on: which are for choosing and which for the proof, and how far an output is from the source's."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np

from sn_deploy.check.batch import Batch
from sn_deploy.check.metrics.class_numbers import are_class_numbers, class_numbers
from sn_deploy.check.metrics.classification import leaders, rivals, targets_from_labels
from sn_deploy.check.metrics.scores import are_scores
from sn_deploy.compare.output_difference import check_shape_and_type, comparable
from sn_deploy.compare.parity import SMALLEST_SQUARES
from sn_deploy.errors import SnDeployError
from sn_deploy.runtime.tensors import Array, is_exact
from sn_deploy.specialise.budget import Budget

Run = Callable[[Mapping[str, Array]], Mapping[str, Array]]

# Inputs and reference outputs up to here stay in memory; beyond it they are read and computed anew in each pass.
_MOST_BYTES_KEPT: Final = 2 << 30

# On the samples for choosing, a class counts as another if twice the difference would make it so: other samples are
# nearer to a border than these.
SAFETY: Final = 2.0


@dataclass(frozen=True)
class Error:
    """How far outputs are from the source's.

    Attributes:
        samples: how many were compared.
        rel_l2: the largest relative L2 error of an output.
        rel_l2_bound: the same, two standard errors above: what other samples of this kind will keep.
        top1: how far the accuracy falls; without labels the share of samples with another class on top, than which it
            can't fall further. None without scores (N, classes).
        top1_bound: the share of samples that were right and aren't, or have another class on top, were the difference
            `SAFETY` times as large.
        changed: share of samples with another class on top.
        accuracy, accuracy_before: share of samples that are right; None without labels, and with labels by which
            none is right before.
    """

    samples: int
    rel_l2: float
    rel_l2_bound: float
    top1: float | None = None
    top1_bound: float | None = None
    changed: float | None = None
    accuracy: float | None = None
    accuracy_before: float | None = None

    def within(self, budget: Budget, *, bound: bool = False) -> bool:
        """Whether it is within the budget: itself, or (``bound``) with the margin that other samples need."""
        rel_l2, top1 = (self.rel_l2_bound, self.top1_bound) if bound else (self.rel_l2, self.top1)
        fits_l2 = budget.rel_l2 is None or rel_l2 <= budget.rel_l2
        fits_top1 = budget.top1 is None or (top1 is not None and top1 <= budget.top1)
        return math.isfinite(rel_l2) and fits_l2 and fits_top1


class Yardstick:
    """Some samples and what the source makes of them.

    Args:
        source: the batches; iterated again for each pass unless all fits into memory.
        reference: runs the source.
        most: take the first batches until there are so many samples; None for all.
        where: what errors call the source.

    Raises:
        SnDeployError: there are no samples, or the source makes none but infinite numbers of one.
    """

    def __init__(
        self, source: Iterable[Batch], reference: Run, most: int | None = None, *, where: str = "the file"
    ) -> None:
        self._where = where
        self._source, self._reference, self._most = source, reference, most
        kept: list[tuple[Batch, Mapping[str, Array]]] | None = []
        size = 0
        self.samples = 0
        for batch, outputs in self._pairs():
            self._check_finite(outputs)
            self.samples += batch.samples
            size += sum(array.nbytes for array in (*batch.inputs.values(), *outputs.values()))
            if kept is not None and size <= _MOST_BYTES_KEPT:
                kept.append((batch, outputs))
            else:
                kept = None
        self._kept = kept
        if not self.samples:
            raise SnDeployError("there are no samples", where="--data")

    def error_of(self, run: Run) -> Error:
        """How far another file's outputs are from the source's."""
        sums: dict[str, _Sums] = {}
        classes = _Classes(getattr(self._source, "label_classes", None))
        for batch, expected in self._kept if self._kept is not None else self._pairs():
            actual = run(batch.inputs)
            for name, reference in expected.items():
                where = f"{self._where}, output {name}"
                check_shape_and_type(reference, actual.get(name), whose="what was made of it", where=where)
                if not is_exact(reference.dtype):
                    sums.setdefault(name, _Sums()).add(reference, actual[name], batch.samples)
            classes.add(batch, expected, actual)
        if not sums:
            raise SnDeployError("has no floating-point output to compare", where=self._where)
        if not any(one.elements for one in sums.values()):
            raise SnDeployError(
                "no floating-point output has an element on these samples, so nothing can be compared",
                where=self._where,
                mend="give usual samples with --data",
            )
        worst = max(sums.values(), key=lambda one: one.rel_l2)
        return Error(self.samples, worst.rel_l2, max(one.bound for one in sums.values()), *classes.figures())

    def first_inputs(self, samples: int) -> dict[str, Array]:
        """The inputs of the first samples, of one batch at most."""
        batch = next(iter(self._source)) if self._kept is None else self._kept[0][0]
        return {name: array[:samples] if array.ndim else array for name, array in batch.inputs.items()}

    def batches(self) -> Iterator[Batch]:
        """The samples."""
        for batch, _ in self._kept if self._kept is not None else self._pairs():
            yield batch

    def _check_finite(self, outputs: Mapping[str, Array]) -> None:
        for name, array in outputs.items():
            if not comparable(array).all():
                raise SnDeployError(
                    "is not finite on this data, so nothing can be compared",
                    where=f"{self._where}, output {name}",
                    mend="give usual samples with --data, or a size that the network takes: --input 1x3x512x512",
                )

    def _pairs(self) -> Iterator[tuple[Batch, Mapping[str, Array]]]:
        taken = 0
        for batch in self._source:
            yield batch, self._reference(batch.inputs)
            taken += batch.samples
            if self._most is not None and taken >= self._most:
                return


class _Sums:
    """Squares of an output and of its error, sample by sample."""

    def __init__(self) -> None:
        self.elements = 0
        self._differ = False
        self._squares: list[np.ndarray] = []
        self._errors: list[np.ndarray] = []

    def add(self, reference: Array, actual: Array, samples: int) -> None:
        rows = samples if reference.ndim and reference.shape[0] == samples else 1
        expected = reference.astype(np.float64).reshape(rows, -1)
        with np.errstate(invalid="ignore"):
            difference = actual.astype(np.float64).reshape(rows, -1) - expected
        self.elements += expected.size
        self._differ |= bool(difference.any())
        self._squares.append((expected**2).sum(axis=1))
        self._errors.append((difference**2).sum(axis=1))

    @property
    def rel_l2(self) -> float:
        return self._ratio(float(np.concatenate(self._errors).sum()))

    @property
    def bound(self) -> float:
        errors = np.concatenate(self._errors)
        spread = float(errors.std(ddof=1)) if len(errors) > 1 else 0.0
        return self._ratio(float(errors.sum()) + 2 * spread * math.sqrt(len(errors)))

    def _ratio(self, error: float) -> float:
        total = float(np.concatenate(self._squares).sum())
        if self._differ and total < SMALLEST_SQUARES and error < SMALLEST_SQUARES:
            return math.nan  # they are too small to have squares
        return math.sqrt(error / total) if total > 0 else (0.0 if error == 0 else math.inf)


class _Classes:
    """Which classes are on top; nothing where no output, or more than one, is scores."""

    def __init__(self, label_classes: int | None) -> None:
        self._samples = self._changed = self._nearly_changed = 0
        self._right = self._right_before = self._nearly_lost = 0
        self._known = self._labelled = True
        self._label_classes = label_classes

    def add(self, batch: Batch, expected: Mapping[str, Array], actual: Mapping[str, Array]) -> None:
        scores = [name for name, value in expected.items() if are_scores(value, batch.samples)]
        if len(scores) != 1 or not self._known:
            self._known = False
            return
        before, after = (side[scores[0]].astype(np.float64) for side in (expected, actual))
        doubled = before + SAFETY * (after - before)
        leading = leaders(before)
        self._samples += len(before)
        self._changed += int(np.count_nonzero(rivals(after, leading)))
        self._nearly_changed += int(np.count_nonzero(rivals(doubled, leading)))
        labels, classes = batch.labels, before.shape[1]
        of_others = self._label_classes not in (None, classes)
        if labels is None or not are_class_numbers(labels, 1, classes) or of_others:
            self._labelled = False
            return
        right = targets_from_labels(class_numbers(labels, 1, classes), classes, batch.first)
        was_right = rivals(before, right) == 0
        self._right_before += int(np.count_nonzero(was_right))
        self._right += int(np.count_nonzero(rivals(after, right) == 0))
        self._nearly_lost += int(np.count_nonzero(was_right & (rivals(doubled, right) > 0)))

    def figures(self) -> tuple[float | None, ...]:
        """As the last attributes of `Error`, from ``top1`` on."""
        if not self._known:
            return (None,) * 5
        changed = self._changed / self._samples
        # Where none is right, no accuracy could be lost, whatever becomes of the outputs.
        if not self._labelled or not self._right_before:
            return changed, self._nearly_changed / self._samples, changed, None, None
        accuracy, before = self._right / self._samples, self._right_before / self._samples
        lost = (self._right_before - self._right) / self._samples
        return lost, self._nearly_lost / self._samples, changed, accuracy, before

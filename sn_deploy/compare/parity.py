"""How far one output is from another: over a stream of batches, in any order, exactly mergeable.

Everything is computed in float64 from numbers of each single batch, and these are put together without rounding
(`ExactSum`), counted, or compared for the largest. So the result of a whole doesn't depend on how its batches are split
over runs.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from sn_deploy.compare.exact import ExactSum
from sn_deploy.compare.histogram import Histogram
from sn_deploy.errors import CheckFailedError
from sn_deploy.folded import Float64Array
from sn_deploy.runtime.tensors import Array

PERCENTS: Final = ("50", "90", "99", "99.9")

# Elements that are worked on at a time: their float64 copies stay in a core's cache.
_BLOCK: Final = 1 << 14

# Sums of squares below it have lost digits, or all of them: float64 ends at 5e-324.
SMALLEST_SQUARES: Final = 1e-290


@dataclass(frozen=True)
class Parity:
    """How far one output is from another, over all samples. Without elements to compare the figures are 0.

    Attributes:
        elements: how many numbers were compared.
        max_abs: largest absolute difference; ``max_abs_sample`` is the index of its sample.
        max_rel: largest difference relative to the larger of the element and the root mean square of its batch's
            reference: an element that is near zero by chance says nothing about precision.
        rel_l2: L2 norm of the difference over that of the reference; ``worst_rel_l2`` that of the worst sample,
            ``worst_rel_l2_sample``.
        cosine: of the two as vectors; snr_db: 20·log10 of 1 / rel_l2, infinite (None in JSON) for equal tensors.
        percentiles: "50", "90", "99", "99.9" -> absolute difference that so many per cent stay at or below, at most 1 %
            above the smallest such number.
        reference_nonfinite, nonfinite: NaN and infinite elements of the reference, of the other.
        nonfinite_mismatch: elements that are infinite in one and not the same in the other, or NaN in either: a NaN is
            never right.
    """

    elements: int
    max_abs: float
    max_abs_sample: int
    max_rel: float
    rel_l2: float
    worst_rel_l2: float
    worst_rel_l2_sample: int
    cosine: float
    snr_db: float
    percentiles: Mapping[str, float]
    reference_nonfinite: int
    nonfinite: int
    nonfinite_mismatch: int


def compare(reference: npt.ArrayLike, candidate: npt.ArrayLike) -> Parity:
    """Compares two arrays of one shape; their first axis is that of the samples.

    Raises:
        CheckFailedError: the shapes differ.
    """
    expected, actual = np.asarray(reference), np.asarray(candidate)
    differences = Differences()
    differences.update(expected, actual, first=0, samples=len(expected) if expected.ndim else 1)
    return differences.parity()


@dataclass
class _Largest:
    """The largest of some values and the index that it stands at; the smallest such index."""

    value: float = 0.0
    index: int = 0

    def offer(self, value: float, index: int) -> None:
        if value > self.value or (value == self.value and index < self.index):
            self.value, self.index = value, index

    def state(self) -> list[Any]:
        return [self.value.hex(), self.index]


@dataclass
class Differences:
    """The differences of one output from the reference's, batch after batch."""

    reference_squares: ExactSum = field(default_factory=ExactSum)
    products: ExactSum = field(default_factory=ExactSum)  # of the reference and the difference
    squares: ExactSum = field(default_factory=ExactSum)  # of the difference
    histogram: Histogram = field(default_factory=Histogram)
    largest: _Largest = field(default_factory=_Largest)
    worst: _Largest = field(default_factory=_Largest)
    max_rel: float = 0.0
    reference_nonfinite: int = 0
    nonfinite: int = 0
    nonfinite_mismatch: int = 0
    dtype: str | None = None
    shape: tuple[int | str, ...] | None = None

    def update(self, reference: Array, candidate: Array, *, first: int, samples: int, where: str | None = None) -> None:
        """Takes in one batch.

        Args:
            reference, candidate: of one shape; (samples, …), or without a batch axis, and then the sample that they
                count as is the batch's first.
            first: index of the first sample in the whole data.

        Raises:
            CheckFailedError: the shapes differ, or the candidate's type or rank is another than in earlier batches.
        """
        if reference.shape != candidate.shape:
            raise CheckFailedError(
                f"has shape {candidate.shape}", where=where, expected=f"the reference's, {reference.shape}"
            )
        has_batch_axis = candidate.ndim > 0 and candidate.shape[0] == samples
        self._note_type(candidate, has_batch_axis, where)
        rows = samples if has_batch_axis else 1
        if candidate.size:
            self._update_rows(reference.reshape(rows, -1), candidate.reshape(rows, -1), first)

    def _note_type(self, candidate: Array, has_batch_axis: bool, where: str | None) -> None:
        shape = ("N", *candidate.shape[1:]) if has_batch_axis else candidate.shape
        dtype = str(candidate.dtype)
        if self.dtype is None or self.shape is None:
            self.dtype, self.shape = dtype, shape
            return
        self._join_type(dtype, shape, where)

    def _join_type(self, dtype: str, shape: tuple[int | str, ...], where: str | None) -> None:
        assert self.shape is not None
        if dtype != self.dtype or len(shape) != len(self.shape):
            raise CheckFailedError(
                f"is {dtype} of rank {len(shape)} in one batch and {self.dtype} of rank {len(self.shape)} in another",
                where=where,
            )
        self.shape = tuple(old if old == new else "?" for old, new in zip(self.shape, shape, strict=True))

    def _update_rows(self, reference: Array, candidate: Array, first: int) -> None:
        rows, _ = reference.shape
        sums = np.zeros((3, rows))  # squares of the reference, its products with the difference, squares of that
        largest = np.zeros(rows)
        blocks: list[tuple[float, slice, slice]] = []
        left_out = 0
        for row, column in _blocks(*reference.shape):
            block = _difference(reference[row, column], candidate[row, column])
            left_out += self._count_nonfinite(block)
            sums[:, row] += block.sums
            size = block.sizes()
            np.maximum(largest[row], size.max(axis=1), out=largest[row])
            self.histogram.add(size)
            blocks.append((float(size.max()), row, column))
        self.histogram.leave_out_zeros(left_out)
        for total, terms in zip((self.reference_squares, self.products, self.squares), sums, strict=True):
            total.add(terms.tolist())
        index = int(np.argmax(largest))
        self.largest.offer(float(largest[index]), first + index)
        errors = np.nan_to_num(ratio(np.sqrt(sums[2]), np.sqrt(sums[0])), nan=np.inf, posinf=np.inf)
        index = int(np.argmax(errors))
        self.worst.offer(float(errors[index]), first + index)
        rms = math.sqrt(sums[0].sum() / max(reference.size - left_out, 1))
        self.max_rel = _max_rel(reference, candidate, rms, blocks, self.max_rel)

    def _count_nonfinite(self, block: _Block) -> int:
        """Counts what is not finite in either, makes it equal in both, and gives its number."""
        if block.is_finite:
            return 0
        bad_reference, bad_candidate = ~np.isfinite(block.reference), ~np.isfinite(block.candidate)
        bad = bad_reference | bad_candidate
        self.reference_nonfinite += int(np.count_nonzero(bad_reference))
        self.nonfinite += int(np.count_nonzero(bad_candidate))
        # A NaN equals nothing, itself included.
        self.nonfinite_mismatch += int(np.count_nonzero(block.reference[bad] != block.candidate[bad]))
        block.leave_out(bad)
        return int(np.count_nonzero(bad))

    def parity(self) -> Parity:
        """The figures of all batches so far."""
        reference, squares = self.reference_squares.value, self.squares.value
        rel_l2 = float(ratio(math.sqrt(squares), math.sqrt(reference)))
        largest = self.largest.value
        if largest > 0 and squares < SMALLEST_SQUARES and reference < SMALLEST_SQUARES:
            rel_l2 = math.nan  # they are too small to have squares, and differ
        percentiles = {percent: min(self.histogram.percentile(float(percent)), largest) for percent in PERCENTS}
        elements = self.histogram.total
        return Parity(
            elements=elements,
            max_abs=largest,
            max_abs_sample=self.largest.index,
            max_rel=self.max_rel,
            rel_l2=rel_l2,
            worst_rel_l2=self.worst.value,
            worst_rel_l2_sample=self.worst.index,
            cosine=self._cosine(),
            snr_db=math.inf if rel_l2 == 0 else -20 * math.log10(rel_l2),
            percentiles=percentiles if elements else dict.fromkeys(PERCENTS, 0.0),
            reference_nonfinite=self.reference_nonfinite,
            nonfinite=self.nonfinite,
            nonfinite_mismatch=self.nonfinite_mismatch,
        )

    def _cosine(self) -> float:
        """r·a / (|r| |a|) with a = r + d; 1 where both are zero, 0 where one is."""
        reference = self.reference_squares.value
        product = (self.reference_squares + self.products).value
        candidate = (self.reference_squares + self.products + self.products + self.squares).value
        if reference <= 0 or candidate <= 0:
            return 1.0 if reference <= 0 and self.squares.value == 0 else 0.0
        return min(max(product / (math.sqrt(reference) * math.sqrt(candidate)), -1.0), 1.0)

    def merge(self, other: Differences) -> None:
        """Takes in all that the other one has seen.

        Raises:
            CheckFailedError: their types or ranks differ.
        """
        self.reference_squares += other.reference_squares
        self.products += other.products
        self.squares += other.squares
        self.histogram.merge(other.histogram)
        self.largest.offer(other.largest.value, other.largest.index)
        self.worst.offer(other.worst.value, other.worst.index)
        self.max_rel = max(self.max_rel, other.max_rel)
        self.reference_nonfinite += other.reference_nonfinite
        self.nonfinite += other.nonfinite
        self.nonfinite_mismatch += other.nonfinite_mismatch
        if self.dtype is None:
            self.dtype, self.shape = other.dtype, other.shape
        elif other.dtype is not None and other.shape is not None:
            self._join_type(other.dtype, other.shape, None)

    def state(self) -> dict[str, Any]:
        """Everything, as JSON holds it exactly."""
        return {
            "reference_squares": self.reference_squares.state(),
            "products": self.products.state(),
            "squares": self.squares.state(),
            "histogram": self.histogram.state(),
            "largest": self.largest.state(),
            "worst": self.worst.state(),
            "max_rel": self.max_rel.hex(),
            "reference_nonfinite": self.reference_nonfinite,
            "nonfinite": self.nonfinite,
            "nonfinite_mismatch": self.nonfinite_mismatch,
            "dtype": self.dtype,
            "shape": None if self.shape is None else list(self.shape),
        }

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> Differences:
        """What `state` wrote.

        Raises:
            KeyError, TypeError, ValueError: it isn't that.
        """
        return cls(
            reference_squares=ExactSum.from_state(state["reference_squares"]),
            products=ExactSum.from_state(state["products"]),
            squares=ExactSum.from_state(state["squares"]),
            reference_nonfinite=int(state["reference_nonfinite"]),
            nonfinite=int(state["nonfinite"]),
            nonfinite_mismatch=int(state["nonfinite_mismatch"]),
            histogram=Histogram.from_state(state["histogram"]),
            largest=_Largest(float.fromhex(state["largest"][0]), int(state["largest"][1])),
            worst=_Largest(float.fromhex(state["worst"][0]), int(state["worst"][1])),
            max_rel=float.fromhex(state["max_rel"]),
            dtype=state["dtype"],
            shape=None if state["shape"] is None else tuple(state["shape"]),
        )


@dataclass
class _Block:
    """Some columns of some rows in float64: the reference, the candidate, their difference."""

    reference: Float64Array
    candidate: Float64Array
    difference: Float64Array
    sums: Float64Array = dataclasses.field(init=False)  # (3, rows), see Differences._update_rows

    def __post_init__(self) -> None:
        self._sum()

    def _sum(self) -> None:
        # einsum and not BLAS: what it gives doesn't depend on the number of threads.
        with np.errstate(over="ignore", invalid="ignore"):
            self.sums = np.stack(
                [
                    np.einsum("ij,ij->i", self.reference, self.reference),
                    np.einsum("ij,ij->i", self.reference, self.difference),
                    np.einsum("ij,ij->i", self.difference, self.difference),
                ]
            )

    @property
    def is_finite(self) -> bool:
        """True only if every element is; a false alarm costs time and nothing else."""
        return bool(np.isfinite(self.sums).all())

    def leave_out(self, elements: npt.NDArray[np.bool_]) -> None:
        """Makes these elements 0 in both."""
        self.reference, self.candidate, self.difference = (
            np.where(elements, 0.0, values) for values in (self.reference, self.candidate, self.difference)
        )
        self._sum()

    def sizes(self) -> Float64Array:
        """The absolute difference."""
        return np.abs(self.difference)


def _difference(reference: Array, candidate: Array) -> _Block:
    expected, actual = reference.astype(np.float64), candidate.astype(np.float64)
    with np.errstate(invalid="ignore", over="ignore"):
        difference = actual - expected
    if reference.dtype.kind in "iu" and candidate.dtype.kind in "iu":
        # Beyond 2^53 float64 doesn't tell neighbours apart.
        difference = np.where((difference == 0) & (reference != candidate), 1.0, difference)
    return _Block(expected, actual, difference)


def _blocks(rows: int, columns: int) -> Iterator[tuple[slice, slice]]:
    """Slices that cover a matrix of that shape, each of `_BLOCK` elements or fewer."""
    height, width = max(1, _BLOCK // columns), min(columns, _BLOCK)
    for row in range(0, rows, height):
        for column in range(0, columns, width):
            yield slice(row, min(row + height, rows)), slice(column, column + width)


def _max_rel(
    reference: Array, candidate: Array, rms: float, blocks: list[tuple[float, slice, slice]], best: float
) -> float:
    """The larger of ``best`` and the largest |difference| / max(|reference|, rms)."""
    for largest, row, column in sorted(blocks, key=lambda block: -block[0]):
        if rms > 0 and largest / rms <= best:
            break  # no element of this block, nor of those after it, can be larger
        block = _difference(reference[row, column], candidate[row, column])
        if not block.is_finite:
            block.leave_out(~(np.isfinite(block.reference) & np.isfinite(block.candidate)))
        best = max(best, float(ratio(block.sizes(), np.maximum(np.abs(block.reference), rms)).max()))
    return best


def ratio(value: npt.ArrayLike, reference: npt.ArrayLike) -> Float64Array:
    """The quotient in float64, where 0/0 is 0: equal things do not differ."""
    numerator, denominator = np.asarray(value, dtype=np.float64), np.asarray(reference, dtype=np.float64)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        return np.where(numerator == 0, 0.0, numerator / denominator)

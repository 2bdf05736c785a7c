"""The errors of one layer over a stream of batches: exact, so that parts merge to the bit of the whole."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np

from sn_deploy.compare.exact import ExactSum
from sn_deploy.compare.parity import ratio
from sn_deploy.errors import SnDeployError
from sn_deploy.runtime.tensors import Array

# Elements that are worked on at a time: their float64 copies stay in a core's cache.
_BLOCK: Final = 1 << 14


@dataclass
class ErrorSum:
    """Squares of a reference and of the difference from it.

    Attributes:
        mismatches: elements that are not finite and not the same in both; they are left out of the sums.
    """

    reference: ExactSum = field(default_factory=ExactSum)
    difference: ExactSum = field(default_factory=ExactSum)
    mismatches: int = 0

    def update(self, reference: Array, candidate: Array, *, only_where_finite: bool = False) -> None:
        """Takes in two tensors of one shape.

        Args:
            only_where_finite: what isn't finite in the reference says nothing about the candidate.
        """
        expected, actual = reference.reshape(-1), candidate.reshape(-1)
        for start in range(0, expected.size, _BLOCK):
            block = slice(start, start + _BLOCK)
            with np.errstate(over="ignore", invalid="ignore"):
                self._add(expected[block].astype(np.float64), actual[block].astype(np.float64), only_where_finite)

    def _add(self, expected: Array, actual: Array, only_where_finite: bool) -> None:
        difference = actual - expected
        # einsum and not BLAS: what it gives doesn't depend on the number of threads.
        sums = [float(np.einsum("i,i->", one, one)) for one in (expected, difference)]
        if not all(map(math.isfinite, sums)):
            good = np.isfinite(expected) & np.isfinite(actual)
            bad = ~good & (np.isfinite(expected) | (not only_where_finite))
            self.mismatches += int(np.count_nonzero(expected[bad] != actual[bad]))
            sums = [float(np.einsum("i,i->", one, one)) for one in (expected[good], difference[good])]
        self.reference.add(sums[:1])
        self.difference.add(sums[1:])

    @property
    def rel_l2(self) -> float:
        """Relative L2 error; infinite where something isn't finite."""
        if self.mismatches:
            return math.inf
        return float(ratio(math.sqrt(self.difference.value), math.sqrt(self.reference.value)))

    def merge(self, other: ErrorSum) -> None:
        """Takes in what the other one has seen."""
        self.reference += other.reference
        self.difference += other.difference
        self.mismatches += other.mismatches

    def state(self) -> list[Any]:
        """Everything, as JSON holds it exactly."""
        return [self.reference.state(), self.difference.state(), self.mismatches]

    @classmethod
    def from_state(cls, state: Any) -> ErrorSum:
        """What `state` wrote.

        Raises:
            TypeError, ValueError: it isn't that.
        """
        reference, difference, mismatches = state
        return cls(ExactSum.from_state(reference), ExactSum.from_state(difference), int(mismatches))


@dataclass
class LayerSums:
    """One layer of one backend.

    Attributes:
        form: where it is compared: one of `sn_deploy.check.layers.tensors.FORMS`.
        rounds_once: see `TappedLayer`.
        dtype, shape: of its output, the batch axis as 'N'.
        given, made: its X and its Y beside the reference's.
        own: its Y beside that of the reference's layer on its own X.
        rounding, carried: see `sn_deploy.check.layers.expected.Expected`.
    """

    form: str
    rounds_once: bool
    dtype: str
    shape: tuple[int | str, ...]
    given: ErrorSum = field(default_factory=ErrorSum)
    made: ErrorSum = field(default_factory=ErrorSum)
    own: ErrorSum = field(default_factory=ErrorSum)
    rounding: ExactSum = field(default_factory=ExactSum)
    carried: ExactSum = field(default_factory=ExactSum)

    def beside_output(self, squares: ExactSum) -> float:
        """The root of a sum of squares, relative to the layer's own output."""
        reference = self.own.reference.value
        return math.sqrt(squares.value / reference) if reference > 0 else 0.0

    def join_shape(self, shape: tuple[int | str, ...], where: str) -> None:
        """Sizes that aren't always the same become '?'.

        Raises:
            SnDeployError: another rank.
        """
        if len(shape) != len(self.shape):
            raise SnDeployError(f"is of rank {len(shape)} in one batch and {len(self.shape)} in another", where=where)
        self.shape = tuple(old if old == new else "?" for old, new in zip(self.shape, shape, strict=True))

    def merge(self, other: LayerSums, where: str) -> None:
        """Takes in what another part has seen.

        Raises:
            SnDeployError: it is another layer.
        """
        if (self.form, self.rounds_once, self.dtype) != (other.form, other.rounds_once, other.dtype):
            raise SnDeployError("is another layer in another part", where=where)
        self.join_shape(other.shape, where)
        self.given.merge(other.given)
        self.made.merge(other.made)
        self.own.merge(other.own)
        self.rounding += other.rounding
        self.carried += other.carried

    def state(self) -> dict[str, Any]:
        """Everything, as JSON holds it exactly."""
        return {
            "form": self.form,
            "rounds_once": self.rounds_once,
            "dtype": self.dtype,
            "shape": list(self.shape),
            "given": self.given.state(),
            "made": self.made.state(),
            "own": self.own.state(),
            "rounding": self.rounding.state(),
            "carried": self.carried.state(),
        }

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> LayerSums:
        """What `state` wrote.

        Raises:
            KeyError, TypeError, ValueError: it isn't that.
        """
        return cls(
            form=str(state["form"]),
            rounds_once=bool(state["rounds_once"]),
            dtype=str(state["dtype"]),
            shape=tuple(state["shape"]),
            given=ErrorSum.from_state(state["given"]),
            made=ErrorSum.from_state(state["made"]),
            own=ErrorSum.from_state(state["own"]),
            rounding=ExactSum.from_state(state["rounding"]),
            carried=ExactSum.from_state(state["carried"]),
        )

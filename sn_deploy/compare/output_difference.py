"""How far an output of a file is from that of the file that it was made of: one rule for the commands that prove one.

Integers and booleans are equal or others, and the share of others counts. Of floating-point numbers of any width it is
the relative L2 difference over what is finite in the reference; what is finite there has to be so in the candidate. How
much of either is allowed, and what becomes of a reference that isn't finite everywhere, is for the command to say.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from sn_deploy.compare.parity import Differences
from sn_deploy.errors import CheckFailedError
from sn_deploy.runtime.tensors import Array, is_exact


@dataclass
class OutputDifference:
    """One output, batch after batch.

    Attributes:
        elements: how many could be compared.
        not_finite: how many couldn't, as the reference itself isn't finite there.
        lost: how many are finite in the reference and not in the candidate.
        floats: the figures of floating-point numbers; of integers it stays empty.
    """

    elements: int = 0
    not_finite: int = 0
    lost: int = 0
    floats: Differences = field(default_factory=Differences)
    _others: int | None = None  # of integers

    def update(self, expected: Array, actual: Array, *, first: int, samples: int, where: str | None = None) -> None:
        """Takes in one batch, of a candidate whose floating-point type may be another; see `Differences.update`.

        Raises:
            CheckFailedError: the shapes differ, or one is of integers and the other not of the same.
        """
        check_shape_and_type(expected, actual, where=where, any_width=True)
        finite = comparable(expected)
        self.elements += int(np.count_nonzero(finite))
        if is_exact(expected.dtype):
            self._others = (self._others or 0) + int(np.count_nonzero(expected != actual))
            return
        if not finite.all():
            self.not_finite += int(np.count_nonzero(~finite))
            expected, actual = (np.where(finite, one, np.zeros((), one.dtype)) for one in (expected, actual))
        self.lost += int(np.count_nonzero(~np.isfinite(actual)))
        self.floats.update(expected, actual, first=first, samples=samples, where=where)

    @property
    def is_exact(self) -> bool:
        """Whether it is of integers or booleans."""
        return self._others is not None

    @property
    def changed(self) -> float:
        """The share of integers that are others."""
        return (self._others or 0) / max(self.elements, 1)

    @property
    def rel_l2(self) -> float:
        """The relative L2 difference of floating-point numbers; infinite where it can't be told."""
        found = self.floats.parity().rel_l2
        return math.inf if self.lost or math.isnan(found) else found

    @property
    def size(self) -> float:
        """What is held against a bound: `changed` or `rel_l2`."""
        return self.changed if self.is_exact else self.rel_l2


def difference(expected: Array, actual: Array | None, *, whose: str = "it") -> OutputDifference:
    """That of a single run.

    Raises:
        CheckFailedError: see `check_shape_and_type`.
    """
    check_shape_and_type(expected, actual, whose=whose)
    assert actual is not None
    found = OutputDifference()
    found.update(expected, actual, first=0, samples=len(expected) if expected.ndim else 1)
    return found


def comparable(array: Array) -> npt.NDArray[np.bool_]:
    """Which elements of a reference can be compared: all integers, and the finite numbers."""
    return np.ones(array.shape, np.bool_) if is_exact(array.dtype) else np.asarray(np.isfinite(array))


def check_shape_and_type(
    expected: Array,
    actual: Array | None,
    *,
    whose: str = "it",
    of: str = "the source",
    where: str | None = None,
    any_width: bool = False,
) -> None:
    """Refuses an output of another shape or type.

    Args:
        actual: None of an output that isn't there.
        whose, of: what the error calls the candidate and the reference.
        any_width: a float16 may stand for a float32, and so on; the types of integers have to agree all the same.

    Raises:
        CheckFailedError: it is.
    """
    if actual is not None and expected.shape == actual.shape:
        both_float = not (is_exact(expected.dtype) or is_exact(actual.dtype))
        if expected.dtype == actual.dtype or (any_width and both_float):
            return
    made = "nothing" if actual is None else f"{actual.dtype} {actual.shape}"
    raise CheckFailedError(
        f"{whose} gives {made}", where=where, expected=f"{expected.dtype} {expected.shape}, as {of} does"
    )

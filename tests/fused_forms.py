"""What the fused forms must give: their inputs, their float64 meaning, and how far a backend may be from it."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import numpy.typing as npt

from sn_deploy.graph.op import OP_TYPES, RESIDUAL, SWITCH_NORM, SWITCH_NORM_ADD_RELU
from tests.cases import Case
from tests.tolerances import TOLERANCES, switch_norm_bound

Array = npt.NDArray[Any]

FUSED: Final = tuple(op_type for op_type in OP_TYPES if op_type != SWITCH_NORM)


def residual_of(case: Case) -> Array:
    """A residual of X's shape and dtype; half of it all but cancels the layer's output, so each rounding shows."""
    generator = np.random.default_rng(7)
    y = case.folded.evaluate(case.x)
    drawn = generator.normal(size=y.shape) * np.sqrt(np.mean(y**2) if y.size else 1.0)
    return np.where(generator.integers(0, 2, size=y.shape), drawn, -y).astype(case.x.dtype)


def inputs_of(op_type: str, case: Case) -> dict[str, Array]:
    """The inputs of a model of one node of the operator."""
    return {"X": case.x, RESIDUAL: residual_of(case)} if op_type == SWITCH_NORM_ADD_RELU else {"X": case.x}


def exact_and_bound(op_type: str, case: Case) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """The operator's Y on `inputs_of` in float64, and how far each element of a backend's Y may be from it.

    The layer's own output is stored nowhere, so its rounding to X's dtype is none of the bound: what a backend rounds
    before the sum or the ReLU shows.
    """
    plain = case.folded.evaluate(case.x)
    if not plain.size:
        return plain, plain
    total = plain + residual_of(case).astype(np.float64) if op_type == SWITCH_NORM_ADD_RELU else plain
    exact = total if op_type == SWITCH_NORM else np.maximum(total, 0)
    own, stored = TOLERANCES["float32"].roundoff, TOLERANCES[case.dtype].roundoff
    bound = switch_norm_bound(case.folded, case.x) - stored * np.abs(plain)
    bound += own * np.abs(total) + stored * np.abs(exact)
    return exact, bound


def fused_roundings(op_type: str, y: Array, case: Case) -> float:
    """As `tests.tolerances.roundings`, for any of the operators on `inputs_of`."""
    return roundings_of(y, case, *exact_and_bound(op_type, case))


def roundings_of(y: Array, case: Case, exact: npt.NDArray[np.float64], bound: npt.NDArray[np.float64]) -> float:
    """The largest error of Y in units of its bound: above 1, it is not the output. NaN counts as infinite."""
    assert y.shape == case.x.shape
    assert y.dtype == case.x.dtype
    if not y.size:
        return 0.0
    return float(np.nan_to_num(np.abs(y.astype(np.float64) - exact) / bound, nan=np.inf).max())

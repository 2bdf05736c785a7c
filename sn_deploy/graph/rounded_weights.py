"""What weights lose when they are rounded to a half type."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir


@dataclass(frozen=True)
class RoundedWeight:
    """A weight that the half type can't hold as it is.

    Attributes:
        name: of the initializer; node: the first one that reads it.
        largest: the largest absolute value; too_large: how many values the type has no number for.
        vanished: how many values that aren't 0 become 0.
    """

    name: str
    node: str
    largest: float
    too_large: int
    vanished: int
    elements: int


def rounded(array: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """In that type; what is too large becomes infinite."""
    with np.errstate(over="ignore", invalid="ignore"):
        return array.astype(dtype)


def rounding_loss(
    value: ir.Value, tensor: ir.TensorProtocol, half: ir.DataType, reader: ir.Node | None
) -> RoundedWeight | None:
    """What of a weight is lost in that type; None where nothing is. ``reader``: the first node that reads it."""
    array = tensor.numpy()
    made = rounded(array, half.numpy()).astype(np.float32)
    too_large = 0 if _only_bounds(value) else int(np.count_nonzero(np.isinf(made) & np.isfinite(array)))
    vanished = int(np.count_nonzero((made == 0) & (array != 0)))
    if not too_large and not vanished:
        return None
    largest = float(np.max(np.abs(array), where=np.isfinite(array), initial=0.0))
    node = reader.name or reader.op_type if reader is not None else ""
    return RoundedWeight(value.name or "", node, largest, too_large, vanished, math.prod(array.shape))


def _only_bounds(value: ir.Value) -> bool:
    """Whether Clip nodes alone read it, as their bounds: beyond the largest number none is as good as any."""
    return all((node.domain, node.op_type) == ("", "Clip") and index > 0 for node, index in value.uses())

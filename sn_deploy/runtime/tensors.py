"""What a runner says of its inputs and outputs, and the check of what it is given: the same for every backend."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from sn_deploy.errors import SnDeployError

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class TensorInfo:
    """An input or output of a model.

    Attributes:
        name: its name in the model.
        shape: one entry an axis: an int, a str for a named dynamic axis, None for an unnamed one. None as a whole
            where the runtime doesn't state the rank.
        dtype: NumPy's dtype; bfloat16 and the 8-bit floats are those of ml_dtypes.
    """

    name: str
    shape: tuple[int | str | None, ...] | None
    dtype: np.dtype[Any]

    def accepts_shape(self, shape: tuple[int, ...]) -> bool:
        """Whether a tensor of this shape may be given: the rank and all static axes agree."""
        if self.shape is None:
            return True
        return len(shape) == len(self.shape) and all(
            not isinstance(own, int) or own == given for own, given in zip(self.shape, shape, strict=True)
        )

    def __str__(self) -> str:
        if self.shape is None:
            return f"{self.name}: {self.dtype}"
        axes = ", ".join("?" if axis is None else str(axis) for axis in self.shape)
        return f"{self.name}: {self.dtype} ({axes})"


def is_exact(dtype: np.dtype[Any]) -> bool:
    """Integers and booleans, such as the index of the largest score: two are equal, or they are others."""
    return dtype.kind in "biu"


def check_inputs(infos: Sequence[TensorInfo], inputs: Mapping[str, Array], *, where: str) -> None:
    """Refuses inputs that a model doesn't take, before the runtime sees them.

    Raises:
        SnDeployError: a name that is missing or unknown, a value that is no array, a wrong dtype or a wrong shape.
    """
    names = [info.name for info in infos]
    missing = [name for name in names if name not in inputs]
    unknown = [name for name in inputs if name not in names]
    if missing or unknown:
        parts = [f"missing {', '.join(missing)}"] if missing else []
        parts += [f"unknown {', '.join(map(str, unknown))}"] if unknown else []
        raise SnDeployError(f"inputs {' and '.join(parts)}", where=where, expected=", ".join(names) or "no input")
    for info in infos:
        value = inputs[info.name]
        if not isinstance(value, np.ndarray):
            raise SnDeployError(
                f"input {info.name} is a {type(value).__name__}", where=where, expected=f"a NumPy array, {info}"
            )
        if value.dtype != info.dtype:
            raise SnDeployError(
                f"input {info.name} has dtype {value.dtype}",
                where=where,
                expected=str(info.dtype),
                mend=f"convert it with .astype({str(info.dtype)!r})",
            )
        if not info.accepts_shape(value.shape):
            raise SnDeployError(f"input {info.name} has shape {value.shape}", where=where, expected=str(info))

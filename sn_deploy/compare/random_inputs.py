"""Random input for files: of the shape that they state, small where an axis is open."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np

from sn_deploy.compare.size import check_size
from sn_deploy.errors import SnDeployError
from sn_deploy.runtime.tensors import Array, TensorInfo, is_exact

# What a dynamic axis is taken to be: the first of an input, and any other.
_BATCH: Final = 2
SMALL_EXTENT: Final = 64
# Of an input's open axes that may be larger: height and width. As many frames would take gigabytes.
_LARGER_AXES: Final = 2

_INPUT_OPTION: Final = "give its shape: --input [NAME=]1x3x224x224"


class OtherInterfaceError(Exception):
    """The files can't be run on the same input, or give outputs that can't be compared: that is a difference itself."""


def values_for(
    inputs: Sequence[tuple[TensorInfo, TensorInfo]],
    given: Mapping[str, Array],
    seed: int,
    extent: int = SMALL_EXTENT,
) -> list[Array]:
    """What two files are run on: the values that are given, and random ones of the shape that both state.

    Args:
        inputs: what the one and the other says of each.
        given: by either's name.
        extent: of the last two axes that are open, the first of an input (its samples) left out.

    Raises:
        OtherInterfaceError: their axes contradict.
        SnDeployError: a shape isn't stated, or is too large.
    """
    generator = np.random.default_rng(seed)
    symbols: dict[str, int] = {}
    values = []
    for first, second in inputs:
        value = given.get(first.name, given.get(second.name))
        values.append(_random(first, _shape(first, second, symbols, extent), generator) if value is None else value)
    return values


def inputs_for(
    infos: Sequence[TensorInfo], given: Mapping[str, Array], seed: int, extent: int = SMALL_EXTENT
) -> dict[str, Array]:
    """What one file is run on: the values that are given as they are, and random ones of the inputs' own types.

    Raises:
        SnDeployError: a shape isn't stated, or is too large.
    """
    values = values_for([(info, info) for info in infos], given, seed, extent)
    return {
        info.name: value if info.name in given else value.astype(info.dtype)
        for info, value in zip(infos, values, strict=True)
    }


def has_open_extents(inputs: Sequence[tuple[TensorInfo, TensorInfo]], given: Mapping[str, Array]) -> bool:
    """Whether another extent makes other input: a value that is drawn has an open axis behind its first."""
    return any(
        _open_axes(first, second) for first, second in inputs if first.name not in given and second.name not in given
    )


def _open_axes(first: TensorInfo, second: TensorInfo) -> list[int]:
    """But for the first, which counts samples."""
    pairs = list(zip(first.shape or (), second.shape or (), strict=False))
    return [at for at, pair in enumerate(pairs) if at and not any(isinstance(size, int) for size in pair)]


def _shape(first: TensorInfo, second: TensorInfo, symbols: dict[str, int], extent: int) -> tuple[int, ...]:
    if first.shape is None or second.shape is None:
        raise SnDeployError("its shape isn't stated", where=f"input {first.name!r}", mend=_INPUT_OPTION)
    if len(first.shape) != len(second.shape):
        raise OtherInterfaceError(
            f"input {first.name!r} has {len(first.shape)} axes in one and {len(second.shape)} in the other"
        )
    larger = _open_axes(first, second)[-_LARGER_AXES:]
    shape = []
    for axis, (one, other) in enumerate(zip(first.shape, second.shape, strict=True)):
        fixed = [size for size in (one, other) if isinstance(size, int)]
        if len(set(fixed)) > 1:
            raise OtherInterfaceError(
                f"axis {axis} of input {first.name!r} is {fixed[0]} in one and {fixed[1]} in the other"
            )
        default = _BATCH if axis == 0 else extent if axis in larger else SMALL_EXTENT
        named = next((size for size in (one, other) if isinstance(size, str)), None)
        shape.append(fixed[0] if fixed else default if named is None else symbols.setdefault(named, default))
    return tuple(shape)


def _random(info: TensorInfo, shape: tuple[int, ...], generator: np.random.Generator) -> Array:
    """Standard normal; 0 and 1 for integers and booleans, which any embedding takes."""
    check_size(shape, info.name)
    if is_exact(info.dtype):
        return generator.integers(0, 2, shape).astype(info.dtype)
    return generator.standard_normal(shape, dtype=np.float32)

"""What regions are run on: shapes that their X can have, and random samples of them.

Every sample and channel has a mean and a deviation of its own, whether channels come first or last, so that instance,
layer and recorded statistics all differ.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

import numpy as np

from sn_deploy.folded import Float64Array

# Deviations of the samples that constants are solved from: small ones show eps and the recorded variance, large ones
# the shares of the live statistics.
SOLVE_SCALES: Final = (1.0, 0.1, 5.0, 0.5, 20.0, 2.0)
# Shares of 1e-4 to 1e-10 are to come out beside a recorded variance, in its size.
FAR_SCALES: Final = (1e2, 1e3, 1e4, 1e5, 3e2, 3e3)
# How often the channels of an (N, C) sample are rotated: see `rolled`.
ROLLS: Final = 3
# How many shapes are tried where axes are dynamic.
SETTINGS: Final = 3

_BATCHES: Final = (1, 2, 3)
_EXTENTS: Final = ((5, 7, 4), (6, 3, 5), (4, 9, 3))

# Random numbers that large inputs repeat: drawing them all would take longer than to run the region. A prime number, so
# that no channel has the noise of another.
_PERIOD: Final = 65_521


def free_shape(declared: Sequence[int | None], setting: int) -> tuple[int, ...]:
    """A small shape that a declared one allows: static axes as declared, the others small and unequal."""
    taken = {size for size in declared if size is not None}
    extents = iter(size if size not in taken else size + 6 for size in _EXTENTS[setting])
    return tuple(
        size if size is not None else _BATCHES[setting] if axis == 0 else next(extents, 3)
        for axis, size in enumerate(declared)
    )


def solve_inputs(
    shape: tuple[int, ...], setting: int, scales: Sequence[float] = SOLVE_SCALES, samples: int | None = None
) -> Iterator[Float64Array]:
    """Inputs of ``shape``: for the first setting, together at least one sample for each of ``scales``, else one.

    Args:
        samples: how many there are in one input; by default its first axis counts them.
    """
    rng = np.random.default_rng(setting)
    runs = -(-len(scales) // max(shape[0] if samples is None else samples, 1)) if setting == 0 else 1
    for each in np.resize(np.array(scales), (runs, shape[0])):
        yield structured(rng, shape, each)


def structured(rng: np.random.Generator, shape: tuple[int, ...], scales: Float64Array) -> Float64Array:
    """Random samples of ``shape``, sample n of about the mean and the deviation ``scales[n]``."""
    rank = len(shape)

    def along(*axes: int) -> tuple[int, ...]:
        return tuple(size if axis in axes else 1 for axis, size in enumerate(shape))

    deviation, mean = np.ones(()), 0.5 * rng.standard_normal(along(0))
    for axis in {1, rank - 1}:
        deviation = deviation * np.exp(0.4 * rng.standard_normal(along(0, axis)))
        mean = mean + rng.standard_normal(along(0, axis))
    noise = np.resize(rng.standard_normal(min(_PERIOD, int(np.prod(shape)))), shape)
    return np.asarray((mean + deviation * noise) * scales.reshape(along(0)))


def rolled(x: Float64Array) -> list[Float64Array]:
    """An (N, C) input, and the same with its channels rotated: other values under the same layer statistics."""
    return [np.roll(x, shift, axis=1) for shift in range(ROLLS)]

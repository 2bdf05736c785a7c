"""Random samples: each from a generator of its own, so that a sample is the same whatever its batch or shard."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from sn_deploy.compare.size import check_size
from sn_deploy.errors import SnDeployError
from sn_deploy.runtime.tensors import Array, TensorInfo

DEFAULT_SAMPLES: Final = 64
_MOST_SAMPLES: Final = 1 << 20  # in a batch; a file may fix any size, and each is drawn by itself
_FORM: Final = "random[:seed=0,distribution=normal|uniform,mean=0,std=1,low=0,high=1]"


@dataclass(frozen=True)
class Distribution:
    """How the numbers are drawn.

    Attributes:
        distribution: ``normal`` with ``mean`` and ``std``, or ``uniform`` from ``low`` up to ``high``. Integers are
            always uniform, from ``low`` to ``high`` inclusive: 0 and 1 by default, which any embedding takes.
    """

    seed: int = 0
    distribution: str = "normal"
    mean: float = 0.0
    std: float = 1.0
    low: float = 0.0
    high: float = 1.0


def parse_distribution(text: str) -> Distribution:
    """What ``--data random:…`` says.

    Args:
        text: with the word ``random``.

    Raises:
        SnDeployError: an unknown key, or a value that it can't have.
    """
    where = f"--data {text}"
    values: dict[str, Any] = {}
    for pair in filter(None, text.partition(":")[2].split(",")):
        key, _, value = pair.partition("=")
        values[key] = _value(key, value, where)
    found = Distribution(**values)
    if found.distribution not in ("normal", "uniform"):
        raise SnDeployError(f"unknown distribution {found.distribution!r}", where=where, expected="normal or uniform")
    if found.std < 0 or found.high < found.low:
        raise SnDeployError("std is below 0 or high below low", where=where, expected=_FORM)
    return found


def _value(key: str, text: str, where: str) -> Any:
    kinds: dict[str, Callable[[str], Any]] = {"seed": int, "distribution": str}
    kinds |= dict.fromkeys(("mean", "std", "low", "high"), float)
    try:
        value = kinds[key](text)
        if (isinstance(value, int) and value < 0) or (isinstance(value, float) and not math.isfinite(value)):
            raise ValueError
    except (KeyError, ValueError):
        raise SnDeployError(f"can't read {key + '=' + text!r}", where=where, expected=_FORM) from None
    return value


class RandomSamples:
    """Random values for each input.

    Args:
        inputs: what to make, with static shapes but for the batch axis.
        distribution: of the numbers.
        count: how many samples there are.

    Raises:
        SnDeployError: integers that an input's type doesn't hold.
    """

    def __init__(self, inputs: Sequence[TensorInfo], distribution: Distribution, count: int) -> None:
        self._inputs, self._distribution, self._count = tuple(inputs), distribution, count
        for info in self._inputs:
            if np.issubdtype(info.dtype, np.integer):
                _check_range(info, distribution)

    def __len__(self) -> int:
        return self._count

    def load(self, first: int, last: int) -> tuple[dict[str, Array], Array | None]:
        """See `Samples`.

        Raises:
            SnDeployError: more than can be drawn.
        """
        if last - first > _MOST_SAMPLES:
            raise SnDeployError(
                f"batches are of {last - first} samples", where="--data random", expected=f"at most {_MOST_SAMPLES}"
            )
        return {info.name: self._column(place, first, last) for place, info in enumerate(self._inputs)}, None

    def _column(self, place: int, first: int, last: int) -> Array:
        info = self._inputs[place]
        if info.shape == ():  # one number for all samples
            return np.asarray(self._draw(0, place, []))
        shape = [int(size) for size in (info.shape or ())[1:] if size is not None]
        check_size([last - first, *shape], info.name)
        return np.stack([self._draw(index, place, shape) for index in range(first, last)])

    def _draw(self, sample: int, place: int, shape: list[int]) -> Array:
        info, wanted = self._inputs[place], self._distribution
        generator = np.random.default_rng([wanted.seed, sample, place])
        if info.dtype == np.bool_:
            return generator.integers(0, 2, shape).astype(np.bool_)
        if np.issubdtype(info.dtype, np.integer):
            return generator.integers(int(wanted.low), int(wanted.high), shape, endpoint=True).astype(info.dtype)
        if wanted.distribution == "normal":
            return _scaled(generator.standard_normal(shape, dtype=np.float32), wanted.mean, wanted.std)
        return _scaled(generator.random(shape, dtype=np.float32), wanted.low, wanted.high - wanted.low)

    def describe(self) -> dict[str, Any]:
        """See `Samples`."""
        wanted = self._distribution
        shown = ("mean", "std") if wanted.distribution == "normal" else ("low", "high")
        parameters = {key: getattr(wanted, key) for key in ("seed", "distribution", *shown)}
        shapes = {info.name: list((info.shape or ())[1:]) for info in self._inputs}
        return {"kind": "random", **parameters, "shapes": shapes}


def _check_range(info: TensorInfo, wanted: Distribution) -> None:
    held = np.iinfo(info.dtype)
    smallest, largest = int(held.min), min(int(held.max), np.iinfo(np.int64).max)  # they are drawn as int64
    if not smallest <= int(wanted.low) <= int(wanted.high) <= largest:
        raise SnDeployError(
            f"low={wanted.low:g},high={wanted.high:g} are no integers that input {info} holds",
            where="--data random",
            expected=f"{smallest} to {largest}",
        )


def _scaled(values: Array, offset: float, scale: float) -> Array:
    if scale != 1:
        values *= np.float32(scale)
    if offset != 0:
        values += np.float32(offset)
    return values

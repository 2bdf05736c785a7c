"""Which of an engine's profiles a run gets."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from sn_deploy.errors import SnDeployError
from sn_deploy.runtime.trt.builder import Profile, Shapes
from sn_deploy.text import typed_shape

GivenShapes = Mapping[str, Sequence[int]]


def check_profile(profiles: Sequence[Profile], wanted: int | None, where: str) -> None:
    """Whether there is such a profile; None is any.

    Raises:
        SnDeployError: there isn't.
    """
    if wanted is None or (type(wanted) is int and 0 <= wanted < len(profiles)):
        return
    one = "0, the only one" if len(profiles) == 1 else f"0 to {len(profiles) - 1}"
    raise SnDeployError(f"there is no profile {wanted!r}", where=where, expected=one)


def choose_profile(profiles: Sequence[Profile], shapes: GivenShapes, wanted: int | None, where: str) -> int:
    """Index of the profile for these shapes of all inputs: ``wanted``, or the one that is made for the nearest.

    A profile's kernels are chosen for its opt. How well they suit another size is a matter of how many times larger
    that is, so the nearest opt is the one at the smallest ratio, all axes' ratios multiplied: at batch 32 an opt of 64
    is nearer than one of 8. Of equally near ones it is the first.

    Raises:
        SnDeployError: the shapes are in no profile, or not in the one that is wanted.
    """
    fitting = [index for index in _allowed(profiles, wanted) if _fits(profiles[index], shapes)]
    if fitting:
        return min(fitting, key=lambda index: _distance(profiles[index], shapes))
    given = ", ".join(f"{name} {typed_shape(shape)}" for name, shape in shapes.items())
    ranges = " or ".join(
        ", ".join(
            f"{name} {typed_shape(three.min)} to {typed_shape(three.max)}" for name, three in profiles[index].items()
        )
        for index in _allowed(profiles, wanted)
    )
    if wanted is None:
        raise SnDeployError(
            f"{given} is in no profile", where=where, expected=ranges, mend="build it with a profile for that"
        )
    raise SnDeployError(
        f"{given} isn't in profile {wanted}, which the session was opened with",
        where=where,
        expected=ranges,
        mend="open one without profile=, which takes the profile that fits",
    )


def _allowed(profiles: Sequence[Profile], wanted: int | None) -> Sequence[int]:
    return range(len(profiles)) if wanted is None else [wanted]


def _fits(profile: Profile, shapes: GivenShapes) -> bool:
    return all(_is_within(shape, profile[name]) for name, shape in shapes.items())


def _is_within(shape: Sequence[int], three: Shapes) -> bool:
    return len(shape) == len(three.min) and all(
        low <= size <= high for low, size, high in zip(three.min, shape, three.max, strict=True)
    )


def _distance(profile: Profile, shapes: GivenShapes) -> float:
    """Sum over all axes of the ratio's logarithm; an empty axis counts as 1."""
    return sum(
        abs(math.log(max(size, 1) / max(best, 1)))
        for name, shape in shapes.items()
        for size, best in zip(shape, profile[name].opt, strict=True)
    )

"""What users write in Python, read: profiles, whose numbers may come from NumPy or torch."""

from __future__ import annotations

import operator
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, cast

from sn_deploy.engine.profiles import KINDS, Given, Kind, Shape
from sn_deploy.errors import SnDeployError

# A shape alone; (min, opt, max); or some of the three by name.
ShapeRange = Sequence[int] | Sequence[Sequence[int]] | Mapping[str, Sequence[int]]

_FORM: Final = "a shape such as (8, 3, 224, 224), three of them (min, opt and max), or a dict of some of these"


def given_profiles(profiles: Sequence[Mapping[str, ShapeRange]]) -> list[Given]:
    """The profiles that `sn_deploy.build` takes; sizes are not held against the file's yet.

    Raises:
        SnDeployError: something in it isn't of that form.
    """
    if isinstance(profiles, (str, bytes, Mapping)) or not isinstance(profiles, Iterable):
        raise _no_profiles(f"is {_named(profiles)}")
    given: list[Given] = []
    for profile in profiles:
        if not isinstance(profile, Mapping):
            raise _no_profiles(f"holds {_named(profile)}")
        given.append({name: _given_input(f"profile of {name}", shapes) for name, shapes in profile.items()})
    return given


def _whole_number(value: object) -> int | None:
    """What counts as one in Python, as an int; None for what doesn't: 2.0, "2"."""
    try:
        return operator.index(cast("Any", value))
    except TypeError:
        return None


def _given_input(where: str, shapes: object) -> Mapping[Kind, Shape]:
    if isinstance(shapes, Mapping):
        wrong = [kind for kind in shapes if kind not in KINDS]
        if wrong or not shapes:
            raise SnDeployError(
                f"has {wrong[0] if wrong else 'no shape'}", where=where, expected="some of min, opt, max"
            )
        return {kind: _shape(f"{where}, {kind}", shape) for kind, shape in shapes.items()}
    parts = _parts(where, shapes)
    if not any(_is_listing(part) for part in parts):
        return {"opt": _shape(where, parts)}
    if len(parts) != len(KINDS):
        raise SnDeployError(f"has {len(parts)} shapes", where=where, expected="one, or three: min, opt and max")
    return {kind: _shape(f"{where}, {kind}", part) for kind, part in zip(KINDS, parts, strict=True)}


def _shape(where: str, shape: object) -> Shape:
    parts = _parts(where, shape)
    sizes = [_whole_number(size) for size in parts]
    for size, part in zip(sizes, parts, strict=True):
        if size is None:
            raise SnDeployError(f"has the size {part!r:.40}", where=where, expected="whole numbers")
    return tuple(cast("list[int]", sizes))


def _parts(where: str, shape: object) -> tuple[object, ...]:
    try:
        if isinstance(shape, (str, bytes, Mapping)):
            raise TypeError
        return tuple(cast("Iterable[object]", shape))
    except TypeError:
        raise SnDeployError(f"is {_named(shape)}", where=where, expected=_FORM) from None


def _is_listing(part: object) -> bool:
    return _whole_number(part) is None and isinstance(part, Iterable) and not isinstance(part, (str, bytes))


def _no_profiles(what: str) -> SnDeployError:
    return SnDeployError(
        what, where="profiles", expected='a list with a dict for each profile: [{"image": (8, 3, 224, 224)}]'
    )


def _named(value: object) -> str:
    return f"{value!r:.40}" if isinstance(value, (str, bytes, int, float)) else f"a {type(value).__name__}"

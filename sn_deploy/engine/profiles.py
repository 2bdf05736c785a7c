"""For which shapes an engine is built: what the user gives, completed by what the file says.

TensorRT builds for ranges of shapes, called profiles. Each has, for every input, the smallest shape, the one that it is
made fastest for, and the largest.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal, cast, get_args

from sn_deploy.errors import SnDeployError
from sn_deploy.runtime.tensors import TensorInfo
from sn_deploy.runtime.trt.builder import Shapes
from sn_deploy.text import typed_shape

Kind = Literal["min", "opt", "max"]
Shape = tuple[int, ...]
# Of one profile: input -> kind -> shape. What isn't there is filled in.
Given = Mapping[str, Mapping[Kind, Shape]]

KINDS: Final[tuple[Kind, ...]] = get_args(Kind)
_LARGEST_SIZE: Final = 2**31 - 1  # of an axis, in TensorRT
DEFAULT_BATCH: Final[Mapping[Kind, int]] = {"min": 1, "opt": 8, "max": 32}


@dataclass(frozen=True)
class Resolved:
    """The profiles, with all inputs in each, and what was assumed: a line each."""

    profiles: list[dict[str, Shapes]]
    notes: list[str]


def given_from_repeats(shapes: Mapping[Kind, Sequence[tuple[str, Shape]]]) -> list[Given]:
    """One `Given` a profile, from shapes that were given several times: the second is the second profile's.

    What is given once belongs to all profiles.

    Raises:
        SnDeployError: an input's shapes were given twice, say, and another's three times.
    """
    series: dict[tuple[str, Kind], list[Shape]] = {}
    for kind in KINDS:
        for name, shape in shapes.get(kind, ()):
            series.setdefault((name, kind), []).append(shape)
    count = max(map(len, series.values()), default=1)
    for (name, kind), values in series.items():
        if len(values) not in (1, count):
            raise SnDeployError(
                f"is given {len(values)} times, and another shape {count} times",
                where=f"--{kind} {name}=…",
                expected="each once, or once for each profile",
            )
    profiles: list[dict[str, dict[Kind, Shape]]] = [{} for _ in range(count)]
    for (name, kind), values in series.items():
        for index, profile in enumerate(profiles):
            profile.setdefault(name, {})[kind] = values[index if len(values) > 1 else 0]
    return cast("list[Given]", profiles)


def resolve_profiles(inputs: Sequence[TensorInfo], given: Sequence[Given]) -> Resolved:
    """Complete profiles for the inputs of a model.

    An input with one shape has that alone. Without the largest, it is the one to be fast for, and the other way round;
    without the smallest, it is that with a batch of 1. Axes of the same name have the same sizes in all inputs. Where
    nothing is given, static axes are as they are and the first axis is `DEFAULT_BATCH`.

    Args:
        given: one for each profile; an empty sequence for one profile.

    Raises:
        SnDeployError: shapes of no input, of another rank or size than the file's, out of order, or none at all where
            the file has no size for an axis beside the first.
    """
    notes: list[str] = []
    profiles = [
        _profile(inputs, one, index if len(given) > 1 else None, notes) for index, one in enumerate(given or [{}])
    ]
    return Resolved(profiles, list(dict.fromkeys(notes)))


def _profile(inputs: Sequence[TensorInfo], given: Given, index: int | None, notes: list[str]) -> dict[str, Shapes]:
    where = "profile" if index is None else f"profile {index}"
    by_name = {info.name: info for info in inputs}
    unknown = [name for name in given if name not in by_name]
    if unknown:
        raise SnDeployError(f"there is no input {unknown[0]!r}", where=where, expected=", ".join(by_name))
    own = f" of {where}" if index is not None else ""
    done: dict[str, Shapes] = {}
    for name, kinds in given.items():
        for kind, shape in kinds.items():
            _check_shape(by_name[name], shape, kind)
        done[name] = _completed(by_name[name], kinds, own, notes)
        _check_order(by_name[name], done[name])
    sizes = _sizes_by_axis(by_name, done)
    for info in inputs:
        if info.name not in done:
            done[info.name] = _default(info, sizes, own, notes)
    return {info.name: done[info.name] for info in inputs}


def _completed(info: TensorInfo, kinds: Mapping[Kind, Shape], own: str, notes: list[str]) -> Shapes:
    """All three of an input, from one at least."""
    if len(kinds) == len(KINDS):
        return Shapes(kinds["min"], kinds["opt"], kinds["max"])
    if len(kinds) == 1:
        (shape,) = kinds.values()
        if _is_dynamic(info):
            notes.append(f"input {info.name}{own} is {typed_shape(shape)} alone: --min, --opt and --max give a range")
        return Shapes(shape, shape, shape)
    largest = kinds["max"] if "max" in kinds else kinds["opt"]  # () is a scalar's
    best = kinds.get("opt", largest)
    smallest = kinds.get("min")
    if smallest is None:
        dynamic_batch = info.shape is not None and info.shape and not isinstance(info.shape[0], int)
        smallest = (1, *best[1:]) if dynamic_batch else best
    made = Shapes(smallest, best, largest)
    notes.append(f"input {info.name}{own}: {_range_text(made)}")
    return made


def _default(info: TensorInfo, sizes: Mapping[str, tuple[int, int, int]], own: str, notes: list[str]) -> Shapes:
    """The shapes of an input that nothing was given for."""
    if info.shape is None:
        raise SnDeployError(
            "the file doesn't tell its rank", where=f"input {info.name}", mend=f"give --opt {info.name}=SHAPE"
        )
    axes: list[tuple[int, int, int]] = []
    assumed = False
    for index, axis in enumerate(info.shape):
        if isinstance(axis, int):
            axes.append((axis, axis, axis))
        elif axis is not None and axis in sizes:
            axes.append(sizes[axis])
        elif index == 0:
            axes.append((DEFAULT_BATCH["min"], DEFAULT_BATCH["opt"], DEFAULT_BATCH["max"]))
            assumed = True
        else:
            raise SnDeployError(
                f"axis {index}{f' ({axis})' if axis else ''} has no size",
                where=f"input {info.name}",
                mend=f"give the shape to be fast for, --opt {info.name}={_form(info)}, and --min and --max for a range",
            )
    made = Shapes(*(tuple(axis[kind] for axis in axes) for kind in range(len(KINDS))))
    if assumed:
        notes.append(f"input {info.name}{own}: {_range_text(made)}, assumed for its first axis: --min, --opt and --max")
    return made


def _sizes_by_axis(infos: Mapping[str, TensorInfo], done: Mapping[str, Shapes]) -> dict[str, tuple[int, int, int]]:
    """Name of an axis -> its three sizes.

    Raises:
        SnDeployError: two inputs disagree.
    """
    sizes: dict[str, tuple[int, int, int]] = {}
    for name, three in done.items():
        for index, axis in enumerate(infos[name].shape or ()):
            if not isinstance(axis, str):
                continue
            own = (three.min[index], three.opt[index], three.max[index])
            if sizes.setdefault(axis, own) != own:
                raise SnDeployError(
                    f"axis {axis} is {_three_text(own)}",
                    where=f"input {name}",
                    expected=f"{_three_text(sizes[axis])}, as in another input",
                )
    return sizes


def _check_shape(info: TensorInfo, shape: Shape, kind: Kind) -> None:
    where = f"--{kind} {info.name}={typed_shape(shape)}"
    if not info.accepts_shape(shape):
        raise SnDeployError("is no shape of this input", where=where, expected=_form(info))
    if any(size < (0 if kind == "min" else 1) for size in shape):
        raise SnDeployError("a size is too small", where=where, expected="1 or more, or 0 in --min")
    if any(size > _LARGEST_SIZE for size in shape):
        raise SnDeployError("a size is too large", where=where, expected=f"{_LARGEST_SIZE} at most")


def _check_order(info: TensorInfo, three: Shapes) -> None:
    for axis, (low, best, high) in enumerate(zip(*three, strict=True)):
        if not low <= best <= high:
            raise SnDeployError(
                f"axis {axis} is {low}, {best}, {high}",
                where=f"--min, --opt, --max of {info.name}",
                expected="ascending sizes",
            )


def _is_dynamic(info: TensorInfo) -> bool:
    return info.shape is None or any(not isinstance(axis, int) for axis in info.shape)


def _form(info: TensorInfo) -> str:
    """The shape as it has to be given: ``Nx3xHEIGHTxWIDTH``."""
    if info.shape is None:
        return "SHAPE"
    return "x".join(str(axis).upper() if axis is not None else "?" for axis in info.shape)


def _range_text(three: Shapes) -> str:
    if three.min == three.max:
        return typed_shape(three.opt)
    return f"{typed_shape(three.min)} to {typed_shape(three.max)}, fastest at {typed_shape(three.opt)}"


def _three_text(sizes: tuple[int, int, int]) -> str:
    return " / ".join(map(str, sizes))

"""The inputs of a check: one set of names and shapes that all its backends take."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from sn_deploy.check.names import match_names
from sn_deploy.compare.fit import as_array, is_float
from sn_deploy.errors import SnDeployError
from sn_deploy.runtime.tensors import TensorInfo


@dataclass(frozen=True)
class Example:
    """The size of an input, ``--input [NAME=]SHAPE[:DTYPE]``; its first axis, the batch, doesn't count. () is a scalar.

    Attributes:
        name: of the input; None for the next one in order.
    """

    name: str | None
    shape: tuple[int, ...]
    dtype: np.dtype[Any]


def examples_from(given: object) -> list[Example]:
    """Of example inputs, as `sn_deploy.export` takes them: tensors or arrays, in order where they have no names.

    Raises:
        SnDeployError: one of them holds no numbers.
    """
    if given is None:
        return []
    if isinstance(given, Mapping):
        named: list[tuple[str | None, object]] = list(given.items())
    else:
        named = [(None, value) for value in (given if isinstance(given, (tuple, list)) else (given,))]
    return [_example(name, value, f"example_inputs, {name or at}") for at, (name, value) in enumerate(named)]


def _example(name: str | None, value: object, where: str) -> Example:
    if isinstance(value, Example):
        return value
    array = as_array(value, where)
    return Example(name, array.shape, array.dtype)


class Interface:
    """The inputs of several backends as one.

    Names, types and order are the first one's; an axis has a fixed size if it has one in any of them.

    Args:
        backends: (name, its inputs), one at least.

    Raises:
        SnDeployError: they don't match.

    Attributes:
        inputs: of the check.
        names: backend -> name in the check -> its own.
    """

    def __init__(self, backends: Sequence[tuple[str, Sequence[TensorInfo]]]) -> None:
        first, inputs = backends[0]
        merged = {info.name: info for info in inputs}
        self.names: dict[str, dict[str, str]] = {}
        for backend, own in backends:
            by_name = {info.name: info for info in own}
            self.names[backend] = match_names(
                list(merged),
                list(by_name),
                f"{backend} beside {first}",
                fits=lambda name, other, by_name=by_name: _compatible(merged[name], by_name[other]),  # type: ignore[misc]
            )
            for name, other in self.names[backend].items():
                merged[name] = _merged(merged[name], by_name[other], f"{backend} beside {first}")
        self.inputs = tuple(merged.values())


def output_names(backends: Sequence[tuple[str, Sequence[TensorInfo]]]) -> dict[str, dict[str, str]]:
    """Backend -> name of an output in the check, which is the first backend's, -> its own.

    Raises:
        SnDeployError: they don't match.
    """
    if not backends:
        return {}
    first = {info.name: info for info in backends[0][1]}
    names = {}
    for backend, own in backends:
        by_name = {info.name: info for info in own}
        names[backend] = match_names(
            list(first),
            list(by_name),
            f"{backend} beside {backends[0][0]}",
            what="output",
            fits=lambda name, other, by_name=by_name: _compatible(first[name], by_name[other]),  # type: ignore[misc]
        )
    return names


def with_examples(inputs: Sequence[TensorInfo], examples: Sequence[Example]) -> tuple[TensorInfo, ...]:
    """The inputs, with the sizes of the examples on axes that have none.

    Raises:
        SnDeployError: an example of no input, or one that contradicts a file.
    """
    found = {info.name: info for info in inputs}
    in_order = iter([name for name in found if name not in {example.name for example in examples}])
    for example in examples:
        name = example.name or next(in_order, None)
        if name not in found:
            raise SnDeployError(
                f"there is no input {name!r}" if name else "there are more examples than inputs",
                where="--input",
                expected=", ".join(found),
            )
        shape: tuple[int | str | None, ...] = ("N", *example.shape[1:]) if example.shape else ()
        given = TensorInfo(name, shape, example.dtype)
        found[name] = _merged(found[name], given, f"--input {name}")
        if inputs and found[name].shape == given.shape and all(info.shape is None for info in inputs):
            found[name] = given  # nothing else says the type either
    return tuple(found.values())


def _merged(info: TensorInfo, other: TensorInfo, where: str) -> TensorInfo:
    if not _compatible(info, other):
        raise SnDeployError(f"input {other}", where=where, expected=str(info))
    if info.shape is None or other.shape is None:
        return replace(info, shape=other.shape if info.shape is None else info.shape)
    sizes = tuple(new if isinstance(new, int) else old for old, new in zip(info.shape, other.shape, strict=True))
    return replace(info, shape=sizes)


def _compatible(info: TensorInfo, other: TensorInfo) -> bool:
    if is_float(info.dtype) != is_float(other.dtype) or (info.dtype == np.bool_) != (other.dtype == np.bool_):
        return info.shape is None or other.shape is None  # without a shape the type is a guess, too
    if info.shape is None or other.shape is None:
        return True
    return len(info.shape) == len(other.shape) and not any(
        isinstance(old, int) and isinstance(new, int) and old != new
        for old, new in zip(info.shape, other.shape, strict=True)
    )

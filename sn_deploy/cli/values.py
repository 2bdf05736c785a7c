"""What users type for arguments and inputs, read into values."""

from __future__ import annotations

import ast
import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Generic, NamedTuple, TypeVar

import click
import ml_dtypes
import numpy as np

from sn_deploy.archive import DAMAGED_ARRAYS
from sn_deploy.errors import SnDeployError
from sn_deploy.runtime.tensors import Array

if TYPE_CHECKING:
    from sn_deploy.check.backends.interface import Example


DTYPES: Final[dict[str, Any]] = {
    "float32": np.float32,
    "float16": np.float16,
    "bfloat16": ml_dtypes.bfloat16,
    "float64": np.float64,
    "int64": np.int64,
    "int32": np.int32,
    "int16": np.int16,
    "int8": np.int8,
    "uint8": np.uint8,
    "bool": np.bool_,
}

# What stands in the place of a shape that has no axes.
_SCALAR: Final = "scalar"
_INPUT_FORM: Final = "[NAME=]1x3x224x224[:DTYPE], [NAME=]scalar[:DTYPE] or [NAME=]FILE.npy"


class Number(click.FloatRange):
    """A number in a range. NaN, which compares with nothing, is in none."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Reads it.

        Raises:
            click.BadParameter: it is no number, or outside.
        """
        number = float(super().convert(value, param, ctx))
        if math.isnan(number):
            self.fail(f"{value} is no number.", param, ctx)
        return number


Value = TypeVar("Value")


@dataclass(frozen=True)
class Spec(Generic[Value]):
    """One ``--input``: the parameter it is for (None: by position), and what is given for it."""

    name: str | None
    value: Value


class Size(NamedTuple):
    """What an ``--input`` says of an array: () is the shape of a scalar."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]


InputSpec = Spec[Array]


def parse_arguments(pairs: Sequence[str], *, option: str) -> dict[str, Any]:
    """``NAME=VALUE`` pairs; a value is a Python literal where it is one (``10``, ``True``, ``[3, 4]``), else a string.

    Raises:
        SnDeployError: a pair without ``=``, or a name given twice.
    """
    arguments: dict[str, Any] = {}
    for pair in pairs:
        name, equals, text = pair.partition("=")
        if not equals or not name.isidentifier():
            raise SnDeployError("can't be read", where=f"{option} {pair}", expected="NAME=VALUE")
        if name in arguments:
            raise SnDeployError("is given twice", where=f"{option} {name}")
        # Shells and YAML say true and none; as strings they would all be true.
        literal = {"true": "True", "false": "False", "none": "None", "null": "None"}.get(text.lower(), text)
        try:
            arguments[name] = ast.literal_eval(literal)
        except (ValueError, SyntaxError, TypeError, RecursionError, MemoryError):
            # TypeError: a list as a key; the last two: brackets without end.
            arguments[name] = text
    return arguments


def parse_input(text: str, *, seed: int = 0) -> InputSpec:
    """One ``--input``, as an array: standard normal for floats, 0 and 1 for integers and booleans.

    Its shape is ``1x3x224x224``, or ``scalar`` for one without axes.

    Raises:
        SnDeployError: a shape or dtype that doesn't parse, or a file that can't be read.
    """
    where = f"--input {text}"
    name, value = _name_and_value(text)
    if value.endswith(".npy") and name != "":
        return Spec(name, _read_array(Path(value), where))
    (shape, dtype), generator = _size(name, value, where), np.random.default_rng(seed)
    if dtype.kind in "iub":
        return Spec(name, np.asarray(generator.integers(0, 2, shape)).astype(dtype))
    return Spec(name, np.asarray(generator.standard_normal(shape, dtype=np.float32)).astype(dtype))


def parse_size(text: str) -> Spec[Size]:
    """One ``--input`` of a command that takes its shape and type alone, and its values from elsewhere.

    Raises:
        SnDeployError: see `parse_input`; or a file is named, whose values would have no effect.
    """
    if text.endswith(".npy"):
        raise SnDeployError(
            "is a file, of which nothing but the shape would be taken",
            where=f"--input {text}",
            expected="[NAME=]1x3x224x224[:DTYPE]",
            mend="give the shape, and data by --data if the command has it",
        )
    name, value = _name_and_value(text)
    return Spec(name, _size(name, value, f"--input {text}"))


def parse_sizes(texts: Sequence[str]) -> list[Example]:
    """All of them, as the commands that draw samples, or load them, take them.

    Raises:
        SnDeployError: see `parse_size`.
    """
    from sn_deploy.check.backends.interface import Example

    specs = [parse_size(text) for text in texts]
    return [Example(spec.name, spec.value.shape, spec.value.dtype) for spec in specs]


def parse_counts(text: str | None, option: str, *, most: int, expected: str) -> list[int]:
    """Whole numbers from 1 on such as ``8,32``, ascending and without repetitions; none for None.

    Raises:
        SnDeployError: it isn't of that form, or one is above ``most``.
    """
    if not text:
        return []
    try:
        counts = sorted({int(part) for part in text.split(",")})
    except ValueError:
        counts = [0]
    if counts[0] < 1 or counts[-1] > most:
        raise SnDeployError("can't be read", where=f"{option} {text}", expected=expected)
    return counts


def _size(name: str | None, value: str, where: str) -> Size:
    if name == "" or not value:
        raise SnDeployError("can't be read", where=where, expected=_INPUT_FORM)
    shape_text, _, dtype_text = value.partition(":")
    dtype = DTYPES.get(dtype_text or "float32")
    if dtype is None:
        raise SnDeployError(f"unknown type {dtype_text!r}", where=where, expected=", ".join(DTYPES))
    shape = _parse_shape(shape_text, where)
    if 0 in shape:
        raise SnDeployError("a size is 0", where=where, expected="sizes of 1 or more")
    if math.prod(shape) > 2**31:
        raise SnDeployError("more than 2^31 values", where=where, mend="give a smaller one")
    return Size(shape, np.dtype(dtype))


def _parse_shape(text: str, where: str) -> tuple[int, ...]:
    if text == _SCALAR:
        return ()
    if not re.fullmatch(r"\d+([x,×]\d+)*", text):
        raise SnDeployError(f"can't read the shape {text!r}", where=where, expected=_INPUT_FORM)
    return tuple(int(size) for size in re.split(r"[x,×]", text))


def _name_and_value(text: str) -> tuple[str | None, str]:
    """Names of an ONNX file's inputs, and of files, may have any character in them, ``=`` too."""
    if not text.endswith(".npy"):
        name, equals, value = text.rpartition("=")
        return (name if equals else None), value
    named = [(text[:at], text[at + 1 :]) for at, sign in enumerate(text) if sign == "="]
    splits: list[tuple[str | None, str]] = [*named, (None, text)]
    return next((split for split in splits if Path(split[1]).is_file()), splits[0])


def parse_inputs(texts: Sequence[str], model: Path, *, seed: int = 0) -> dict[str, Array]:
    """All ``--input`` of a command that runs an ONNX file, by the name of the input that each is for.

    Raises:
        SnDeployError: see `parse_input` and `inputs_by_name`; or the file can't be read where a name is to be told.
    """
    from sn_deploy.onnx_file import input_names

    specs = [parse_input(text, seed=seed + place) for place, text in enumerate(texts)]
    return inputs_by_name(specs, lambda: input_names(model))


def inputs_by_name(specs: Sequence[Spec[Value]], names: Callable[[], Sequence[str]]) -> dict[str, Value]:
    """What is given for each input that is given: by name, or by its place among those that no name is given for.

    Args:
        names: gives the names of all inputs, in order; called where a place is to be told.

    Raises:
        SnDeployError: an input is given twice, or there are more than inputs.
    """
    given = {spec.name for spec in specs}
    all_names = names() if None in given else []
    places = iter([name for name in all_names if name not in given])
    found: dict[str, Value] = {}
    for spec in specs:
        name = spec.name if spec.name is not None else next(places, None)
        if name is None:
            raise SnDeployError(
                "is given more often than there are inputs", where="--input", expected=", ".join(all_names)
            )
        if name in found:
            raise SnDeployError("is given twice", where=f"--input {name}")
        found[name] = spec.value
    return found


def _read_array(path: Path, where: str) -> Array:
    try:
        array = np.load(path, allow_pickle=False)
    except DAMAGED_ARRAYS as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise SnDeployError(f"can't be read: {reason}", where=where, expected="an array saved by numpy.save") from error
    if not isinstance(array, np.ndarray):  # a .npz
        raise SnDeployError("holds several arrays", where=where, expected="an array saved by numpy.save")
    return array

"""Arguments of Python functions: whether each is of the kind that it has to be. What a command takes, it has read."""

from __future__ import annotations

import operator
import os
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar, cast

from sn_deploy.errors import SnDeployError

T = TypeVar("T")


def whole_number(given: object, where: str, *, least: int = 1, most: int | None = None) -> int:
    """A whole number, NumPy's included.

    Raises:
        SnDeployError: it is something else, less than ``least`` or more than ``most``.
    """
    expected = f"a whole number {f'of at least {least}' if most is None else f'from {least} to {most}'}"
    if isinstance(given, bool) or not hasattr(given, "__index__"):
        raise SnDeployError(f"is {given!r}", where=where, expected=expected)
    number = operator.index(given)
    if number < least or (most is not None and number > most):
        raise SnDeployError(f"is {number}", where=where, expected=expected)
    return number


def whole_numbers(given: object, where: str) -> tuple[int, ...]:
    """Whole numbers from 1 on, such as ``[1, 8]``.

    Raises:
        SnDeployError: it is something else.
    """
    if isinstance(given, (str, bytes, Mapping)) or not isinstance(given, Iterable):
        raise SnDeployError(f"is {given!r}", where=where, expected="whole numbers, such as [1, 8]")
    return tuple(whole_number(one, where) for one in given)


def real_number(given: object, where: str) -> float:
    """A number, that of a tensor included.

    Raises:
        SnDeployError: it is something else.
    """
    if not isinstance(given, (str, bytes, bytearray)):
        try:
            return float(cast(Any, given))
        except (TypeError, ValueError, RuntimeError):
            pass
    raise SnDeployError(f"is {given!r}", where=where, expected="a number")


def limit_between(given: object, where: str, least: float, most: float) -> float:
    """A number from ``least`` to ``most``.

    Raises:
        SnDeployError: it is something else.
    """
    number = real_number(given, where)
    if not least <= number <= most:
        raise SnDeployError(f"is {number:g}", where=where, expected=f"{least:g} to {most:g}")
    return number


def check_is_function(given: object, where: str, form: str = "a function without arguments") -> None:
    """Refuses what can't be called.

    Raises:
        SnDeployError: it can't be.
    """
    if not callable(given):
        raise SnDeployError(f"is a {type(given).__name__}", where=where, expected=form)


def several_texts(given: object, where: str, form: str) -> tuple[str, ...]:
    """Texts of one form; a single one stands for itself.

    Raises:
        SnDeployError: it is something else.
    """
    given = () if given is None else (given,) if isinstance(given, (str, os.PathLike)) else given
    texts = tuple(given) if isinstance(given, Iterable) and not isinstance(given, Mapping) else (given,)
    wrong = next((one for one in texts if not isinstance(one, str)), None)
    if wrong is not None:
        raise SnDeployError(f"is a {type(wrong).__name__}", where=where, expected=f"texts of the form {form}")
    return cast(tuple[str, ...], texts)


def chosen_options(given: object, kind: type[T], where: str) -> T | None:
    """The options of a part that may be left out: None for False and None, the defaults for True.

    Raises:
        SnDeployError: it is something else.
    """
    if given is None or given is False:
        return None
    if given is True:
        return kind()
    return of_kind(given, kind, where, expected="True, False or ")


def of_kind(given: object, kind: type[T], where: str, *, expected: str = "") -> T:
    """What has to be an instance of ``kind``.

    Raises:
        SnDeployError: it is something else; of a dict, how to make one of it.
    """
    if isinstance(given, kind):
        return given
    name = kind.__name__
    names = given if isinstance(given, Mapping) and all(isinstance(key, str) for key in given) else ()
    call = f"{name}({', '.join(f'{key}=…' for key in names)})"
    what = f"is the class {given.__name__}" if isinstance(given, type) else f"is a {type(given).__name__}"
    article = "an" if name[0] in "AEIOU" else "a"
    raise SnDeployError(
        what, where=where, expected=f"{expected}{article} {name}", mend=f"give {call}" if names else None
    )

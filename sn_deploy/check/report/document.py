"""The JSON document of a check, held against the dataclasses that it was made from."""

from __future__ import annotations

import dataclasses
import json
import re
import sys
import types
import typing
from collections.abc import Mapping, Sequence
from typing import Any, Final, Union

from sn_deploy.check.result import SCHEMA, CheckResult
from sn_deploy.errors import SnDeployError

# Control characters, halves of surrogate pairs, and the marks that turn the direction of what follows: none of them
# can be seen, some break XML, and some make a name look like another.
_UNSEEN: Final = re.compile(
    r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u200b-\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff\ufffe\uffff]"
)
_WHERE: Final = "the document"
_MEND: Final = "make it with: sn-deploy check … --json FILE"


def checked_document(document: Any) -> dict[str, Any]:
    """A copy in which everything has the type that `CheckResult` gives it, and what has a default is there.

    Fields that `CheckResult` doesn't have are left out. Where a float is asked for, None stands for what JSON can't
    say: infinity or NaN. Characters that can't be seen become U+FFFD.

    Raises:
        SnDeployError: it has another schema, or something is missing or of another type: said with its place.
    """
    if hasattr(document, "write_html"):
        raise SnDeployError("is the result itself", where=_WHERE, mend="call its own: result.write_html(path)")
    if not isinstance(document, Mapping) or "schema" not in document:
        raise SnDeployError("is not the document of a check", where=_WHERE, expected="a 'schema'", mend=_MEND)
    if document["schema"] != SCHEMA:
        raise SnDeployError(
            f"is of schema {document['schema']!r}",
            where=_WHERE,
            expected=str(SCHEMA),
            mend="use the sn-deploy that wrote it",
        )
    try:
        checked = _checked(document, CheckResult, "")
        for place, report in enumerate(checked["layers"]):
            culprit, names = report["culprit"], [layer["layer"] for layer in report["layers"]]
            _demand(culprit in (None, *names), culprit, "one of its layers", f"layers[{place}].culprit")
    except _UnlikeError as error:
        raise SnDeployError(
            f"{error.place or 'it'} is {error.found}", where=_WHERE, expected=error.expected, mend=_MEND
        ) from None
    except RecursionError:
        raise SnDeployError("is nested too deep", where=_WHERE, mend=_MEND) from None
    assert isinstance(checked, dict)
    return checked | {"passed": all(assertion["passed"] for assertion in checked["assertions"])}


def clean(text: str) -> str:
    """The text with every character that can't be seen replaced."""
    return _UNSEEN.sub("\ufffd", text)


class _UnlikeError(Exception):
    def __init__(self, place: str, found: str, expected: str) -> None:
        self.place, self.found, self.expected = place, found, expected
        super().__init__(place)


def _checked(value: Any, hint: Any, place: str) -> Any:
    if hint is Any:
        return _cleaned(value, place)
    if dataclasses.is_dataclass(hint):
        return _checked_fields(value, hint, place)
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (Union, types.UnionType):
        return _checked_union(value, arguments, place)
    if origin is not None and issubclass(origin, Mapping):
        _demand(isinstance(value, Mapping), value, "an object", place)
        return {clean(str(key)): _checked(item, arguments[1], f"{place}.{key}") for key, item in value.items()}
    if origin is not None and issubclass(origin, Sequence):
        _demand(isinstance(value, list | tuple), value, "a list", place)
        return [_checked(item, arguments[0], f"{place}[{index}]") for index, item in enumerate(value)]
    return _checked_scalar(value, hint, place)


def _checked_fields(value: Any, kind: Any, place: str) -> dict[str, Any]:
    _demand(isinstance(value, Mapping), value, "an object", place)
    hints = typing.get_type_hints(kind)
    found: dict[str, Any] = {}
    for field in dataclasses.fields(kind):
        inside = f"{place}.{field.name}" if place else field.name
        if field.name in value:
            found[field.name] = _checked(value[field.name], hints[field.name], inside)
        elif field.default is not dataclasses.MISSING:
            found[field.name] = list(field.default) if isinstance(field.default, tuple) else field.default
        elif field.default_factory is not dataclasses.MISSING:
            found[field.name] = field.default_factory()
        else:
            raise _UnlikeError(inside, "missing", "a value")
    return found


def _checked_union(value: Any, hints: Sequence[Any], place: str) -> Any:
    if value is None and type(None) in hints:
        return None
    errors = []
    for hint in hints:
        if hint is not type(None):
            try:
                return _checked(value, hint, place)
            except _UnlikeError as error:
                errors.append(error)
    raise errors[0]


def _checked_scalar(value: Any, hint: Any, place: str) -> Any:
    if hint is float:
        _demand(
            value is None or (isinstance(value, int | float) and not isinstance(value, bool)), value, "a number", place
        )
        _demand(value is None or abs(value) <= sys.float_info.max or isinstance(value, float), value, "a number", place)
        return None if value is None else float(value)
    if hint is int:
        fits = isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**63
        _demand(fits, value, "a whole number", place)
        return value
    if hint is bool:
        _demand(isinstance(value, bool), value, "true or false", place)
        return value
    assert hint is str, hint
    _demand(isinstance(value, str), value, "a string", place)
    return clean(value)


def _demand(holds: bool, value: Any, expected: str, place: str) -> None:
    if not holds:
        shown = json.dumps(value, default=str)
        raise _UnlikeError(place, shown if len(shown) <= 40 else f"{shown[:39]}…", expected)


def _cleaned(value: Any, place: str) -> Any:
    if isinstance(value, str):
        return clean(value)
    if isinstance(value, Mapping):
        return {clean(str(key)): _cleaned(item, f"{place}.{key}") for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_cleaned(item, f"{place}[{index}]") for index, item in enumerate(value)]
    if isinstance(value, int):
        _demand(abs(value) <= sys.float_info.max, value, "a number", place)
    return value

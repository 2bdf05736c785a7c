"""Numbers, lists and shapes for people."""

from __future__ import annotations

import datetime
import math
from collections.abc import Sequence
from typing import Any, Final

NONE: Final = "–"
# A size that exporters derive from others may be an expression of hundreds of characters.
_LONGEST_SIZE: Final = 20
_MONTHS: Final = ("January", "February", "March", "April", "May", "June", "July", "August", "September", "October",
                  "November", "December")  # fmt: skip


def number(value: float | int | None, digits: int = 3) -> str:
    """A few significant digits: ``0.731``, ``12.3``, ``1,797``, ``3.1e-7``."""
    if value is None:
        return NONE
    if isinstance(value, int) and abs(value) < 10**9:
        return f"{value:,}"
    if value == 0:
        return "0"
    if not math.isfinite(value):
        return str(value)
    exponent = math.floor(math.log10(abs(float(f"{value:.{digits - 1}e}"))))
    if not -4 < exponent < 6:
        mantissa, _, power = f"{value:.{digits - 1}e}".partition("e")
        mantissa = mantissa.rstrip("0").rstrip(".") if "." in mantissa else mantissa
        return f"{mantissa}e{int(power)}"
    return f"{value:,.{max(0, digits - 1 - exponent)}f}"


def error(value: float | None) -> str:
    """An error: two significant digits, ``3.1e-7``. JSON's null stands for what isn't finite."""
    return "not finite" if value is None else number(value, 2)


def percent(value: float | None, digits: int = 2, *, zeros: bool = False) -> str:
    """A share: ``99.55%``, ``100%``; with all its ``zeros`` for columns, ``100.00%``."""
    if value is None:
        return NONE
    text = f"{100 * value:.{digits}f}"
    # What isn't all must not be rounded to it, nor what is more.
    if text in (f"{100:.{digits}f}", f"{0:.{digits}f}") and value not in (0, 1):
        bound = 100.0 if value > 1 else 100 - 10.0**-digits if value > 0.5 else 10.0**-digits
        return f"{'over' if value > 0.5 else 'under'} {bound:.{digits}f}%"
    return f"{text if zeros or '.' not in text else text.rstrip('0').rstrip('.')}%"


def milliseconds(value: float | None) -> str:
    """A time with its unit, which stays on its line: ``12.3 ms``, ``83.1 µs``, ``1.25 s``."""
    if value is None:
        return NONE
    if value >= 1000:
        return f"{number(value / 1e3)}\u00a0s"
    return f"{number(value)}\u00a0ms" if value >= 0.1 else f"{number(value * 1e3)}\u00a0µs"


def duration(seconds: float | None) -> str:
    """A length of time in seconds or minutes."""
    if seconds is None:
        return NONE
    return f"{number(seconds, 2)}\u00a0s" if seconds < 100 else f"{seconds / 60:.0f}\u00a0min"


def moment(text: str) -> str:
    """A time in ISO's form for people: ``24 November 2026, 05:23 UTC``; other texts as they are."""
    try:
        when = datetime.datetime.fromisoformat(text)
    except ValueError:
        return text
    zone = "" if when.tzinfo is None else f" {when.tzname()}"
    return f"{when.day} {_MONTHS[when.month - 1]} {when.year}, {when:%H:%M}{zone}"


def listed(items: Sequence[str]) -> str:
    """``a``, ``a and b``, ``a, b and c``."""
    return items[0] if len(items) == 1 else f"{', '.join(items[:-1])} and {items[-1]}" if items else "nothing"


def counted(count: int, thing: str) -> str:
    """``1 sample``, ``2 samples``, ``3 batches``."""
    plural = f"{thing}es" if thing.endswith(("ch", "s", "x")) else f"{thing}s"
    return f"{count:,} {thing if count == 1 else plural}"


def plain(value: Any) -> str:
    """Any setting or fact: lists with commas, yes and no for booleans."""
    if value is None:
        return NONE
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, list | tuple):
        return ", ".join(plain(item) for item in value) or NONE
    if isinstance(value, dict):
        return ", ".join(f"{key} {plain(item)}" for key, item in value.items()) or NONE
    return str(value)


def shape_text(dims: Sequence[Any]) -> str:
    """``batch×3×224×224``; ? for a size without a name, or one that is a longer expression.

    Args:
        dims: ints, names or expressions, None.
    """
    return "×".join("?" if dim is None or len(str(dim)) > _LONGEST_SIZE else str(dim) for dim in dims) or "scalar"


def typed_shape(dims: Sequence[int]) -> str:
    """``8x3x224x224``, as options take it."""
    return "x".join(map(str, dims)) or "scalar"


def cut(text: str, characters: int) -> str:
    """One line, its middle left out where it is too long: the beginning and the end are what tells names apart."""
    line = " ".join(text.split())
    if len(line) <= characters:
        return line
    head = (characters - 1) // 3
    return f"{line[:head]}…{line[len(line) - (characters - 1 - head) :]}"

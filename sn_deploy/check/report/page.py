"""What a page is made of, before it is HTML."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from sn_deploy.check.report.pictures.canvas import Picture

Tone = Literal["", "good", "bad", "muted"]


@dataclass(frozen=True)
class Column:
    """A column of a table: its head, and whether numbers stand in it (at its right)."""

    head: str
    is_number: bool = False


@dataclass(frozen=True)
class Cell:
    """A cell of a table. Its text is escaped when it becomes HTML, as all text is.

    Attributes:
        code: set in a fixed width: names, hashes.
    """

    text: str
    tone: Tone = ""
    code: bool = False


@dataclass(frozen=True)
class Table:
    """A table whose first column heads its rows.

    Attributes:
        caption: what it shows; names it for those who don't see it.
        note: how to read it.
    """

    caption: str
    columns: Sequence[Column]
    rows: Sequence[Sequence[Cell]]
    note: str = ""


@dataclass(frozen=True)
class Section:
    """A part of the page.

    Attributes:
        key: its anchor.
        says: sentences that say what was found.
        warnings: what makes it doubtful and what to do about it.
        code: a command, as a block of its own, with its caption.
    """

    key: str
    title: str
    says: Sequence[str] = ()
    pictures: Sequence[Picture] = ()
    tables: Sequence[Table] = ()
    warnings: Sequence[str] = ()
    code: Sequence[tuple[str, str]] = field(default=())


@dataclass(frozen=True)
class Tile:
    """A figure at the top: what it is, the figure, and what it is set beside."""

    label: str
    figure: str
    beside: str
    tone: Tone = ""


def verdict(passed: bool) -> Cell:
    """Said in words, never by the colour alone."""
    return Cell("passed", "good") if passed else Cell("failed", "bad")

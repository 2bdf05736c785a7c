"""What a command did, as the lines that it ends with: a fact each, its name in bold."""

from __future__ import annotations

from collections.abc import Collection
from itertools import islice
from pathlib import Path
from typing import Protocol

from rich.table import Table

from sn_deploy.console import Console


class Written(Protocol):
    """What reports say of the file that was made of another one; bytes are those of external data, too."""

    @property
    def path(self) -> Path: ...
    @property
    def data_path(self) -> Path | None: ...
    @property
    def bytes(self) -> int: ...
    @property
    def bytes_before(self) -> int: ...


class Summary:
    """Lines of a name and a text; a long text is folded beside its name."""

    def __init__(self) -> None:
        self._table = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
        self._table.add_column(style="bold", no_wrap=True)
        self._table.add_column(overflow="fold")

    def add(self, name: str, text: str) -> None:
        """One line."""
        self._table.add_row(name, text)

    def add_first(self, name: str, texts: Collection[str], most: int) -> None:
        """A line for each of the first ``most`` texts, and one that counts the others."""
        for text in islice(texts, most):
            self.add(name, text)
        if len(texts) > most:
            self.add(name, f"and {len(texts) - most} more")

    def add_file(self, path: Path, data_path: Path | None, more: str = "") -> None:
        """The file that was written, and the one of its external data."""
        self.add("file", f"{path}{f' + {data_path.name}' if data_path else ''}{more}")

    def add_result(self, report: Written, opset: int, opset_before: int, more: str = "") -> None:
        """The file that was made of another one, and its graph: the opset, and ``more`` about it."""
        self.add_file(report.path, report.data_path, sizes(report.bytes, report.bytes_before))
        self.add("graph", f"opset {opset}{f', was {opset_before}' if opset_before != opset else ''}{more}")

    def print(self, console: Console) -> None:
        """All lines, in the order in which they were added."""
        console.print(self._table)


def sizes(now: int, before: int | None = None) -> str:
    """Bytes of the file, and of the one that it was made of, as `Summary.add_file`'s ``more``."""
    unit, one = ("MB", 1e6) if max(now, before or 0) >= 1e6 else ("kB", 1e3)
    was = f", was {before / one:.1f}" if before is not None else ""
    return f"  ({now / one:.1f} {unit}{was})"

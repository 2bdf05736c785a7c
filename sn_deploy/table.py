"""Tables as the commands print them: no lines, and heads in bold."""

from __future__ import annotations

from collections.abc import Sequence

from rich.table import Table


def plain_table(*texts: str, numbers: Sequence[str] = (), title: str | None = None) -> Table:
    """A table without rows.

    Args:
        texts: heads of columns that are folded where the window is too narrow.
        numbers: heads of columns behind these, to the right and never folded.
        title: a line above it.
    """
    table = Table(
        title=title, title_justify="left", title_style="bold", box=None, padding=(0, 2, 0, 0), header_style="bold"
    )
    for head in texts:
        table.add_column(head, overflow="fold")
    for head in numbers:
        table.add_column(head, justify="right", no_wrap=True)
    return table

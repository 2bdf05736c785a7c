"""Reports as people meet them: a line where one is looked at, and what the command prints where one is printed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sn_deploy.console import Console


class Printed:
    """Base of a report. Its ``repr`` is a line, as the whole fills pages; ``str`` and a notebook show the tables."""

    def _line(self) -> str:
        raise NotImplementedError

    def _print(self, console: Console) -> None:
        raise NotImplementedError

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: {self._line()}>"

    def __str__(self) -> str:
        from sn_deploy.console import printed_text

        return printed_text(self._print)

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:
        """In a notebook: the tables, but for one in a list or a dict."""
        printer.text(str(self) if len(getattr(printer, "stack", ())) < 2 else repr(self))

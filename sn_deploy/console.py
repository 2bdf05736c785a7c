"""rich's console, for text from strangers' files: a terminal obeys control characters, whoever wrote them.

A name in a file could otherwise clear the screen, write another verdict, or set the clipboard.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator
from typing import Any, Final

import rich.console
from rich.console import ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.text import Text

# Control characters but tab and end of line, the separators of lines that some terminals take, and marks that turn the
# direction of what follows.
_OBEYED: Final = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u200e\u200f\u202a-\u202e\u2066-\u2069]")

# Wide enough for any row: what goes to a file or to grep is neither folded nor cut.
_WIDTH_OF_A_PIPE: Final = 400


class Console(rich.console.Console):
    """Prints control characters as Python writes them, ``\\x1b``, and ``:car:`` as it is: names have colons."""

    def __init__(self, **options: Any) -> None:
        super().__init__(emoji=False, **options)

    def render_str(self, text: str, **options: Any) -> Text:
        """See rich. Most texts come by here, before it is known how wide a table gets."""
        return super().render_str(shown(text), **options)

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterator[Segment]:
        """See rich. All that is printed comes by here; what moves the cursor is rich's own, and marked as such."""
        for segment in super().render(renderable, options):
            if segment.control or _OBEYED.search(segment.text) is None:
                yield segment
            else:
                yield Segment(shown(segment.text), segment.style)


def output_console(*, to_stderr: bool = False) -> Console:
    """For what a command found, on the standard output or the error output; text is shown as it is."""
    terminal = (sys.stderr if to_stderr else sys.stdout).isatty()
    return Console(width=None if terminal else _WIDTH_OF_A_PIPE, stderr=to_stderr, highlight=False, markup=False)


def printed_text(print_it: Callable[[Console], None]) -> str:
    """What is printed, without colours, in lines of 120 characters: for a notebook and a log alike."""
    console = Console(
        width=120, no_color=True, highlight=False, markup=False, force_terminal=False, force_jupyter=False
    )
    with console.capture() as captured:
        print_it(console)
    return "\n".join(line.rstrip() for line in captured.get().rstrip().splitlines())


def shown(text: str) -> str:
    """The text without characters that a terminal obeys."""
    return _OBEYED.sub(lambda found: ascii(found.group())[1:-1], text)

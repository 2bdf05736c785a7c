"""The standard streams: all three are there, and take any text, whatever the locale and whoever closed them."""

from __future__ import annotations

import codecs
import io
import os
import sys
from typing import Final

_HANDLER: Final = "sn_deploy.escape"

# What tables and messages are written with, where the locale has no letter for it.
_LOOKALIKES: Final = {
    "×": "x", "·": "*", "…": "...", "–": "-", "−": "-", "─": "-", "²": "2", "µ": "u", "Σ": "sum", "√": "sqrt",
    "→": "->", "±": "+-", "“": '"', "”": '"',
}  # fmt: skip


def prepare_streams() -> None:
    """Opens what the caller has closed, and lets every character be printed.

    Without this a closed standard output leaves its number to the next file that is opened: a library's message would
    go into the model.
    """
    for number, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        try:
            os.fstat(number)
        except OSError:
            # The lowest free number, which is this one: those below are open by now.
            os.open(os.devnull, os.O_RDONLY if mode == "r" else os.O_WRONLY)
        if getattr(sys, name) is None:
            setattr(sys, name, open(number, mode, encoding="utf-8", closefd=False))  # noqa: SIM115
    codecs.register_error(_HANDLER, _escape)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=_HANDLER)


def discard_output() -> None:
    """Lets what is still to be printed go nowhere: Python would complain again at its exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _escape(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    text = error.object[error.start : error.end]
    return "".join(_LOOKALIKES.get(character) or _number(character) for character in text), error.end


def _number(character: str) -> str:
    code = ord(character)
    if 0xDC80 <= code <= 0xDCFF:  # a byte of a file's name that is no text
        return f"\\x{code - 0xDC00:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"

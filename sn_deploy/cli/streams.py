"""The standard streams: all three are there, and take any text, whatever the locale and whoever closed them.

So does a pipe whose reader has what it wanted, ``sn-deploy check … --json FILE | head``: the command still writes its
files, and has its own exit code.
"""

from __future__ import annotations

import codecs
import io
import os
import stat
import sys
from typing import Any, Final

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
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=_HANDLER)
            if _is_pipe(stream):
                setattr(sys, name, _lasting(stream))


def discard_output() -> None:
    """Lets what is still to be printed go nowhere: Python would complain again at its exit."""
    _to_nowhere(sys.stdout.fileno())


class _Pipe(io.FileIO):
    """Takes what nobody reads any more, too."""

    def write(self, data: Any) -> int:
        try:
            return super().write(data)
        except BrokenPipeError:
            _to_nowhere(self.fileno())
            return super().write(data)


def _is_pipe(stream: io.TextIOWrapper) -> bool:
    try:
        mode = os.fstat(stream.fileno()).st_mode
    except (OSError, ValueError):  # it isn't the system's, or is closed
        return False
    return stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode)


def _lasting(stream: io.TextIOWrapper) -> io.TextIOWrapper:
    """The same stream, that its reader's end doesn't end."""
    stream.flush()
    raw = _Pipe(stream.fileno(), "wb", closefd=False)
    # As Python makes its own: unbuffered with its option -u.
    binary: Any = raw if stream.write_through else io.BufferedWriter(raw)
    return io.TextIOWrapper(
        binary,
        encoding=stream.encoding,
        errors=stream.errors,
        line_buffering=stream.line_buffering,
        write_through=stream.write_through,
    )


def _to_nowhere(number: int) -> None:
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, number)
    os.close(nowhere)


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

"""What TensorRT warned of during a build, for the notes."""

from __future__ import annotations

import threading
from typing import Final

_MOST_NOTES: Final = 5
_MOST_KEPT: Final = 1000
_MOST_LETTERS: Final = 300


class Heard:
    """Warnings and errors, each once. It is what is told of the log: any thread may call it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._messages: dict[str, None] = {}

    def __call__(self, severity: str, message: str) -> None:
        if severity == "INFO":
            return
        with self._lock:
            if len(self._messages) < _MOST_KEPT:
                self._messages[f"TensorRT {severity.lower().replace('_', ' ')}: {message}"] = None

    def notes(self) -> list[str]:
        """A line for each of the first, and how many more there were."""
        with self._lock:
            lines = list(self._messages)
        notes = [line if len(line) <= _MOST_LETTERS else f"{line[:_MOST_LETTERS]}…" for line in lines[:_MOST_NOTES]]
        if len(lines) > _MOST_NOTES:
            notes.append(f"TensorRT warned of {len(lines) - _MOST_NOTES} more things: --verbose shows all of them")
        return notes

"""Which files are TensorRT engines: those that are named so. Their content begins with nothing that is documented."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from sn_deploy.errors import SnDeployError

SUFFIXES: Final = (".engine", ".plan", ".trt")
SUFFIXES_TEXT: Final = f"{', '.join(SUFFIXES[:-1])} or {SUFFIXES[-1]}"


def is_engine_name(path: Path) -> bool:
    """Whether a file is taken for an engine."""
    return path.suffix.lower() in SUFFIXES


def check_engine_name(path: Path) -> None:
    """Refuses, before any work is done, to write an engine under a name that no command would take it by.

    Raises:
        SnDeployError: the name's end is another.
    """
    if not is_engine_name(path):
        raise SnDeployError(
            f"has no engine's name: it ends in {path.suffix!r}" if path.suffix else "has no engine's name",
            where=str(path),
            expected=f"a name that ends in {SUFFIXES_TEXT}",
        )

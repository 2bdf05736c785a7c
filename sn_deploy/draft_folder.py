"""A folder for files that are made on the way to an output. Errors don't name them: they are gone when one is read."""

from __future__ import annotations

import contextlib
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path

from sn_deploy.errors import SnDeployError


@contextlib.contextmanager
def draft_folder(output: Path | None, *, of: str) -> Iterator[Path]:
    """A folder that is gone afterwards.

    Args:
        output: the file that is to be written; the folder lies beside it, where there is room for a file as large. None
            for the system's own place.
        of: what errors call a file in the folder: the user's own file, which it is made of.

    Raises:
        SnDeployError: whatever is raised within, with ``of`` in the place of every name of a file in the folder.
    """
    prefix = None if output is None else f".{output.stem[:40]}-"
    with tempfile.TemporaryDirectory(prefix=prefix, dir=None if output is None else output.parent) as name:
        folder = Path(name)
        try:
            yield folder
        except SnDeployError as error:
            names = _names(folder, output)
            texts = (error.what, error.where, error.expected, error.mend)
            if not any(text is not None and names.search(text) for text in texts):
                raise
            what, where, expected, mend = (text if text is None else names.sub(lambda _: of, text) for text in texts)
            if where != error.where:
                what = f"what was made of it: {what}"
            raise type(error)(what or "", where=where, expected=expected, mend=mend) from error


def _names(folder: Path, output: Path | None) -> re.Pattern[str]:
    """Of files in the folder, and of itself: the output's, which may have any character in it, and those of drafts."""
    folders = {str(folder), str(folder.resolve())}
    file = r"[/\\][\w.-]+" if output is None else rf"[/\\]{re.escape(output.name)}|[/\\][\w.-]+"
    return re.compile("|".join(rf"{re.escape(name)}(?:{file})*" for name in sorted(folders, key=len, reverse=True)))

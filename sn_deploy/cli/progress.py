"""A progress bar on the terminal, and nothing at all elsewhere."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from rich.progress import BarColumn, Progress, ProgressColumn, TextColumn

from sn_deploy.console import Console


@contextlib.contextmanager
def progress_bar(*columns: ProgressColumn, auto_refresh: bool = True) -> Iterator[Progress]:
    """A bar behind the task's description, on the standard error, gone when it is done.

    Args:
        columns: behind the bar.
        auto_refresh: whether a thread draws it; without, ``refresh`` does, where a thread would be timed, too.
    """
    console = Console(stderr=True)
    progress = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        *columns,
        console=console,
        transient=True,
        auto_refresh=auto_refresh,
        disable=not console.is_terminal,
    )
    if progress.disable:
        # Not entered: before rich 15 one that is turned off ends with an empty line all the same.
        yield progress
        return
    with progress:
        yield progress

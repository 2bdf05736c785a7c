"""What ``sn-deploy check`` shows while it works."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

from rich.progress import MofNCompleteColumn, TimeRemainingColumn

from sn_deploy.check.batch import Batch
from sn_deploy.check.bisect.run import OnRun
from sn_deploy.check.job import Watcher
from sn_deploy.cli.progress import progress_bar
from sn_deploy.console import Console


class CheckProgress(Watcher):
    """Lines on a console, and bars on a terminal. These are drawn by nobody else's thread: it would be timed, too."""

    def __init__(self, console: Console) -> None:
        self._console = console

    def note(self, text: str) -> None:
        """See `Watcher`."""
        self._console.print(text)

    def warn(self, text: str) -> None:
        """See `Watcher`."""
        self._console.print(f"warning: {text}", style="yellow", soft_wrap=True)

    @contextlib.contextmanager
    def comparing(self, batches: int | None) -> Iterator[Callable[[Batch], None]]:
        """See `Watcher`."""
        with progress_bar(MofNCompleteColumn(), TimeRemainingColumn(), auto_refresh=False) as progress:
            task = progress.add_task("compare", total=batches)

            def advance(batch: Batch) -> None:
                progress.advance(task)
                progress.refresh()

            yield advance

    @contextlib.contextmanager
    def bisecting(self, most_runs: int) -> Iterator[OnRun]:
        """See `Watcher`."""
        with progress_bar(MofNCompleteColumn(), TimeRemainingColumn(), auto_refresh=False) as progress:
            task = progress.add_task("bisect", total=most_runs)

            def show(done: int, most: int, seconds: float) -> None:
                if done == 1:
                    self.note(f"a run takes {seconds:.1f} s, so {most} take {most * seconds:.0f} s at most")
                progress.update(task, completed=done)
                progress.refresh()

            yield show

    @contextlib.contextmanager
    def timing(self) -> Iterator[Callable[[str, float], None] | None]:
        """See `Watcher`."""
        with progress_bar(auto_refresh=False) as progress:
            task = progress.add_task("latency", total=1.0)

            def show(text: str, share: float) -> None:
                progress.update(task, completed=share, description=f"latency, {text}")
                progress.refresh()

            yield show if not progress.disable else None

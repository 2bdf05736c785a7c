"""What was made for a server, as lines for people."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sn_deploy.console import Console
from sn_deploy.serve.deployment import shell_command
from sn_deploy.summary import Summary

if TYPE_CHECKING:
    from sn_deploy.serve.run import ServeReport


def print_report(console: Console, report: ServeReport) -> None:
    """The summary."""
    summary = Summary()
    summary.add("model", f"{report.folder}, version {report.version}")
    batches = f"up to {report.max_batch} samples" if report.max_batch else "none"
    if not report.max_batch and report.why_not_batched:
        batches += f": {report.why_not_batched}"
    summary.add("batches", batches)
    if report.proved is not None:
        summary.add("tried", report.proved)
    for index, file in enumerate(report.files):
        summary.add("" if index else "deploy", str(file))
    summary.print(console)
    for note in report.notes:
        console.print(f"note: {note}", style="yellow")
    console.print(f"\nserve it with:\n  {shell_command(report.command)}")

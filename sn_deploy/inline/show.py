"""What `inline` did, as lines for people."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from sn_deploy.console import Console
from sn_deploy.fuse.show_whole import add_whole, print_by_hand
from sn_deploy.summary import Summary

if TYPE_CHECKING:
    from sn_deploy.inline.run import InlineReport


def print_report(console: Console, report: InlineReport, source: Path | None = None) -> None:
    """The summary; with the source, how to compare by hand what couldn't be run."""
    summary = Summary()
    nodes = f", {report.nodes} nodes, was {report.nodes_before}"
    summary.add_result(report, report.opset, report.opset_before, nodes)
    summary.add("layers", f"{report.layers} SwitchNorm nodes became standard operators" if report.layers else "none")
    add_whole(summary, report.whole)
    summary.print(console)
    print_by_hand(console, report.whole, report.path, source)

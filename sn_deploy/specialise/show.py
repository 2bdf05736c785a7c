"""What `specialise` changed: a table of the layers and the proof, and both as JSON."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from sn_deploy.console import Console
from sn_deploy.summary import Summary
from sn_deploy.table import plain_table
from sn_deploy.text import percent

if TYPE_CHECKING:
    from sn_deploy.specialise.report import LayerChange, SpecialiseReport
    from sn_deploy.specialise.samples import Error


_BRANCHES = {"in": "IN", "ln": "LN"}


def print_report(console: Console, report: SpecialiseReport) -> None:
    """A table of the layers, and the proof."""
    table = plain_table("layer")
    table.add_column("dropped")
    table.add_column("rel L2 of that alone", justify="right")
    table.add_column("is now", overflow="fold")
    table.add_column("ms before", justify="right")
    table.add_column("ms after", justify="right")
    for layer in report.layers:
        dropped = " ".join(_BRANCHES[branch] for branch in layer.dropped) or "–"
        error = "" if layer.error is None else f"{layer.error:.1e}"
        table.add_row(layer.name, dropped, error, _form_text(layer), _ms(layer.before_ms), _ms(layer.after_ms))
    console.print(table)
    summary = Summary()
    nodes = f"{report.nodes} nodes, was {report.nodes_before}"
    summary.add_file(report.path, report.data_path, f", for {report.runtime}: {nodes}")
    interval = f"{report.time_low:.3f} to {report.time_high:.3f}"
    if all(layer.form == "kept" for layer in report.layers):
        summary.add("changed", f"no layer: {_why_nothing(report)}")
    else:
        summary.add("time", f"{report.time_ratio:.3f} of what it was ({interval}), batch {report.batch}")
    summary.add(
        "forms",
        f"the same as SwitchNorm to {report.exact_rel_l2:.1e} (relative L2, at most {report.exact_tolerance:.0e})",
    )
    if report.budget is not None:
        if report.chosen_on is not None:
            summary.add("chosen on", _error_text(report.chosen_on))
        summary.add("held out", f"{_error_text(report.held_out)}; allowed: {report.budget}")
    summary.print(console)


def json_from_report(report: SpecialiseReport) -> dict[str, Any]:
    """The report as what JSON can hold; layers in the order in which they run."""
    plain = asdict(report)
    plain["path"] = str(report.path)
    plain["data_path"] = None if report.data_path is None else str(report.data_path)
    return plain


def _why_nothing(report: SpecialiseReport) -> str:
    if report.budget is None:
        return "none has a weight of 0 that would make it cheaper; sn-deploy specialise --budget lets some error in"
    return f"what would save time costs more than the budget allows ({report.budget})"


def _form_text(layer: LayerChange) -> str:
    return layer.form if layer.reason is None else f"{layer.form}: {layer.reason}"


def _ms(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"


def _error_text(error: Error) -> str:
    text = f"{error.samples} samples: rel_l2 {error.rel_l2:.2g}"
    if error.changed is not None:
        text += f", {percent(error.changed, zeros=True)} have another class on top"
    if error.accuracy is not None and error.accuracy_before is not None:
        text += f", accuracy {percent(error.accuracy, zeros=True)}, was {percent(error.accuracy_before, zeros=True)}"
    return text

"""What `fuse` found, as lines for people and as JSON."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sn_deploy.console import Console
from sn_deploy.fuse.show_whole import add_whole, print_by_hand
from sn_deploy.summary import Summary

if TYPE_CHECKING:
    from sn_deploy.fuse.report import FusedLayer, FuseReport


def print_report(console: Console, report: FuseReport, source: Path | None = None) -> None:
    """The summary, and every near miss; with the source, how to compare by hand what couldn't be run."""
    summary = Summary()
    nodes = f", {report.nodes} nodes, was {report.nodes_before}"
    summary.add_result(report, report.opset, report.opset_before, nodes)
    summary.add("layers", _layers_text(report))
    summary.add("forms", ", ".join(f"{count} {form}" for form, count in report.forms.items()))
    if report.layers:
        worst = max(report.layers, key=lambda layer: layer.mismatch)
        text = f"each layer agrees with the nodes it replaced in float64, to {worst.mismatch:.1e} ({worst.node})"
        summary.add("proof", text)
    add_whole(summary, report.whole)
    for node, reason in report.apart.items():
        summary.add("apart", f"{node}: the ReLU stays, {reason}")
    summary.print(console)
    print_by_hand(console, report.whole, report.path, source)
    for miss in report.near_misses:
        console.print(f"near miss: {miss.node}: {miss.reason}", style="yellow", soft_wrap=True)


def json_from_report(report: FuseReport) -> dict[str, Any]:
    """The report as what JSON can hold; lists and maps in the order of the graph."""
    return {
        "path": str(report.path),
        "data_path": None if report.data_path is None else str(report.data_path),
        "layers": [_json_from_layer(layer) for layer in report.layers],
        "near_misses": [{"node": miss.node, "reason": miss.reason} for miss in report.near_misses],
        "present": report.present,
        "forms": dict(report.forms),
        "apart": dict(report.apart),
        "opset": {"before": report.opset_before, "after": report.opset},
        "nodes": {"before": report.nodes_before, "after": report.nodes},
        "bytes": {"before": report.bytes_before, "after": report.bytes},
        "whole": asdict(report.whole),
    }


def _json_from_layer(layer: FusedLayer) -> dict[str, Any]:
    folded = layer.folded
    return {
        "name": folded.name,
        "node": layer.node,
        "shape": list(layer.shape),
        "channels_last": layer.channels_last,
        "mean": {"in": folded.mean_in, "ln": folded.mean_ln, "bn": folded.mean_bn},
        "var": {"in": folded.var_in, "ln": folded.var_ln, "bn": folded.var_bn},
        "ddof": folded.ddof,
        "replaced": layer.replaced,
        "mismatch": layer.mismatch,
    }


def _layers_text(report: FuseReport) -> str:
    if not report.layers:
        return f"none to fuse: its {report.present} SN layers are SwitchNorm nodes already"
    replaced = sum(layer.replaced for layer in report.layers)
    text = f"{len(report.layers)} SN layers found, {replaced} nodes became {len(report.layers)}"
    if report.present:
        text += f"; {report.present} more were SwitchNorm nodes already"
    last = sum(layer.channels_last for layer in report.layers)
    return text + (f"; {last} with their channels last" if last else "")

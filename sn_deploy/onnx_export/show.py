"""An export as lines for people."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sn_deploy.compare.held_outputs import difference_text
from sn_deploy.console import Console
from sn_deploy.graph.op import SWITCH_NORM, SWITCH_NORM_ADD_RELU, SWITCH_NORM_RELU
from sn_deploy.summary import Summary, sizes
from sn_deploy.text import counted

if TYPE_CHECKING:
    from sn_deploy.onnx_export import ExportReport, Proof


_MOST_APART_SHOWN = 5
_MOST_RUNS_SHOWN = 3


def print_report(console: Console, report: ExportReport, *, standard: bool = True) -> None:
    """The summary of an export; ``standard``: with what torch's own has, which takes exports of its own."""
    summary = Summary()
    summary.add_file(report.path, report.data_path, sizes(report.file_bytes))
    summary.add("inputs", "  ".join(f"{name}: {text}" for name, text in report.inputs.items()))
    summary.add("outputs", "  ".join(f"{name}: {text}" for name, text in report.outputs.items()))
    summary.add("graph", f"opset {report.opset}, {report.precision}, {_layers_text(report)}")
    if report.forms:
        summary.add("operators", _forms_text(report))
    apart = [f"{name}: {reason}" for name, reason in report.apart.items()]
    summary.add_first("not fused", apart, _MOST_APART_SHOWN)
    summary.add("nodes", _nodes_text(report, standard))
    summary.add("folded", _folded_text(report))
    summary.add("proof", _proof_text(report.proof))
    for name, reason in report.proof.left_out.items():
        summary.add("left out", f"output {name}: {reason}")
    for limit in report.proof.not_tried:
        summary.add("not tried", f"the model's code asks whether {limit}, and the file holds what it does then alone")
    for name, reason in report.kept.items():
        summary.add("kept", f"{name}: {reason}")
    if report.unused:
        summary.add("unused", f"layers that don't run on these inputs: {', '.join(report.unused)}")
    summary.print(console)


def _layers_text(report: ExportReport) -> str:
    calls = sum(layer.calls for layer in report.layers)
    text = f"{len(report.layers)} SN layer{'' if len(report.layers) == 1 else 's'}"
    return f"{text} called {calls} times" if calls != len(report.layers) else text


def _forms_text(report: ExportReport) -> str:
    names = {SWITCH_NORM_RELU: "with ReLU", SWITCH_NORM_ADD_RELU: "with residual and ReLU"}
    fused = ", ".join(f"{report.forms[form]} {name}" for form, name in names.items() if form in report.forms)
    text = f"{sum(report.forms.values())} {SWITCH_NORM}{f': {fused}' if fused else ''}"
    return text + ("; inlined" if report.inlined else "; each form with a local function")


def _nodes_text(report: ExportReport, standard: bool) -> str:
    counts = ", ".join(f"{count} {op_type}" for op_type, count in list(report.op_counts.items())[:6])
    text = f"{report.nodes} ({counts}{', …' if len(report.op_counts) > 6 else ''})"
    if not standard:
        return text
    before = "not possible" if report.nodes_standard is None else report.nodes_standard
    return f"{text}; torch's own export: {before}"


def _folded_text(report: ExportReport) -> str:
    with_bn = [layer for layer in report.layers if layer.folded.mean_bn or layer.folded.var_bn]
    biased = sum(layer.folded.ddof == 0 for layer in report.layers)
    layers = f"{len(report.layers)} layer{'' if len(report.layers) == 1 else 's'}"
    text = f"softmax weights and epsilon of {layers}, the BN statistics of {len(with_bn)}"
    return text + (f"; {biased} with a biased variance" if biased else "")


def _proof_text(proof: Proof) -> str:
    if proof.why_not is not None:
        return f"not compared with the model, as {proof.why_not}"
    figures = difference_text(proof.rel_l2, proof.tolerance, proof.changed)
    inputs = [", ".join(f"{name} {shape}" for name, shape in run.items()) for run in proof.runs]
    how = "in float32 and " if proof.in_float32 else ""
    more = f"; and at {counted(len(inputs) - _MOST_RUNS_SHOWN, 'other size')}" if len(inputs) > _MOST_RUNS_SHOWN else ""
    return f"{figures} from the model, both {how}run on {'; '.join(inputs[:_MOST_RUNS_SHOWN])}{more}"

"""A conversion or quantization as lines for people and as JSON."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from sn_deploy.console import Console
from sn_deploy.summary import Summary
from sn_deploy.text import counted, percent

if TYPE_CHECKING:
    from sn_deploy.precision.proof import Proof
    from sn_deploy.precision.quantization import QuantizeReport
    from sn_deploy.precision.run import PrecisionReport


_MOST_LINES = 8
_MOST_NAMES = 4


def print_conversion(console: Console, report: PrecisionReport, data: str = "") -> None:
    """The summary of a conversion."""
    conversion = report.conversion
    summary = Summary()
    casts = f"; {conversion.casts} casts between the two types"
    summary.add_result(report, conversion.opset, conversion.opset_before, casts)
    summary.add("nodes", f"{len(conversion.converted)} in {report.precision}, {len(conversion.kept)} kept in float32")
    summary.add_first("float32", [f"{node}: {reason}" for node, reason in conversion.left.items()], _MOST_LINES)
    vanished = [weight for weight in conversion.rounded if weight.vanished]
    if vanished:
        count, total = sum(weight.vanished for weight in vanished), sum(weight.elements for weight in vanished)
        # An epsilon, say, without which something is divided by 0.
        gone = [f"{weight.name} (read by {weight.node})" for weight in vanished if weight.vanished == weight.elements]
        wholly = f"; nothing is left of {', '.join(gone[:_MOST_NAMES])}" if gone else ""
        wholly += f" and {len(gone) - _MOST_NAMES} more" if len(gone) > _MOST_NAMES else ""
        text = f"{count} of {total} values in {counted(len(vanished), 'weight')} are too small, and become 0{wholly}"
        summary.add("rounded", text)
    if report.ranges:
        first = report.ranges[0]
        summary.add("range", f"no activation is beyond {first.largest:.3g} on this data ({first.node})")
    if not report.layers:
        summary.add("note", _no_layers_text(report.precision))
    summary.add("proof", f"{_proof_text(report.proof)} on {_samples_text(report.proof, data)}")
    summary.print(console)


def print_quantization(console: Console, report: QuantizeReport, data: str = "") -> None:
    """The summary of a quantization."""
    quantized = report.quantized
    summary = Summary()
    summary.add_result(report, report.opset, report.opset_before)
    count = len(quantized.nodes) + len(quantized.left)
    summary.add("quantized", f"{len(quantized.nodes)} of {count} convolutions and classifiers, {report.precision}")
    summary.add_first("as before", [f"{node}: {reason}" for node, reason in quantized.left.items()], _MOST_LINES)
    if report.layers:
        summary.add("the rest", f"{report.float_type}; parameters and statistics of SN layers float32")
    elif report.float_type == "fp32":
        summary.add("the rest", "fp32")
    else:
        summary.add("the rest", f"{report.float_type}; {_no_layers_text(report.float_type)}")
    summary.add("ranges", f"{report.method} of {_samples_text(report.proof, data)}")
    summary.add("proof", f"{_proof_text(report.proof)} on the same samples")
    summary.print(console)


def json_from_conversion(report: PrecisionReport) -> dict[str, Any]:
    """A conversion as what JSON can hold."""
    conversion = report.conversion
    return {
        "path": str(report.path),
        "data_path": None if report.data_path is None else str(report.data_path),
        "precision": report.precision,
        "opset": {"before": conversion.opset_before, "after": conversion.opset},
        "bytes": {"before": report.bytes_before, "after": report.bytes},
        "converted": list(conversion.converted),
        "kept": list(conversion.kept),
        "left": dict(conversion.left),
        "vanished": {weight.name: weight.vanished for weight in conversion.rounded if weight.vanished},
        "casts": conversion.casts,
        "largest": {one.node: one.largest for one in report.ranges},
        "proof": _json_from_proof(report.proof),
    }


def json_from_quantization(report: QuantizeReport) -> dict[str, Any]:
    """A quantization as what JSON can hold."""
    return {
        "path": str(report.path),
        "data_path": None if report.data_path is None else str(report.data_path),
        "precision": report.precision,
        "float_type": report.float_type,
        "method": report.method,
        "opset": {"before": report.opset_before, "after": report.opset},
        "bytes": {"before": report.bytes_before, "after": report.bytes},
        "quantized": list(report.quantized.nodes),
        "left": dict(report.quantized.left),
        "ranges": dict(report.quantized.ranges),
        "proof": _json_from_proof(report.proof),
    }


def _json_from_proof(proof: Proof) -> dict[str, Any]:
    """The figures of each output."""
    outputs: dict[str, Mapping[str, Any]] = {
        name: {
            "rel_l2": parity.rel_l2,
            "worst_rel_l2": parity.worst_rel_l2,
            "max_abs": parity.max_abs,
            **({"top1_agreement": proof.top1_agreement[name]} if name in proof.top1_agreement else {}),
            **({"cosine": proof.cosine[name]} if name in proof.cosine else {}),
        }
        for name, parity in proof.outputs.items()
    }
    outputs |= {name: {"changed": changed} for name, changed in proof.changed.items()}
    return {"samples": proof.samples, "data": dict(proof.data), "outputs": outputs}


def _no_layers_text(precision: str) -> str:
    """Of a file without SwitchNorm nodes: that SN in standard operators isn't spared."""
    return (
        f"no SwitchNorm node; SN layers in standard operators take their statistics in {precision}, too: "
        "make them nodes first, with sn-deploy fuse"
    )


def _proof_text(proof: Proof) -> str:
    """The figures of each output."""
    parts = []
    for name, parity in proof.outputs.items():
        share = proof.top1_agreement.get(name)
        agreement = f", the same class for {percent(share, zeros=True)}" if share is not None else ""
        if name in proof.cosine:
            agreement = f", cosine at least {proof.cosine[name]:.9f}"
        parts.append(f"{name}: relative L2 {parity.rel_l2:.1e}{agreement}")
    parts += [f"{name}: {percent(changed)} of it changed" for name, changed in proof.changed.items()]
    return "; ".join(parts)


def _samples_text(proof: Proof, data: str) -> str:
    """How many, and of what: as it was typed, where it was."""
    return f"{counted(proof.samples, 'sample')} of {data or proof.data.get('kind', 'the data')}"

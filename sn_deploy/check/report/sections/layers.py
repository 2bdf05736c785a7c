"""The error after each SN layer, and the first that leaves its tolerance."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from sn_deploy.check.report.page import Cell, Column, Section, Table, verdict
from sn_deploy.check.report.pictures.layer_error import layer_error_picture
from sn_deploy.check.report.text import counted, error, shape

_NOTE: Final = (
    "All errors are relative L2. “So far” is what has come together up to the layer's output; “the layer's own” is its "
    "output beside the exact result for the same input."
)


def layers_section(document: Mapping[str, Any], places: Mapping[str, int]) -> Section | None:
    """One picture, and a table for each backend."""
    reports = [report for report in document["layers"] if report["layers"]]
    if not reports:
        return None
    says = [sentence for report in reports for sentence in _says(report)]
    return Section(
        "layers",
        "Error by layer",
        says,
        pictures=[layer_error_picture(reports, places, " ".join(says))],
        tables=[_table(report, _NOTE if report is reports[-1] else "") for report in reports],
    )


def _says(report: Mapping[str, Any]) -> Iterator[str]:
    layers, backend = report["layers"], report["backend"]
    if report["culprit"] is None:
        first, last = layers[0]["rel_l2"], layers[-1]["rel_l2"]
        own = max(layers, key=lambda layer: float("inf") if layer["own_rel_l2"] is None else layer["own_rel_l2"])
        yield (
            f"{backend}: all {counted(len(layers), 'layer')} are within their tolerances. The relative L2 error is "
            f"{error(first)} after the first and {error(last)} after the last; the most that a layer adds of its own "
            f"is {error(own['own_rel_l2'])}, in {own['layer']}."
        )
        return
    number, culprit = next(
        (number, layer) for number, layer in enumerate(layers, 1) if layer["layer"] == report["culprit"]
    )
    place = f"layer {number} of {len(layers)}"
    if report["culprit_part"] == "layer":
        yield (
            f"{backend}: the fault is in {culprit['layer']} ({place}). On the very input that it got, its output is "
            f"off by {error(culprit['own_rel_l2'])}, and {error(culprit['own_tolerance'])} is allowed; what reached "
            f"it was off by {error(culprit['input_rel_l2'])}."
        )
    else:
        before = f"after {layers[number - 2]['layer']} and before {culprit['layer']}" if number > 1 else "before it"
        yield (
            f"{backend}: {culprit['layer']} ({place}) is the first that leaves its tolerance, but it computes what it "
            f"should: its input is off by {error(culprit['input_rel_l2'])} already. The fault is {before}."
        )


def _table(report: Mapping[str, Any], note: str) -> Table:
    columns = [
        Column("Layer"),
        Column("No.", True),
        Column("Result"),
        Column("Error of its input", True),
        Column("Error so far", True),
        Column("Limit", True),
        Column("The layer's own", True),
        Column("Limit", True),
        Column("Type, shape"),
    ]
    rows = [
        [
            Cell(layer["layer"], code=True),
            Cell(str(number)),
            verdict(layer["passed"]),
            Cell(error(layer["input_rel_l2"])),
            Cell(error(layer["rel_l2"]), "" if layer["passed"] else "bad"),
            Cell(error(layer["tolerance"])),
            Cell(error(layer["own_rel_l2"])),
            Cell(error(layer["own_tolerance"])),
            Cell(f"{layer['dtype']}\u00a0{shape(layer['shape'])}"),
        ]
        for number, layer in enumerate(report["layers"], 1)
    ]
    return Table(f"SN layers of {report['backend']}", columns, rows, note)

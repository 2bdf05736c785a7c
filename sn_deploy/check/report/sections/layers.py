"""The error after each SN layer, and the first that leaves its tolerance."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from sn_deploy.check.layers.words import sentences
from sn_deploy.check.report.page import Cell, Column, Section, Table, verdict
from sn_deploy.check.report.pictures.layer_error import layer_error_picture
from sn_deploy.text import error, shape_text

_NOTE: Final = (
    "All errors are relative L2. “So far” is what has come together up to the layer's output; “the layer's own” is its "
    "output beside the exact result for the same input."
)


def layers_section(document: Mapping[str, Any], places: Mapping[str, int]) -> Section | None:
    """One picture, and a table for each backend."""
    reports = [report for report in document["layers"] if report["layers"]]
    if not reports:
        return None
    says = [sentence for report in reports for sentence in sentences(report, outputs_hold=_hold(document, report))]
    says += [note for report in document["layers"] for note in report["notes"]]
    return Section(
        "layers",
        "Error by layer",
        says,
        pictures=[layer_error_picture(reports, places, " ".join(says))],
        tables=[_table(report, _NOTE if report is reports[-1] else "") for report in reports],
    )


def _hold(document: Mapping[str, Any], report: Mapping[str, Any]) -> bool:
    return all(row["passed"] for row in document["parity"].get(report["backend"], ()))


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
            Cell(f"{layer['dtype']}\u00a0{shape_text(layer['shape'])}"),
        ]
        for number, layer in enumerate(report["layers"], 1)
    ]
    return Table(f"SN layers of {report['backend']}", columns, rows, note)

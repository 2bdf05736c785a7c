"""Which layers of a half-precision file must stay in float32."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sn_deploy.check.report.page import Cell, Column, Section, Table


def bisect_section(document: Mapping[str, Any]) -> Section | None:
    """What came of the bisection, and the layers that were found."""
    report = document["bisect"]
    if report is None:
        return None
    says = [*report["says"], *([f"The mixed file was written to {report['file']}."] if report["file"] else [])]
    rows = [[Cell(name, code=True), Cell(str(number))] for number, name in enumerate(report["kept"], 1)]
    table = Table(f"Layers of {report['backend']} that stay in float32", [Column("Layer"), Column("No.", True)], rows)
    return Section("bisect", "Layers that must stay in float32", says, tables=[table] if rows else [])

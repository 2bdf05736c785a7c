"""Which limits hold."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sn_deploy.check.report.page import Cell, Column, Section, Table, verdict
from sn_deploy.text import counted


def outcome_section(document: Mapping[str, Any]) -> Section:
    """The assertions, those that failed first."""
    assertions = sorted(document["assertions"], key=lambda assertion: assertion["passed"])
    rows = [[Cell(assertion["text"], code=True), verdict(assertion["passed"])] for assertion in assertions]
    table = Table("Each limit", [Column("Limit, and what was found"), Column("Result")], rows)
    return Section("limits", "Limits", [_says(document)], tables=[table] if rows else [])


def _says(document: Mapping[str, Any]) -> str:
    total = len(document["assertions"])
    failed = sum(not assertion["passed"] for assertion in document["assertions"])
    if not total:
        return "No limit was set, so there was nothing to fail."
    if not failed:
        return f"{'The one limit holds' if total == 1 else f'All {total} limits hold'}. The check exits with 0."
    verb = "does" if failed == 1 else "do"
    return (
        f"{failed} of {counted(total, 'limit')} {verb} not hold; {'it stands' if failed == 1 else 'they stand'} first. "
        "The check exits with 1."
    )

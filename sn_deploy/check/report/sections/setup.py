"""What was run, on what, and how to run it again."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from sn_deploy.check.report.page import Cell, Column, Section, Table
from sn_deploy.text import duration, moment, number, plain

_LABELS: Final = {
    "logical_cpus": "logical processors",
    "usable_cpus": "usable processors",
    "memory_gib": "memory, GiB",
    "cpu_governor": "frequency governor",
    "virtual": "virtual machine",
    "gpu": "GPU",
    "std": "standard deviation",
}


def setup_section(document: Mapping[str, Any]) -> Section:
    """Backends, data, machine and command."""
    tables = [_backends(document), _facts("Data", document["data"] | _counts(document))]
    if document["machine"]:
        tables.append(_facts("Machine", document["machine"]))
    shard = f" This is part {document['shard']} of it." if document["shard"] else ""
    again = (
        "The script beside this page (reproduce.sh, or this page's name and reproduce.sh) holds the versions and files "
        "against those below, and runs it again."
        if document["command"]
        else "A program called it from Python, so there is no command that would run it again."
    )
    says = [
        f"sn-deploy {document['version']} ran this check on {moment(document['created'])}; it took "
        f"{duration(document['seconds'])}.{shard} {again}"
    ]
    code = [("The command", document["command"])] if document["command"] else []
    return Section("setup", "What was run", says, tables=tables, code=code)


def _counts(document: Mapping[str, Any]) -> dict[str, Any]:
    return {"samples": number(document["samples"]), "batches": number(document["batches"])}


def _backends(document: Mapping[str, Any]) -> Table:
    columns = [
        Column("Backend"),
        Column("Runs by"),
        Column("File"),
        Column("SHA-256"),
        Column("Versions"),
        Column("Settings"),
    ]
    rows = [
        [
            Cell(f"{info['name']} (reference)" if info["name"] == document["reference"] else info["name"]),
            Cell(info["kind"]),
            Cell(plain(info["file"]), code=True),
            Cell(plain(info["sha256"]), code=True),
            Cell(plain(info["versions"])),
            Cell(plain(info["settings"])),
        ]
        for info in document["backends"]
    ]
    return Table("Backends", columns, rows)


def _facts(title: str, facts: Mapping[str, Any]) -> Table:
    rows = [[Cell(_LABELS.get(key, key.replace("_", " "))), Cell(plain(value))] for key, value in facts.items()]
    return Table(title, [Column("What"), Column("Value")], rows)

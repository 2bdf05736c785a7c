"""``sn-deploy doctor``."""

from __future__ import annotations

import dataclasses
import json

import click
from rich.text import Text

from sn_deploy.console import output_console
from sn_deploy.doctor.diagnose import diagnose
from sn_deploy.doctor.finding import Finding
from sn_deploy.errors import CheckFailedError
from sn_deploy.table import plain_table

_STYLES = {"ok": "green", "missing": "red", "broken": "red", "optional": "dim"}


@click.command(name="doctor")
@click.option("--json", "as_json", is_flag=True, help="Print the findings as JSON.")
def command(as_json: bool) -> None:
    """Show what is installed, found and usable on this machine, and how to mend the rest.

    Each library is imported in a process of its own, so that one that crashes doesn't hide the
    others. Exits with 0 if export and a run in ONNX Runtime are possible, with 1 if not.
    """
    findings = diagnose()
    in_the_way = [finding.name for finding in findings if finding.in_the_way]
    if as_json:
        rows = [dataclasses.asdict(finding) for finding in findings]
        click.echo(json.dumps({"usable": not in_the_way, "findings": rows}, indent=2, ensure_ascii=False))
    else:
        _print(findings)
    if in_the_way:
        raise CheckFailedError(
            f"export and run aren't possible here: {', '.join(in_the_way)} missing or broken",
            mend="see how to mend it above",
        )


def _print(findings: list[Finding]) -> None:
    console = output_console()
    table = plain_table()
    table.add_column("")
    table.add_column("status", no_wrap=True)
    table.add_column("version", overflow="fold")
    table.add_column("note", overflow="fold", min_width=24)
    for finding in findings:
        status = Text(finding.status, style=_STYLES[finding.status])
        table.add_row(finding.name, status, finding.version, Text(finding.note))
    console.print(table)
    mends = [finding for finding in findings if finding.mend]
    if mends:
        console.print("\nto mend or to add:")
    for finding in mends:
        # Never wrapped: a command that is copied must stay one line.
        console.print(f"  {finding.name}: {finding.mend}", soft_wrap=True)

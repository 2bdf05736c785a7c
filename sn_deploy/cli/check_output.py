"""What ``sn-deploy check`` and ``merge`` print and write of a result."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from sn_deploy.console import Console, output_console

if TYPE_CHECKING:
    from sn_deploy.check.result import CheckResult


def console_for(json_output: str | None) -> Console:
    """Where the tables go: the standard output, or the error output where JSON has that one for itself."""
    return output_console(to_stderr=json_output == "-")


def command_text(context: click.Context) -> str:
    """What was typed, quoted for a shell."""
    return shlex.join(["sn-deploy", *(context.obj or ())])


def check_script_of(html: Path | None) -> None:
    """Refuses, before any work is done, a report beside which no script can be written.

    Raises:
        SnDeployError: see `sn_deploy.check.report.reproduce.check_script`.
    """
    if html is not None:
        from sn_deploy.check.report.reproduce import check_script, script_beside

        check_script(script_beside(html))


def write_result(
    result: CheckResult,
    json_output: str | None,
    html: Path | None,
    console: Console,
    commands: Sequence[str] | None = None,
) -> None:
    """Writes the result where it is asked for, and prints it.

    Args:
        commands: what made it, where that is more than its own command.
    """
    from sn_deploy.check.document import text_from_result, write_document
    from sn_deploy.check.result import as_json
    from sn_deploy.check.show import tables_from_result, verdict

    console.print(tables_from_result(result))
    if json_output == "-":
        click.echo(text_from_result(result), nl=False)
    elif json_output is not None:
        write_document(result, Path(json_output))
        console.print(f"wrote {json_output}")
    if html is not None:
        from sn_deploy.check.report.html import write_html
        from sn_deploy.check.report.reproduce import script_beside, write_reproduce

        written, script = as_json(result), script_beside(html)
        write_html(written, html)
        write_reproduce(written, script, commands)
        console.print(f"wrote {html} and {script}")
    if result.shard is not None:
        merge = "sn-deploy merge PARTS… -o FILE"
        console.print(f"part {result.shard}: its limits say little alone; put all parts together with: {merge}")
    elif result.passed:
        console.print(verdict(result), style="bold green")

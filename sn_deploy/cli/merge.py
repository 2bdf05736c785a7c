"""``sn-deploy merge``."""

from __future__ import annotations

from pathlib import Path

import click

from sn_deploy.cli.check_output import check_script_of, command_text, console_for, write_result
from sn_deploy.cli.outputs import OutputCommand


@click.command(cls=OutputCommand, name="merge")
@click.argument("parts", nargs=-1, required=True, metavar="PARTS…", type=click.Path(path_type=Path))
@click.option(
    "-o", "--output", "json_output", metavar="FILE|-", help="Write the result; - for the standard output, alone."
)
@click.option(
    "--html",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Write a report, and a script beside it that repeats it.",
)
@click.option(
    "--metric",
    "user_metrics",
    multiple=True,
    metavar="PACKAGE.MODULE:CALLABLE",
    help="Your metric in the parts; it is run.",
)
@click.pass_context
def command(
    context: click.Context,
    parts: tuple[Path, ...],
    json_output: str | None,
    html: Path | None,
    user_metrics: tuple[str, ...],
) -> None:
    """Put the parts of a check together, exactly.

    \b
    for part in 1 2 3 4; do sn-deploy check … --shard $part/4 --json part$part.json; done
    sn-deploy merge part*.json -o check.json --html report.html

    The result is bit for bit that of one run. Parts of different files, data, limits or versions are refused,
    and so are missing parts and parts given twice. Exits with 0 if all limits hold, 1 if one doesn't.
    """
    from sn_deploy.check.merge import merge_parts, read_parts

    check_script_of(html)
    console = console_for(json_output)
    documents = read_parts(parts)
    result = merge_parts(documents, command=command_text(context), user_metrics=user_metrics)
    commands = [*(str(document["command"]) for document in documents.values()), result.command]
    write_result(result, json_output, html, console, commands)
    result.raise_if_failed()

"""``sn-deploy report``."""

from __future__ import annotations

from pathlib import Path

import click

from sn_deploy.atomic import atomic_output, check_writable
from sn_deploy.cli.outputs import is_same_file
from sn_deploy.errors import SnDeployError
from sn_deploy.output_file import check_text_name


@click.command(name="report")
@click.argument("document", metavar="CHECK.json", type=click.Path(path_type=Path))
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    metavar="FILE.html",
    help="The page; by default beside the JSON file, with its name.",
)
def command(document: Path, output: Path | None) -> None:
    """Make the report of a check anew, from the JSON that it wrote.

    \b
    sn-deploy report check.json -o report.html

    The page holds everything in itself: it loads nothing and runs nothing. A script is written beside
    it, reproduce.sh or NAME.reproduce.sh: it holds versions and files against those of the check, and
    runs it again. Exits with 0 whether that check passed or failed.
    """
    from sn_deploy.check.document import read_document
    from sn_deploy.check.report.html import html_from_document
    from sn_deploy.check.report.reproduce import check_script, script_beside, write_reproduce

    page = document.with_suffix(".html") if output is None else output
    script = script_beside(page)
    for path in (page, script):
        if is_same_file(path, document):
            raise SnDeployError("would be overwritten", where=str(document), mend="name another file with --output")
    check_text_name(page)
    check_writable(page)
    check_script(script)
    found = read_document(document)
    with atomic_output(page) as new_page:  # there when the script is
        new_page.write_text(html_from_document(found), encoding="utf-8")
        if found["command"]:
            write_reproduce(found, script)
    no_script = "; no script that repeats it: the check was called from Python"
    click.echo(f"wrote {page}" + (f" and {script}" if found["command"] else no_script))

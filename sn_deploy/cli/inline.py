"""``sn-deploy inline``."""

from __future__ import annotations

from pathlib import Path

import click

from sn_deploy.cli.effect import refuse_idle
from sn_deploy.cli.options import EXTERNAL_DATA
from sn_deploy.cli.outputs import OutputCommand
from sn_deploy.cli.values import parse_inputs
from sn_deploy.console import output_console


@click.command(cls=OutputCommand, name="inline", may_be=("source",))
@click.argument("source", metavar="MODEL.onnx", type=click.Path(path_type=Path))
@click.option("-o", "--output", type=click.Path(path_type=Path), required=True, metavar="FILE.onnx")
@click.option(
    "--opset", type=click.IntRange(14, 24), help="Version of the standard operators; default: the file's own."
)
@EXTERNAL_DATA
@click.option(
    "--input",
    "inputs",
    multiple=True,
    metavar="[NAME=]SHAPE[:DTYPE]",
    help="What to run both files on: 1x3x224x224, gain=scalar or x=FILE.npy; repeatable. Default: random values of the "
    "file's own shape, open axes 2 (the first) and 64, or 224 where the network needs it.",
)
@click.option(
    "--run/--no-run", default=True, help="Run both in ONNX Runtime, where it is installed, and compare (default)."
)
def command(
    source: Path,
    output: Path,
    opset: int | None,
    external_data: bool | None,
    inputs: tuple[str, ...],
    run: bool,
) -> None:
    """Write the SN layers of an ONNX file in standard operators, for tools that expand no functions.

    \b
    sn-deploy inline resnet50sn.onnx -o resnet50sn.inline.onnx --opset 17

    For files of `sn-deploy export`, `fuse`, `specialise` and `convert-precision`, and for those that
    another tool has changed since; docs/guides/interoperability.md tells which tools want it, and which
    an older opset. `sn-deploy fuse` finds the layers again. At last both files are run in ONNX Runtime and
    compared, in another process.

    Exits with 1, and writes nothing, where they differ by more than rounding; with 2 for input that can't
    be used.
    """
    if not run:
        refuse_idle(("inputs",), "--no-run runs nothing", mend="leave it out, or --no-run")
    values = parse_inputs(inputs, source)
    from sn_deploy.inline import inline
    from sn_deploy.inline.show import print_report

    report = inline(source, output, opset=opset, external_data=external_data, inputs=values, run=run)
    print_report(output_console(), report, source)

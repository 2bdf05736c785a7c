"""``sn-deploy optimise``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from sn_deploy.cli.options import EXTERNAL_DATA
from sn_deploy.cli.outputs import OutputCommand
from sn_deploy.cli.values import parse_inputs
from sn_deploy.console import output_console


@click.command(cls=OutputCommand, name="optimise", may_be=("model",))
@click.argument("model", metavar="MODEL.onnx", type=click.Path(path_type=Path))
@click.option("-o", "--output", type=click.Path(path_type=Path), required=True, metavar="FILE.onnx")
@click.option("--for", "target", type=click.Choice(["ort-cpu"]), required=True, help="What it is to be faster in.")
@click.option(
    "--input",
    "inputs",
    multiple=True,
    metavar="[NAME=]SHAPE[:DTYPE]",
    help="What to try the result with: 1x3x224x224, ids=1x16:int64, gain=scalar or x=FILE.npy; repeatable. "
    "Default: random input of the graph's own shapes.",
)
@EXTERNAL_DATA
def command(model: Path, output: Path, target: Any, inputs: tuple[str, ...], external_data: bool | None) -> None:
    """Make a portable ONNX file faster on this machine.

    \b
    sn-deploy optimise resnet50sn.onnx --for ort-cpu -o resnet50sn.here.onnx

    ort-cpu: the graph that ONNX Runtime makes for this processor, with the SN layers in its blocked
    layout too. It is tried on random input and compared with the portable file before it is written.
    The file belongs to this kind of processor and this version of ONNX Runtime. Keep the portable
    file beside it: elsewhere sn-deploy runs that instead, and says so.
    """
    given = parse_inputs(inputs, model)
    from sn_deploy.optimise import optimise
    from sn_deploy.optimise.show import print_report

    report = optimise(model, output, target=target, inputs=given, external_data=external_data)
    print_report(output_console(), report)

"""``sn-deploy inspect``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from sn_deploy.cli.effect import given_options, refuse_idle
from sn_deploy.cli.engine_options import ENGINE_PARAMETERS, ENGINES, access_from_options
from sn_deploy.cli.json_output import STANDARD_OUTPUT, write_json
from sn_deploy.cli.options import add_options
from sn_deploy.cli.outputs import OutputCommand
from sn_deploy.console import output_console
from sn_deploy.engine_file import is_engine_name


@click.command(cls=OutputCommand, name="inspect")
@click.argument("model", metavar="MODEL.onnx|CHECKPOINT|FILE.engine", type=click.Path(path_type=Path))
@click.option("--checkpoint-key", metavar="KEY", help="Where the weights are in a checkpoint, dotted.")
@click.option("--picture", type=click.Path(path_type=Path), metavar="FILE", help="Draw them: .svg, .png or .pdf.")
@click.option("--json", "json_output", metavar="FILE|-", help="Write them as JSON; - for the standard output, alone.")
@click.option("--statistics", is_flag=True, help="Show gamma and the statistics of the BN branch, too.")
@click.option("--no-run", is_flag=True, help="Of an engine: only read what lies beside it, and load nothing.")
@add_options(ENGINES)
def command(
    model: Path,
    checkpoint_key: str | None,
    picture: Path | None,
    json_output: str | None,
    statistics: bool,
    no_run: bool,
    **engine_given: Any,
) -> None:
    """Show the SN layers of an ONNX file or a checkpoint: how much of IN, LN and BN each one uses.

    \b
    sn-deploy inspect resnet50sn.onnx --picture weights.svg

    Layers stand in network order: the order of an ONNX file's graph, or that of a checkpoint's names.
    A .safetensors file keeps no order, so there the names are sorted, numbers by value. ONNX files
    are read without their external data and without PyTorch. --statistics shows what the frozen BN
    branch normalises with: the population's mean and variance (an ONNX file's with epsilon in it).

    Of a TensorRT engine (.engine, .plan or .trt): what was built, and each layer's tactic, formats and
    precision, with reformats next to an SN plugin flagged. Where a GPU is, the engine is loaded and
    run for the layers' times: engines are executable code. --no-run shows what lies beside it alone.
    """
    if is_engine_name(model):
        if picture is not None or checkpoint_key is not None or statistics:
            raise click.UsageError(
                f"--picture, --statistics and --checkpoint-key are not for engines, and {model} is one."
            )
        if no_run:
            refuse_idle(ENGINE_PARAMETERS, "--no-run loads no engine", mend="leave it out, or --no-run")
        from sn_deploy.cli.inspect_engine import show_engine

        access = None if no_run else access_from_options(engine_given)
        show_engine(model, access=access, json_output=json_output)
        return
    for option in given_options({*ENGINE_PARAMETERS, "no_run"}):
        raise click.UsageError(f"{option} is for engines, and {model} is none.")
    from sn_deploy.inspection.picture import check_picture_path, write_picture
    from sn_deploy.inspection.read import layers_from_file
    from sn_deploy.inspection.show import json_from_layers, print_layers, statistics_from_layers

    if picture is not None:
        check_picture_path(picture)
    layers = layers_from_file(model, key=checkpoint_key)
    if picture is not None:
        write_picture(layers, picture, title=model.name)
    if json_output is not None:
        write_json(json_from_layers(layers, model), json_output)
        if json_output == STANDARD_OUTPUT:
            return
    console = output_console()
    print_layers(console, layers)
    if statistics:
        console.print()
        console.print(statistics_from_layers(layers))
    for path in (picture, json_output):
        if path is not None:
            console.print(f"wrote {path}")

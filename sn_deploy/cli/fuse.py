"""``sn-deploy fuse``."""

from __future__ import annotations

import contextlib
from dataclasses import replace
from pathlib import Path

import click

from sn_deploy.cli.effect import refuse_idle
from sn_deploy.cli.json_output import STANDARD_OUTPUT, write_json
from sn_deploy.cli.options import EXTERNAL_DATA, JSON_REPORT
from sn_deploy.cli.outputs import OutputCommand
from sn_deploy.cli.specialise import draft_beside
from sn_deploy.cli.values import parse_inputs
from sn_deploy.console import output_console


@click.command(cls=OutputCommand, name="fuse", may_be=("source",))
@click.argument("source", metavar="MODEL.onnx", type=click.Path(path_type=Path))
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    required=True,
    metavar="FILE.onnx",
    help="The file to write; may be MODEL.onnx itself.",
)
@click.option(
    "--no-fuse",
    "apart",
    is_flag=True,
    help="Leave the ReLU, or the residual and the ReLU, behind a layer as nodes of their own.",
)
@click.option(
    "--strict", is_flag=True, help="Write nothing, and exit with 1, where a part looks like an SN layer and isn't one."
)
@click.option(
    "--freeze-weights",
    is_flag=True,
    help="Make constants of weights that the file lists among its inputs, too, as old exporters did.",
)
@click.option(
    "--specialise",
    "exact",
    is_flag=True,
    help="Then make layers with weights of 0 cheaper, as `sn-deploy specialise` does without a budget.",
)
@EXTERNAL_DATA
@click.option(
    "--input",
    "inputs",
    multiple=True,
    metavar="[NAME=]SHAPE[:DTYPE]",
    help="What to run both files on: 1x3x224x224 for random values of a shape (gain=scalar: no axes), or "
    "x=FILE.npy; repeatable. Default: random values of the file's own shape, open axes 2 (the first) and "
    "64, or 224 where the network needs it.",
)
@click.option(
    "--run/--no-run",
    default=True,
    help="Run both in ONNX Runtime, where it is installed, and compare the outputs (default).",
)
@JSON_REPORT
def command(
    source: Path,
    output: Path,
    apart: bool,
    strict: bool,
    freeze_weights: bool,
    exact: bool,
    external_data: bool | None,
    inputs: tuple[str, ...],
    run: bool,
    json_output: str | None,
) -> None:
    """Find the SN layers of an ONNX file, each some 30 nodes, and make each of them one SwitchNorm node.

    \b
    sn-deploy fuse resnet50sn.onnx -o fused.onnx

    For files exported without sn-deploy, by any exporter, optimised or not. Layers are found by
    structure and each is proved: what it computes and what replaces it agree in float64 on random
    inputs. What looks like SN and isn't stays as it is and is listed as a near miss, with the reason.
    At last the whole file is held against MODEL.onnx: both are run in ONNX Runtime and compared, in
    another process. Where that can't be done the file is written all the same, with a note.
    Needs no PyTorch.

    Exits with 0 where the file has SN layers, found now or SwitchNorm nodes before; with 1, and no
    file, where it has none, where the whole differs by more than rounding (or, with --strict, at a
    near miss); with 2 for input that can't be used.
    """
    if not run:
        refuse_idle(("inputs",), "--no-run runs nothing", mend="leave it out, or --no-run")
    values = parse_inputs(inputs, source)
    from sn_deploy.fuse import fuse

    specialised = None
    with draft_beside(output, of=str(source)) if exact else contextlib.nullcontext(output) as path:
        report = fuse(
            source,
            path,
            fuse_relu=not apart,
            freeze_weights=freeze_weights,
            strict=strict,
            external_data=None if exact else external_data,
            inputs=values,
            run=run,
        )
        if exact:
            from sn_deploy.specialise import specialise

            specialised = specialise(path, output, external_data=external_data)
            report = replace(report, path=output, data_path=specialised.data_path)
    from sn_deploy.fuse.show import json_from_report, print_report

    if json_output is not None:
        plain = json_from_report(report)
        if specialised is not None:
            from sn_deploy.specialise.show import json_from_report as json_from_specialised

            plain["specialised"] = json_from_specialised(specialised)
        write_json(plain, json_output)
        if json_output == STANDARD_OUTPUT:
            return
    console = output_console()
    print_report(console, report, source)
    if specialised is not None:
        from sn_deploy.specialise.show import print_report as print_specialised

        print_specialised(console, specialised)

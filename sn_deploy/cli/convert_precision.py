"""``sn-deploy convert-precision``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from sn_deploy.cli.effect import refuse_idle
from sn_deploy.cli.json_output import STANDARD_OUTPUT, write_json
from sn_deploy.cli.options import EXTERNAL_DATA, JSON_REPORT, add_options
from sn_deploy.cli.outputs import OutputCommand
from sn_deploy.cli.sample_options import SAMPLES, samples_from_options
from sn_deploy.cli.values import Number
from sn_deploy.console import output_console


@click.command(cls=OutputCommand, name="convert-precision", may_be=("model",))
@click.argument("model", metavar="MODEL.onnx", type=click.Path(path_type=Path))
@click.option("-o", "--output", type=click.Path(path_type=Path), required=True, metavar="FILE.onnx")
@click.option("--precision", type=click.Choice(["fp16", "bf16"]), required=True)
@click.option(
    "--keep",
    multiple=True,
    metavar="NAME",
    help="What stays float32: a node, an SN layer, an operator (Softmax), or a pattern (layer1.*); repeatable.",
)
@click.option("--keep-convolutions", is_flag=True, help="Also the convolutions of the SN layers that --keep names.")
@click.option(
    "--keep-io-types/--half-io-types",
    default=True,
    show_default=True,
    help="Inputs and outputs stay float32, or become half too.",
)
@click.option(
    "--max-rel-l2",
    type=Number(min=0),
    metavar="X",
    help="Largest relative L2 difference of an output; default: what the type explains, 7.8e-3 or 6.3e-2.",
)
@click.option("--check-range", is_flag=True, help="Measure how large every activation gets on the data, first.")
@add_options(SAMPLES, (EXTERNAL_DATA, JSON_REPORT))
def command(model: Path, output: Path, json_output: str | None, **given: Any) -> None:
    """Put an ONNX file that is there already into half precision.

    \b
    sn-deploy convert-precision fused.onnx -o fused.fp16.onnx --precision fp16 --data imagenet/val --limit 64

    Weights and activations become half; the parameters and statistics of SN layers stay float32. The result
    is run beside the file that it is made of, on the data and with every rounding that a GPU does, before it
    is written. bf16 raises the opset to 22 where the file's convolutions have no bfloat16.

    Exits with 1, and writes nothing, where a weight or an activation is beyond the type's range or an output
    is further off than the type explains; with 2 for input that can't be used.
    """
    if not given["keep"]:
        refuse_idle(("keep_convolutions",), "no layer is kept", mend="name the SN layers, too: --keep NAME")
    samples = samples_from_options(given)
    from sn_deploy.precision import convert_precision
    from sn_deploy.precision.show import json_from_conversion, print_conversion

    report = convert_precision(
        model,
        output,
        precision=given["precision"],
        keep=given["keep"],
        keep_convolutions=given["keep_convolutions"],
        keep_io_types=given["keep_io_types"],
        max_rel_l2=given["max_rel_l2"],
        samples=samples,
        check_range=given["check_range"],
        external_data=given["external_data"],
    )
    if json_output is not None:
        write_json(json_from_conversion(report), json_output)
        if json_output == STANDARD_OUTPUT:
            return
    print_conversion(output_console(), report, given["data"])

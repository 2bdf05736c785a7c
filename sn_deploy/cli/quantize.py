"""``sn-deploy quantize``."""

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


@click.command(cls=OutputCommand, name="quantize", may_be=("model",))
@click.argument("model", metavar="MODEL.onnx", type=click.Path(path_type=Path))
@click.option("-o", "--output", type=click.Path(path_type=Path), required=True, metavar="FILE.onnx")
@click.option("--precision", type=click.Choice(["int8", "fp8"]), required=True)
@click.option(
    "--float-type",
    type=click.Choice(["fp32", "fp16", "bf16"]),
    default="fp32",
    show_default=True,
    help="What computes SN layers and the rest: fp32 for the CPU, fp16 or bf16 for TensorRT.",
)
@click.option(
    "--method",
    type=click.Choice(["minmax", "percentile", "entropy"]),
    help="How an activation's range is chosen; default: percentile for int8, minmax for fp8.",
)
@click.option(
    "--keep",
    multiple=True,
    metavar="NAME",
    help="What isn't quantized: a convolution, the one of an SN layer, or a pattern (layer1.*); repeatable.",
)
@click.option("--keep-first", is_flag=True, help="Leave the first convolution as it is.")
@click.option("--keep-last", is_flag=True, help="Leave the last convolution, or the classifier, as it is.")
@click.option(
    "--keep-io-types/--half-io-types",
    default=True,
    show_default=True,
    help="With fp16 or bf16: inputs and outputs stay float32, or become half too.",
)
@add_options(SAMPLES)
@click.option("--max-rel-l2", type=Number(min=0), metavar="X", help="Limit on these samples; default: 0.5.")
@click.option(
    "--min-top1-agreement", type=click.FloatRange(0, 1), metavar="SHARE", help="Smallest share with the same class."
)
@add_options((EXTERNAL_DATA, JSON_REPORT))
def command(model: Path, output: Path, json_output: str | None, **given: Any) -> None:
    """Put the convolutions of a float32 ONNX file into int8 or FP8.

    \b
    sn-deploy quantize resnet50sn.onnx -o resnet50sn.int8.onnx --precision int8 --float-type fp16 \\
        --data imagenet/calibration --limit 512

    What convolutions read goes through QuantizeLinear and DequantizeLinear, with ranges from the data; their
    weights are stored with a scale for each channel. SN layers, with ReLU and residual in them, stay in the
    float type. The result is run beside the file that it is made of on the same data before it is written;
    what it costs on data of its own, sn-deploy check tells.

    Exits with 1, and writes nothing, where the result leaves a limit; with 2 for input that can't be used.
    """
    if given["float_type"] == "fp32" and not given["keep_io_types"]:
        refuse_idle(("keep_io_types",), "nothing becomes half", mend="leave it out, or give --float-type fp16 or bf16")
    options = dict(given)
    samples = samples_from_options(options)
    from sn_deploy.precision import quantize
    from sn_deploy.precision.show import json_from_quantization, print_quantization

    names = ("precision", "float_type", "method", "keep", "keep_first", "keep_last", "keep_io_types")
    more = ("max_rel_l2", "min_top1_agreement", "external_data")
    report = quantize(model, output, samples=samples, **{name: options[name] for name in (*names, *more)})
    if json_output is not None:
        write_json(json_from_quantization(report), json_output)
        if json_output == STANDARD_OUTPUT:
            return
    print_quantization(output_console(), report, options["data"])

"""``sn-deploy export``."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from sn_deploy.cli.model_options import check_checkpoint_options, finalize_option, model_options, print_loaded
from sn_deploy.cli.options import EXTERNAL_DATA
from sn_deploy.cli.outputs import OutputCommand
from sn_deploy.cli.specialise import draft_beside
from sn_deploy.cli.values import InputSpec, parse_arguments, parse_input
from sn_deploy.console import output_console
from sn_deploy.errors import SnDeployError


@click.command(cls=OutputCommand, name="export")
@model_options(required=True)
@click.option(
    "--input",
    "inputs",
    multiple=True,
    required=True,
    metavar="[NAME=]SHAPE[:DTYPE]",
    help="An example input: 1x3x224x224, ids=1x16:int64, gain=scalar or x=FILE.npy; repeatable, by position or by "
    "name.",
)
@click.option("--dynamic", multiple=True, metavar="AXES", help="batch, spatial or INPUT:AXIS=NAME,…; repeatable.")
@click.option("--opset", type=int, help="Version of the standard operators, 18 to 23; default: 20, with bf16 22.")
@click.option("--precision", type=click.Choice(["fp32", "fp16", "bf16"]), default="fp32", show_default=True)
@click.option("--keep-io-types", is_flag=True, help="Inputs and outputs stay float32 under fp16 and bf16.")
@click.option("--inline", is_flag=True, help="Standard operators alone, no local function (OpenVINO and others).")
@click.option("--fuse/--no-fuse", default=True, help="Fuse ReLU, and residual and ReLU, with their layer (default).")
@click.option(
    "--specialise",
    "exact",
    is_flag=True,
    help="Then make layers cheaper that need less, exactly: sn-deploy specialise.",
)
@click.option(
    "--keep-unrecognised",
    is_flag=True,
    help="Export layers that look like SN and compute something else as torch does, in standard operators.",
)
@finalize_option
@click.option("--trust-statistics", is_flag=True, help="Take running statistics for averages whatever their size.")
@EXTERNAL_DATA
@click.option(
    "--output-name",
    "output_names",
    multiple=True,
    metavar="NAME",
    help="Of an output, in order; repeatable. Default: its key in the dict that the model returns, else torch's.",
)
@click.option(
    "--run/--no-run",
    default=True,
    help="Run the file in ONNX Runtime, where it is installed, and compare it with the model (default).",
)
@click.option("-o", "--output", type=click.Path(path_type=Path), required=True, metavar="FILE.onnx")
def command(
    reference: str,
    model_args: tuple[str, ...],
    checkpoint: Path | None,
    checkpoint_key: str | None,
    strict: bool,
    inputs: tuple[str, ...],
    dynamic: tuple[str, ...],
    opset: int | None,
    precision: Any,
    keep_io_types: bool,
    inline: bool,
    fuse: bool,
    exact: bool,
    keep_unrecognised: bool,
    finalize_batch_average: int | None,
    trust_statistics: bool,
    external_data: bool | None,
    output_names: tuple[str, ...],
    run: bool,
    output: Path,
) -> None:
    """Turn a trained PyTorch model with Switchable Normalization layers into one ONNX file.

    \b
    sn-deploy export --model torchmodels.resnet:resnet50sn --checkpoint best.pth \\
        --input 1x3x224x224 --dynamic batch -o resnet50sn.onnx

    Every SN layer becomes one SwitchNorm node, together with the ReLU or the residual and the ReLU that
    follow it; the file also carries it as a function of standard operators, so that a stock ONNX Runtime
    runs it. --model imports and runs your code; a checkpoint is only read, nothing in it is run.

    At last the file is run in ONNX Runtime beside the model, at the sizes of the example and, along
    dynamic axes, at others. Exits with 1, and writes nothing, where they differ by more than rounding;
    with 2 for a model or options that can't be used.
    """
    # Everything that can be wrong without torch is told before torch is imported.
    arguments = parse_arguments(model_args, option="--model-arg")
    specs = [parse_input(text, seed=index) for index, text in enumerate(inputs)]
    check_checkpoint_options(checkpoint, checkpoint_key, strict)
    if exact and inline:
        raise SnDeployError("needs SwitchNorm nodes, and --inline leaves none", where="--specialise")

    from sn_deploy.runtime.torch import require_torch

    require_torch("sn-deploy export")
    from sn_deploy.capture.user_model import build_model
    from sn_deploy.checkpoint import load_into
    from sn_deploy.onnx_export import export
    from sn_deploy.onnx_export.show import print_report

    model = build_model(reference, arguments)
    console = output_console()
    if checkpoint is not None:
        print_loaded(console, checkpoint, load_into(model, checkpoint, key=checkpoint_key, strict=strict))
    else:
        console.print(f"no --checkpoint: the weights are those that {reference} gives")
    specialised = None
    with (
        _option_named("output_names", "--output-name"),
        draft_beside(output, of=str(output)) if exact else contextlib.nullcontext(output) as path,
    ):
        report = export(
            model,
            _example_inputs(specs),
            path,
            dynamic=dynamic,
            opset=opset,
            precision=precision,
            keep_io_types=keep_io_types,
            inline=inline,
            fuse=fuse,
            keep_unrecognised=keep_unrecognised,
            finalize_batch_average=finalize_batch_average,
            trust_statistics=trust_statistics,
            external_data=None if exact else external_data,
            output_names=output_names or None,
            run=run,
        )
        if exact:
            from sn_deploy.check.backends.interface import Example
            from sn_deploy.specialise import specialise

            examples = [Example(spec.name, spec.value.shape, spec.value.dtype) for spec in specs]
            specialised = specialise(path, output, example_inputs=examples, external_data=external_data)
            report = replace(report, path=output, data_path=specialised.data_path)
    print_report(console, report)
    if specialised is not None:
        from sn_deploy.specialise.show import print_report as print_specialised

        print_specialised(console, specialised)


@contextlib.contextmanager
def _option_named(argument: str, option: str) -> Iterator[None]:
    """Errors in an argument name the option that it is given by."""
    try:
        yield
    except SnDeployError as error:
        if error.where != argument:
            raise
        raise error.but(where=option) from error


def _example_inputs(specs: list[InputSpec]) -> dict[str, Any]:
    """Positional inputs under ``""`` and named ones beside them, as `sn_deploy.export` takes them."""
    from sn_deploy.runtime.torch import tensor_from_array

    inputs: dict[str, Any] = {"": tuple(tensor_from_array(spec.value) for spec in specs if spec.name is None)}
    for spec in specs:
        if spec.name is not None:
            if spec.name in inputs:
                raise SnDeployError("is given twice", where=f"--input {spec.name}")
            inputs[spec.name] = tensor_from_array(spec.value)
    return inputs

"""``sn-deploy specialise``."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from sn_deploy.cli.check_options import DATA, IMAGE_PARAMETERS, images_from_options
from sn_deploy.cli.effect import refuse_idle
from sn_deploy.cli.json_output import STANDARD_OUTPUT, write_json
from sn_deploy.cli.options import EXTERNAL_DATA, JSON_REPORT, add_options
from sn_deploy.cli.outputs import OutputCommand
from sn_deploy.cli.values import Number, parse_sizes
from sn_deploy.console import output_console
from sn_deploy.draft_folder import draft_folder

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from sn_deploy.check.data.open import DataOptions
    from sn_deploy.specialise.search import Progress


@click.command(cls=OutputCommand, name="specialise", may_be=("source",))
@click.argument("source", metavar="MODEL.onnx", type=click.Path(path_type=Path))
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), required=True, metavar="FILE.onnx", help="The file to write."
)
@click.option(
    "--budget",
    "budgets",
    multiple=True,
    metavar="NAME=LIMIT",
    help="How much the outputs may change: rel_l2=1e-3 (relative L2 error) or top1=0.1% (top-1 accuracy lost); "
    "give both, and both hold. Default: nothing but rounding changes.",
)
@click.option(
    "--max-weight",
    type=Number(0, 1),
    default=0.5,
    show_default=True,
    help="With a budget: never drop the statistics of IN or LN from a layer that gives them a larger weight than this.",
)
@click.option(
    "--runtime",
    type=click.Choice(["ort", "ort-native"]),
    help="For what the file is made fast: stock ONNX Runtime (ort), or ONNX Runtime with sn-deploy's native operators "
    "(ort-native), the default where these are built. It runs on both.",
)
@click.option("--threads", type=click.IntRange(min=1), help="Threads within an operator; default: ONNX Runtime's own.")
@click.option(
    "--input",
    "inputs",
    multiple=True,
    metavar="[NAME=]SHAPE[:DTYPE]",
    help="Size of an input whose axes the file leaves open: 1x3x224x224; repeatable.",
)
@add_options(DATA, (EXTERNAL_DATA, JSON_REPORT))
@click.pass_context
def command(context: click.Context, /, **given: Any) -> None:
    """Make SN layers cheaper: exactly, or within a budget of error that is measured on your data.

    \b
    sn-deploy specialise sparse.onnx -o small.onnx
    sn-deploy specialise net.onnx -o small.onnx --budget top1=0.1% --data imagenet/val --limit 512

    Without a budget only what is exact is done: statistics with a weight of 0 aren't computed, a layer that
    chose BN for mean and variance goes into the convolution before it, one that chose IN becomes
    InstanceNormalization where that is cheaper. With a budget, IN and LN statistics are replaced by their
    averages over the data, those first that save most time for their error.

    The file is one with SwitchNorm nodes, from `sn-deploy export` or `sn-deploy fuse`. Half of the batches of
    --data are for choosing. The budget must hold on the other half, or nothing is written and it exits with 1;
    with 2 for input that can't be used.
    """
    json_output = given["json_output"]
    if not given["budgets"]:
        refuse_idle(
            ("max_weight",), "only what is exact is done without a budget", mend="give one: --budget rel_l2=1e-3"
        )
    from sn_deploy.specialise import specialise
    from sn_deploy.specialise.budget import parse_budget
    from sn_deploy.specialise.forms import Runtime
    from sn_deploy.specialise.show import json_from_report, print_report

    budget = parse_budget(given["budgets"]) if given["budgets"] else None
    examples = parse_sizes(given["inputs"])
    console = output_console()
    with console.status("specialising") as status:

        def show(text: str, share: float) -> None:
            status.update(f"{text} ({share:.0%})")

        on_progress: Progress = show
        report = specialise(
            given["source"],
            given["output"],
            budget=budget,
            data=_data_options(context, given),
            example_inputs=examples,
            runtime=None if given["runtime"] is None else Runtime(given["runtime"]),
            threads=given["threads"],
            max_weight=given["max_weight"],
            external_data=given["external_data"],
            on_progress=on_progress if console.is_terminal and json_output != "-" else lambda text, share: None,
        )
    if json_output is not None:
        write_json(json_from_report(report), json_output)
        if json_output == STANDARD_OUTPUT:
            return
    print_report(console, report)


@contextlib.contextmanager
def draft_beside(output: Path, *, of: str) -> Iterator[Path]:
    """A path for the file that is to be specialised to ``output``, and that is gone afterwards; see `draft_folder`."""
    with draft_folder(output, of=of) as folder:
        yield folder / output.name


def _data_options(context: click.Context, given: Mapping[str, Any]) -> DataOptions | None:
    """What the options say; None where they say nothing of the data."""
    from sn_deploy.check.data.open import DataOptions

    asked = ("data", "labels", "batch_size", "limit", *IMAGE_PARAMETERS)
    if all(context.get_parameter_source(name) is ParameterSource.DEFAULT for name in asked):
        return None
    images = images_from_options(given)
    return DataOptions(given["data"], given["batch_size"], given["limit"], given["labels"], images=images)

"""``sn-deploy specialise``."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource
from rich.table import Table

from sn_deploy.atomic import check_writable
from sn_deploy.check.report.text import percent
from sn_deploy.cli.check_options import DATA, IMAGE_PARAMETERS, add_options, images_from_options
from sn_deploy.cli.console import Console, output_console
from sn_deploy.cli.effect import refuse_idle
from sn_deploy.cli.json_output import STANDARD_OUTPUT, write_json
from sn_deploy.cli.outputs import OutputCommand
from sn_deploy.cli.summary import Summary
from sn_deploy.cli.values import Number, parse_sizes
from sn_deploy.draft_folder import draft_folder
from sn_deploy.output_file import check_onnx_output

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from sn_deploy.check.data.open import DataOptions
    from sn_deploy.specialise import LayerChange, SpecialiseReport
    from sn_deploy.specialise.samples import Error
    from sn_deploy.specialise.search import Progress

_BRANCHES = {"in": "IN", "ln": "LN"}


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
@add_options(DATA)
@click.option(
    "--external-data/--no-external-data",
    default=None,
    help="Put weights into a file beside it, or into it; default: beside it above 2 GB.",
)
@click.option("--json", "json_output", metavar="FILE|-", help="Write the report as JSON; - for the standard output.")
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
    if json_output not in (None, "-"):
        check_writable(json_output)
    check_onnx_output(given["output"])
    if not given["budgets"]:
        refuse_idle(
            ("max_weight",), "only what is exact is done without a budget", mend="give one: --budget rel_l2=1e-3"
        )
    from sn_deploy.specialise import specialise
    from sn_deploy.specialise.budget import parse_budget
    from sn_deploy.specialise.forms import Runtime

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
            examples=examples,
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
    return DataOptions(given["data"], given["batch_size"] or 8, given["limit"], given["labels"], images=images)


def print_report(console: Console, report: SpecialiseReport) -> None:
    """A table of the layers, and the proof."""
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    table.add_column("layer", overflow="fold")
    table.add_column("dropped")
    table.add_column("rel L2 of that alone", justify="right")
    table.add_column("is now", overflow="fold")
    table.add_column("ms before", justify="right")
    table.add_column("ms after", justify="right")
    for layer in report.layers:
        dropped = " ".join(_BRANCHES[branch] for branch in layer.dropped) or "–"
        error = "" if layer.error is None else f"{layer.error:.1e}"
        table.add_row(layer.name, dropped, error, _form_text(layer), _ms(layer.before_ms), _ms(layer.after_ms))
    console.print(table)
    summary = Summary()
    nodes = f"{report.nodes} nodes, was {report.nodes_before}"
    summary.add_file(report.path, report.data_path, f", for {report.runtime}: {nodes}")
    interval = f"{report.time_low:.3f} to {report.time_high:.3f}"
    if all(layer.form == "kept" for layer in report.layers):
        summary.add("changed", f"no layer: {_why_nothing(report)}")
    else:
        summary.add("time", f"{report.time_ratio:.3f} of what it was ({interval}), batch {report.batch}")
    summary.add(
        "forms",
        f"the same as SwitchNorm to {report.exact_rel_l2:.1e} (relative L2, at most {report.exact_tolerance:.0e})",
    )
    if report.budget is not None:
        if report.chosen_on is not None:
            summary.add("chosen on", _error_text(report.chosen_on))
        summary.add("held out", f"{_error_text(report.held_out)}; allowed: {report.budget}")
    summary.print(console)


def _why_nothing(report: SpecialiseReport) -> str:
    if report.budget is None:
        return "none has a weight of 0 that would make it cheaper; sn-deploy specialise --budget lets some error in"
    return f"what would save time costs more than the budget allows ({report.budget})"


def _form_text(layer: LayerChange) -> str:
    return layer.form if layer.reason is None else f"{layer.form}: {layer.reason}"


def _ms(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"


def _error_text(error: Error) -> str:
    text = f"{error.samples} samples: rel_l2 {error.rel_l2:.2g}"
    if error.changed is not None:
        text += f", {percent(error.changed, zeros=True)} have another class on top"
    if error.accuracy is not None and error.accuracy_before is not None:
        text += f", accuracy {percent(error.accuracy, zeros=True)}, was {percent(error.accuracy_before, zeros=True)}"
    return text


def json_from_report(report: SpecialiseReport) -> dict[str, Any]:
    """The report as what JSON can hold; layers in the order in which they run."""
    from dataclasses import asdict

    plain = asdict(report)
    plain["path"] = str(report.path)
    plain["data_path"] = None if report.data_path is None else str(report.data_path)
    return plain

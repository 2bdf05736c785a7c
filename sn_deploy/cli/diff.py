"""``sn-deploy diff``."""

from __future__ import annotations

from pathlib import Path

import click

from sn_deploy.cli.effect import refuse_idle
from sn_deploy.cli.json_output import write_json
from sn_deploy.cli.outputs import OutputCommand
from sn_deploy.cli.values import Number, parse_inputs
from sn_deploy.console import output_console


@click.command(cls=OutputCommand, name="diff")
@click.argument("before", metavar="A.onnx", type=click.Path(path_type=Path))
@click.argument("after", metavar="B.onnx", type=click.Path(path_type=Path))
@click.option(
    "--input",
    "inputs",
    multiple=True,
    metavar="[NAME=]SHAPE[:DTYPE]",
    help="What to run them on: 1x3x224x224 for random values of a shape (gain=scalar: no axes), or "
    "x=FILE.npy; repeatable, by position or by name. Default: random values of the shape in the files, open "
    "axes 2 (the first) and 64, or 224 where the network needs it.",
)
@click.option("--tolerance", type=Number(min=0), help="Relative L2 difference that is allowed, of each output.")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Seed of the random inputs.")
@click.option("--run/--no-run", default=True, help="Run both (default), or only compare what they hold.")
@click.option("--all", "everything", is_flag=True, help="List every weight that differs, not the first ten.")
@click.option(
    "--json", "json_output", metavar="FILE|-", help="Write it as JSON; - for the standard output, and no tables."
)
def command(
    before: Path,
    after: Path,
    inputs: tuple[str, ...],
    tolerance: float | None,
    seed: int,
    run: bool,
    everything: bool,
    json_output: str | None,
) -> None:
    """Show what changed between two ONNX files: operators, weights, sizes, and what they compute.

    \b
    sn-deploy diff resnet50sn.onnx fused.onnx

    Both are run on the same random input in ONNX Runtime. Exits with 0 if whoever runs them can't
    tell them apart: the same inputs and outputs, and each output within --tolerance, which by default
    is what rounding may cost in its type. Exits with 1 if they differ, with 2 if they can't be
    compared. With --no-run they are the same if their operators, attributes and weights are.
    """
    if not run:
        refuse_idle(("inputs", "tolerance", "seed"), "--no-run runs nothing", mend="leave it out, or --no-run")
    values = parse_inputs(inputs, before, seed=seed)
    from sn_deploy.diff import diff
    from sn_deploy.diff.show import MOST_WEIGHTS, json_from_diff, print_diff

    found = diff(before, after, inputs=values, tolerance=tolerance, seed=seed, run=run)
    if json_output is not None:
        write_json(json_from_diff(found), json_output)
    if json_output != "-":
        print_diff(output_console(), found, None if everything else MOST_WEIGHTS, rest="--all")
    if found.different:
        click.get_current_context().exit(1)

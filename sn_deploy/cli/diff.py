"""``sn-deploy diff``."""

from __future__ import annotations

import math
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.table import Table

from sn_deploy.atomic import check_writable
from sn_deploy.cli.console import Console, output_console
from sn_deploy.cli.effect import refuse_idle
from sn_deploy.cli.json_output import write_json
from sn_deploy.cli.outputs import OutputCommand
from sn_deploy.cli.values import Number, inputs_by_name, parse_input

if TYPE_CHECKING:
    from sn_deploy.diff import Change, FileDiff

_MOST_WEIGHTS = 10
_WIDEST = 80


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
    if json_output not in (None, "-"):
        check_writable(json_output)
    if not run:
        refuse_idle(("inputs", "tolerance", "seed"), "--no-run runs nothing", mend="leave it out, or --no-run")
    specs = [parse_input(text, seed=seed + index) for index, text in enumerate(inputs)]

    from sn_deploy.diff import diff
    from sn_deploy.onnx_file import input_names

    values = inputs_by_name(specs, lambda: input_names(before))

    found = diff(before, after, inputs=values, tolerance=tolerance, seed=seed, run=run)
    if json_output is not None:
        write_json(json_from_diff(found), json_output)
    if json_output != "-":
        print_diff(output_console(), found, None if everything else _MOST_WEIGHTS)
    if found.different:
        click.get_current_context().exit(1)


def print_diff(console: Console, found: FileDiff, most_weights: int | None) -> None:
    """Tables of what differs, and a verdict."""
    properties = {**found.properties, **_prefixed("input", found.inputs), **_prefixed("output", found.outputs)}
    if properties:
        table = _table("", "before", "after")
        for name, change in properties.items():
            table.add_row(name, _text(change.before), _text(change.after))
        console.print(table)
    if found.ops:
        table = _table("operator", "before", "after", "change")
        for op, (before, after) in sorted(found.ops.items(), key=lambda item: -abs(item[1][1] - item[1][0])):
            table.add_row(op, str(before), str(after), f"{after - before:+d}")
        console.print(table)
    _print_weights(console, found, most_weights)
    if found.numerics is not None:
        given = ", ".join(f"{name} {shape}" for name, shape in found.inputs_run.items())
        larger = "" if found.why_larger is None else f" ({found.why_larger})"
        console.print(f"run on {given or 'no input'}{larger}:")
        table = _table("output", "shape", "max abs", "rel L2", "cosine", "allowed")
        for output in found.numerics:
            name = output.before if output.before == output.after else f"{output.before} → {output.after}"
            figures = (
                f"{output.max_abs:.3g}",
                f"{output.rel_l2:.3g}",
                f"{output.cosine:.9f}",
                f"{output.tolerance:.1e}",
            )
            table.add_row(
                name, "×".join(map(str, output.shape)) or "scalar", *figures, style=None if output.same else "red"
            )
        console.print(table)
    for reason in found.different:
        console.print(f"different: {reason}", style="red", soft_wrap=True)
    if not found.different:
        what = "" if found.numerics is not None else " operators, attributes and weights"
        console.print(f"the same{what}, as far as can be seen", style="green")


def _print_weights(console: Console, found: FileDiff, most: int | None) -> None:
    weights = found.weights
    parts = [f"{weights.same} the same"]
    parts += [f"{len(weights.renamed)} renamed"] if weights.renamed else []
    parts += [f"{len(weights.changed)} changed"] if weights.changed else []
    for what, sizes in (("removed", weights.removed), ("added", weights.added)):
        parts += [f"{len(sizes)} {what} ({sum(sizes.values()) / 1e6:.3g} MB)"] if sizes else []
    console.print(f"weights: {', '.join(parts)}")
    rows = [
        *((name, "changed", change.what, _number(change.max_abs), _number(change.rel_l2))
          for name, change in weights.changed.items()),
        *((name, "removed", f"{size} bytes", "", "") for name, size in weights.removed.items()),
        *((name, "added", f"{size} bytes", "", "") for name, size in weights.added.items()),
        *((name, "renamed", after, "", "") for name, after in weights.renamed.items()),
    ]  # fmt: skip
    if rows:
        table = _table("weight", "", "", "max abs", "rel L2")
        for row in rows[:most]:
            table.add_row(*row)
        console.print(table)
        if most is not None and len(rows) > most:
            console.print(f"… and {len(rows) - most} more: --all")


def _prefixed(kind: str, changes: Any) -> dict[str, Change]:
    return {f"{kind} {name}": change for name, change in changes.items()}


def _table(*columns: str) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    for column in columns:
        table.add_column(column, overflow="fold")
    return table


def _text(value: str | None) -> str:
    """Without the middle of sizes that are expressions of hundreds of characters."""
    text = value or "–"
    return text if len(text) <= _WIDEST else f"{text[: _WIDEST // 2]}…{text[-_WIDEST // 2 :]}"


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.3g}"


def json_from_diff(found: FileDiff) -> dict[str, Any]:
    """The diff as what JSON can hold; a number that is infinite or NaN becomes text."""
    plain = asdict(found)
    for output, described in zip(found.numerics or (), plain["numerics"] or (), strict=True):
        described["same"] = output.same
    plain["same"] = not found.different
    cleaned = _finite(plain)
    assert isinstance(cleaned, dict)
    return cleaned


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(each) for each in value]
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value

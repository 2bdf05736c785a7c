"""The options that name a PyTorch model and its weights: the same for every command that takes one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from sn_deploy.cli.effect import refuse_idle
from sn_deploy.cli.options import Function, add_options
from sn_deploy.console import Console

if TYPE_CHECKING:
    from sn_deploy.checkpoint import LoadReport

# Parameters that they become: `reference`, `model_args`, `checkpoint`, `checkpoint_key`, `strict`.
_WEIGHTS: Final = (
    click.option(
        "--model-arg", "model_args", multiple=True, metavar="NAME=VALUE", help="An argument of it; repeatable."
    ),
    click.option(
        "--checkpoint", type=click.Path(path_type=Path), help="Trained weights: .safetensors, .pth, .pt, .ckpt."
    ),
    click.option(
        "--checkpoint-key", metavar="KEY", help="Where the weights are in it, dotted; found by itself if clear."
    ),
    click.option(
        "--strict/--no-strict", default=True, help="Refuse missing and unexpected keys (default), or list them."
    ),
)


def model_options(*, required: bool) -> Callable[[Function], Function]:
    """Adds ``--model`` and what belongs to it to a command."""
    model = click.option(
        "--model",
        "reference",
        required=required,
        metavar="PACKAGE.MODULE:CALLABLE",
        help="What builds the model (or FILE.py:CALLABLE). It is your code, and it is run.",
    )
    return add_options((model, *_WEIGHTS))


finalize_option: Final = click.option(
    "--finalize-batch-average",
    type=click.IntRange(min=1),
    metavar="N",
    help="Divide running sums (using_moving_average=False) by their N batches.",
)


def check_checkpoint_options(checkpoint: Path | None, checkpoint_key: str | None, strict: bool) -> None:
    """Refuses what says how to read a checkpoint where there is none.

    Raises:
        SnDeployError: there is none.
    """
    if checkpoint is None:
        # --strict asks for what is done anyway.
        names = ("checkpoint_key",) if strict else ("checkpoint_key", "strict")
        refuse_idle(names, "no checkpoint is read", mend="name it with --checkpoint")


def print_loaded(console: Console, path: Path, report: LoadReport) -> None:
    """What was loaded from a checkpoint, and what of it didn't fit."""
    loaded, *unfit = report.lines(path)
    console.print(loaded)
    for line in unfit:
        console.print(line, style="yellow")

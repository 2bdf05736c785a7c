"""``sn-deploy build``."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.progress import TaskID, TextColumn, TimeElapsedColumn

from sn_deploy.cli.log import print_log
from sn_deploy.cli.progress import progress_bar
from sn_deploy.console import output_console

if TYPE_CHECKING:
    from sn_deploy.runtime.trt.progress import OnProgress, Phase


@click.command(name="build")
@click.argument("model", metavar="MODEL.onnx", type=click.Path(path_type=Path))
@click.option("-o", "--output", type=click.Path(path_type=Path), required=True, metavar="FILE.engine")
@click.option("--min", "smallest", multiple=True, metavar="[NAME=]SHAPE", help="Smallest shape of an input.")
@click.option("--opt", "best", multiple=True, metavar="[NAME=]SHAPE", help="The shape that it is made fastest for.")
@click.option("--max", "largest", multiple=True, metavar="[NAME=]SHAPE", help="Largest. Repeat all for more profiles.")
@click.option(
    "--plugin",
    type=click.Choice(["auto", "embed", "none"]),
    default="auto",
    show_default=True,
    help="auto: SN layers by the plugin; embed: and put it into the engine; none: by the file's function.",
)
@click.option("--plugin-library", type=click.Path(path_type=Path), metavar="FILE.so", help="Instead of the package's.")
@click.option("--tf32/--no-tf32", default=False, help="Let float32 convolutions read TF32; default: no.")
@click.option("--workspace", type=click.IntRange(1, 1 << 32), metavar="MIB", help="Limit of a layer's working memory.")
@click.option(
    "--optimization-level", type=click.IntRange(0, 5), help="How long TensorRT looks for faster kernels; default: 3."
)
@click.option(
    "--hardware-compatibility",
    type=click.Choice(["none", "ampere-plus", "same-compute-capability"]),
    default="none",
    show_default=True,
    help="Which other GPUs can run it.",
)
@click.option("--version-compatible", is_flag=True, help="Later versions of TensorRT can run it.")
@click.option(
    "--exclude-lean-runtime", is_flag=True, help="Without the runtime for that inside; readers need --lean-runtime."
)
@click.option("--refit", is_flag=True, help="Its weights can be replaced later.")
@click.option("--strip-weights", is_flag=True, help="Write it without its weights; the reader needs the ONNX file.")
@click.option(
    "--timing-cache", type=click.Path(path_type=Path), metavar="FILE", help="Instead of the user's own cache."
)
@click.option("--no-timing-cache", is_flag=True, help="Time every kernel anew, and keep nothing.")
@click.option("--verbose", is_flag=True, help="Show TensorRT's log, from infos up, in the place of a progress bar.")
def command(
    model: Path,
    output: Path,
    smallest: tuple[str, ...],
    best: tuple[str, ...],
    largest: tuple[str, ...],
    timing_cache: Path | None,
    no_timing_cache: bool,
    workspace: int | None,
    verbose: bool,
    **options: Any,
) -> None:
    """Build a TensorRT engine of an ONNX file, for this machine's GPU.

    \b
    sn-deploy build resnet50sn.onnx -o resnet50sn.engine \\
        --min 1x3x224x224 --opt 32x3x224x224 --max 128x3x224x224

    Precisions are those of the file. The engine belongs to this version of TensorRT and this kind of
    GPU; FILE.engine.json beside it says so, and what is in it: sn-deploy inspect FILE.engine.
    Engines are executable code: load none that comes from somebody you don't trust.
    """
    if timing_cache is not None and no_timing_cache:
        raise click.UsageError("--timing-cache and --no-timing-cache say opposite things.")
    from sn_deploy.cli.shape_options import given_shapes
    from sn_deploy.engine.build import build
    from sn_deploy.engine.model_file import read_model_file
    from sn_deploy.engine.show import print_build

    profiles: list[Any] = []
    if smallest or best or largest:
        names = [info.name for info in read_model_file(model).inputs]
        profiles = list(given_shapes({"min": smallest, "opt": best, "max": largest}, names, model))
    console = output_console()
    with contextlib.nullcontext() if verbose else _progress() as on_progress:
        report = build(
            model,
            output,
            profiles=profiles,
            workspace_mib=workspace,
            timing_cache=not no_timing_cache if timing_cache is None else timing_cache,
            on_note=lambda note: console.print(f"note: {note}", style="yellow", soft_wrap=True),
            on_progress=on_progress,
            on_log=print_log if verbose else None,
            **options,
        )
    print_build(console, report)


@contextlib.contextmanager
def _progress() -> Iterator[OnProgress]:
    """A bar for each phase that TensorRT is in, the inner ones indented; nothing where no terminal is."""
    with progress_bar(TextColumn("{task.completed}/{task.total}"), TimeElapsedColumn()) as bars:
        tasks: dict[str, tuple[TaskID, int]] = {}

        def show(phase: Phase) -> None:
            if phase.finished:
                if phase.name in tasks:
                    bars.remove_task(tasks.pop(phase.name)[0])
                return
            if phase.name not in tasks:
                depth = tasks[phase.parent][1] + 1 if phase.parent in tasks else 0
                tasks[phase.name] = bars.add_task("  " * depth + phase.name, total=phase.steps), depth
            bars.update(tasks[phase.name][0], completed=phase.done)

        yield show

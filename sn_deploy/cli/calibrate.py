"""``sn-deploy calibrate``."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.progress import MofNCompleteColumn, TimeRemainingColumn

from sn_deploy.cli.calibrate_options import DATA, HOW, OUTPUT, PARTS, way_from_options
from sn_deploy.cli.check_options import IMAGES, images_from_options
from sn_deploy.cli.check_output import command_text, console_for
from sn_deploy.cli.json_output import write_json
from sn_deploy.cli.model_options import check_checkpoint_options, finalize_option, model_options, print_loaded
from sn_deploy.cli.options import add_options
from sn_deploy.cli.outputs import OutputCommand
from sn_deploy.cli.progress import progress_bar
from sn_deploy.cli.values import parse_arguments, parse_sizes
from sn_deploy.console import Console
from sn_deploy.errors import SnDeployError

if TYPE_CHECKING:
    from sn_deploy.calibrate import Calibration, LayerStatistics
    from sn_deploy.check.batch import Source
    from sn_deploy.check.shard import Shard
    from sn_deploy.checkpoint import Base


@click.command(cls=OutputCommand, name="calibrate", may_be=("checkpoint",))
@click.argument("parts", nargs=-1, metavar="[PARTS]…", type=click.Path(path_type=Path))
@model_options(required=False)
@add_options(DATA, IMAGES, HOW, PARTS)
@finalize_option
@add_options(OUTPUT)
@click.pass_context
def command(context: click.Context, /, **given: Any) -> None:
    """Take the statistics of the BN branches from your data, and write them as a new checkpoint.

    \b
    sn-deploy calibrate --model mynets.resnet:resnet50sn --checkpoint best.pth \\
        --data imagenet/train --limit 6400 --batch-size 32 -o calibrated.pth

    The new checkpoint has the keys, the wrapping and all else of the old one; the running statistics
    alone are new. Batch averages are those of SN's paper: better than moving averages where batches are
    small. Population statistics are what the deployed network sees.

    \b
    On several machines, put together to the bit of one run:
    sn-deploy calibrate … --shard $i/8 -o part$i.npz
    sn-deploy calibrate --merge part*.npz --checkpoint best.pth -o calibrated.pth

    \b
    Sums that training with using_moving_average=False left, without data:
    sn-deploy calibrate --model … --checkpoint last.pth --finalize-batch-average 500 -o final.pth
    """
    way = way_from_options(given)
    check_checkpoint_options(given["checkpoint"], given["checkpoint_key"], given["strict"])
    from sn_deploy.runtime.torch import require_torch

    require_torch("sn-deploy calibrate")
    console = console_for(given["json_output"])
    {"merge": _merge, "finalise": _finalise, "data": _run}[way](given, console, command_text(context))


# --- the three ways ---------------------------------------------------------------------------------------------------


def _run(given: Mapping[str, Any], console: Console, command: str) -> None:
    from sn_deploy.calibrate import calibrate, calibrate_part
    from sn_deploy.calibrate.calibration import DEFAULT_TOLERANCE
    from sn_deploy.calibrate.partial import Part, write_part
    from sn_deploy.calibrate.show import line_from_sweeps
    from sn_deploy.calibrate.state import fingerprint
    from sn_deploy.check.shard import WHOLE, parse_shard
    from sn_deploy.checkpoint import check_suffix

    shard = WHOLE if given["shard"] is None else parse_shard(given["shard"])
    if given["shard"] is None:
        check_suffix(given["output"])
    model = _model(given, console)
    base = _base(given, model, model.state_dict().keys())
    source = _source(given, model, shard)
    options: dict[str, Any] = {name: given[name] for name in ("statistics", "device", "keep_unrecognised")}
    with _progress(source, given["statistics"], given["shard"] is not None) as on_batch:
        if given["shard"] is not None:
            found = calibrate_part(model, source, on_batch=on_batch, **options)
            keys = tuple(model.state_dict())
            part = Part(found, shard.number, shard.count, fingerprint(base.tensors), dict(source.describe()), keys)
            write_part(part, given["output"])
            console.print(f"wrote {given['output']}: part {shard}, {sum(found.batches.values())} samples")
            base_option = "--model" if given["checkpoint"] is None else "--checkpoint"
            console.print(f"put all parts together with: sn-deploy calibrate --merge PARTS {base_option} … -o FILE")
            return
        tolerance = DEFAULT_TOLERANCE if given["tolerance"] is None else given["tolerance"]
        calibration = calibrate(
            model, source, sweeps=given["sweeps"], tolerance=tolerance, on_batch=on_batch, **options
        )
    _write(given, console, base, calibration.layers, calibration, {"command": command, "data": source.describe()})
    if calibration.moved:
        style = None if calibration.converged else "yellow"
        console.print(line_from_sweeps(calibration.moved, tolerance), style=style)


def _merge(given: Mapping[str, Any], console: Console, command: str) -> None:
    from sn_deploy.calibrate import POPULATION, calibration_from_pass
    from sn_deploy.calibrate.calibration import DEFAULT_TOLERANCE
    from sn_deploy.calibrate.movement import distance
    from sn_deploy.calibrate.partial import merge_parts
    from sn_deploy.calibrate.state import fingerprint, statistics_of
    from sn_deploy.checkpoint import check_suffix

    check_suffix(given["output"])
    part = merge_parts(given["parts"])
    model = None if given["checkpoint"] is not None else _model(given, console)
    base = _base(given, model, part.keys)
    if fingerprint(base.tensors) != part.fingerprint:
        raise SnDeployError(
            "isn't what the parts were made with", where=str(given["checkpoint"] or "--model"), mend="give that one"
        )
    calibration = calibration_from_pass(part.found)
    _write(given, console, base, calibration.layers, calibration, {"command": command, "data": part.data})
    if calibration.statistics == POPULATION:
        old = [(statistics_of(base.tensors, layer.identity), layer) for layer in calibration.layers]
        moved = max((distance(one, (layer.mean, layer.var)) for one, layer in old if one is not None), default=1.0)
        tolerance, sweep = DEFAULT_TOLERANCE, f"this sweep moved the statistics by {moved:.1e}"
        if moved <= tolerance:
            console.print(f"{sweep}: they have settled (tolerance {tolerance:g})")
        else:
            again = f"make parts again with --checkpoint {given['output']}"
            console.print(f"{sweep}, which is more than {tolerance:g}: for the next one {again}", style="yellow")


def _finalise(given: Mapping[str, Any], console: Console, command: str) -> None:
    from sn_deploy.calibrate.finalise import finalised
    from sn_deploy.checkpoint import check_suffix

    check_suffix(given["output"])
    model = _model(given, console)
    base = _base(given, model, model.state_dict().keys())
    layers = finalised(model, given["finalize_batch_average"])
    _write(given, console, base, layers, None, {"command": command, "averaged": given["finalize_batch_average"]})


# --- what they share --------------------------------------------------------------------------------------------------


def _model(given: Mapping[str, Any], console: Console) -> Any:
    from sn_deploy.check.backends.torch_model import ModelOptions, load_model

    arguments = parse_arguments(given["model_args"], option="--model-arg")
    options = ModelOptions(given["reference"], arguments, given["checkpoint"], given["checkpoint_key"], given["strict"])
    model, report = load_model(options)
    if report is not None:
        print_loaded(console, given["checkpoint"], report)
    return model


def _base(given: Mapping[str, Any], model: Any, keys: Any) -> Base:
    """What the new statistics are written into: the checkpoint or, without one, what the model came with."""
    from sn_deploy.checkpoint import ModelState, read_whole_checkpoint

    if given["checkpoint"] is None:
        return ModelState(model)
    return read_whole_checkpoint(given["checkpoint"], match=keys, key=given["checkpoint_key"])


def _source(given: Mapping[str, Any], model: Any, shard: Shard) -> Source:
    from sn_deploy.check.backends.interface import with_examples
    from sn_deploy.check.backends.torch_model import required_inputs
    from sn_deploy.check.data.arrays import names_in
    from sn_deploy.check.data.open import DataOptions, open_data

    images = images_from_options(given)
    options = DataOptions(given["data"], given["batch_size"], given["limit"], shard=shard, images=images)
    examples = parse_sizes(given["examples"])
    named = [*names_in(Path(given["data"])), *(example.name for example in examples if example.name is not None)]
    return open_data(options, with_examples(required_inputs(model, named), examples))


def _write(
    given: Mapping[str, Any],
    console: Console,
    base: Base,
    layers: Sequence[LayerStatistics],
    calibration: Calibration | None,
    more: Mapping[str, Any],
) -> None:
    """Writes the new checkpoint, then says what changed."""
    from sn_deploy.calibrate import changed_tensors
    from sn_deploy.calibrate.show import changes_from, json_from_changes, lines_from_calibration, table_from_changes

    changes = changes_from(base.tensors, layers)
    left_out = base.write(changed_tensors(base.tensors, layers), given["output"])
    console.print(table_from_changes(changes))
    for line in lines_from_calibration(calibration) if calibration is not None else []:
        console.print(line, style="yellow")
    if left_out:
        console.print(f"left out, since {given['output']} holds tensors alone: {', '.join(left_out)}", style="yellow")
    if given["json_output"] is not None:
        document = {**json_from_changes(changes, calibration), **more, "checkpoint": _text(given["checkpoint"])}
        write_json({**document, "output": str(given["output"]), "left_out": left_out}, given["json_output"])
    console.print(f"wrote {given['output']}: the statistics of {len(layers)} layers are new, all else is as it was")


def _text(path: Path | None) -> str | None:
    return None if path is None else str(path)


@contextlib.contextmanager
def _progress(source: Source, statistics: str, is_part: bool) -> Iterator[Any]:
    """A bar for each pass, on a terminal."""
    with progress_bar(MofNCompleteColumn(), TimeRemainingColumn()) as progress:
        tasks: list[Any] = []

        def on_batch(*numbers: int) -> None:
            while len(tasks) <= numbers[0]:
                if tasks:
                    progress.update(tasks[-1], visible=False)
                first = not tasks and (statistics != "population" or not is_part)
                tasks.append(progress.add_task("batches" if first else f"sweep {len(tasks)}", total=source.batches))
            progress.advance(tasks[numbers[0]])

        yield on_batch

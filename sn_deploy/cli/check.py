"""``sn-deploy check``."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click
from rich.progress import MofNCompleteColumn, TimeRemainingColumn

from sn_deploy.cli.check_options import (
    BACKENDS,
    DATA,
    LATENCY,
    LAYERS,
    LIMITS,
    OUTPUT,
    SHARD,
    TASK,
    add_options,
    images_from_options,
    layers_from_options,
    limits_from_options,
)
from sn_deploy.cli.check_output import check_outputs, command_text, console_for, raise_where_failed, write_result
from sn_deploy.cli.console import Console
from sn_deploy.cli.effect import refuse_idle
from sn_deploy.cli.engine_options import ENGINE_PARAMETERS, access_from_options
from sn_deploy.cli.model_options import check_checkpoint_options, finalize_option, model_options
from sn_deploy.cli.outputs import OutputCommand
from sn_deploy.cli.progress import progress_bar
from sn_deploy.cli.values import parse_arguments, parse_sizes
from sn_deploy.errors import SnDeployError
from sn_deploy.output_file import check_onnx_output

if TYPE_CHECKING:
    from sn_deploy.check.backends.open import BackendOptions, Backends
    from sn_deploy.check.backends.torch_model import ModelOptions
    from sn_deploy.check.batch import Batch, Source
    from sn_deploy.check.comparison import Comparison
    from sn_deploy.check.data.open import DataOptions
    from sn_deploy.check.layers.comparison import LayerTolerance
    from sn_deploy.check.limits import Limits
    from sn_deploy.check.result import BisectReport, CheckResult, LatencyReport
    from sn_deploy.check.run import Plan
    from sn_deploy.check.shard import Shard
    from sn_deploy.check.timing import Speedup

DEFAULT_BATCH: Final = 8


@click.command(cls=OutputCommand, name="check")
@click.argument("files", nargs=-1, metavar="[FILES]…", type=click.Path(path_type=Path))
@model_options(required=False)
@finalize_option
@add_options(BACKENDS, DATA, SHARD, TASK, LIMITS, LAYERS, LATENCY, OUTPUT)
@click.pass_context
def command(context: click.Context, /, **given: Any) -> None:
    """Prove that backends agree on the same samples, and time them.

    \b
    sn-deploy check resnet50sn.onnx --model mynets.resnet:resnet50sn --checkpoint best.pth \\
        --data imagenet/val --limit 256 --json check.json --html report.html \\
        --max-rel-l2 1e-3 --min-top1-agreement 0.999 --min-speedup ort-native/ort:1.2

    An ONNX file is run as ort (ONNX Runtime, the function inside the file) and as ort-native (the native
    operator, where it is there); the PyTorch model, torch, is what they are compared with. Without a model
    the first file is. Names of several files' backends end with the file's.

    Every output has a tolerance by its type; limits of your own replace it or come on top. Exits with 0 if
    all hold, 1 if one doesn't, 2 for wrong usage.
    """
    start = time.monotonic()
    # Everything that can be wrong without opening anything is told first.
    request = _request(given)
    check_outputs(given["json_output"], given["html"])
    named = (request.backends.files, request.backends.named, request.backends.served, request.backends.model)
    if not any(named):
        raise click.UsageError("Name a file, or a model with --model.", context)
    console = console_for(given["json_output"])
    result, cause = _check(given, request, command_text(context), start, console)
    write_result(result, given["json_output"], given["html"], console)
    if result.shard is None:
        raise_where_failed(result, cause)
    elif cause is not None:
        console.print(cause, style="yellow")


@dataclass(frozen=True)
class _Request:
    """What the options say, as far as it can be told without opening anything."""

    backends: BackendOptions
    limits: Limits
    layers: LayerTolerance | None
    speedups: Sequence[Speedup]
    shard: Shard
    with_latency: bool


def _request(given: Mapping[str, Any]) -> _Request:
    from sn_deploy.check.data.open import data_kind
    from sn_deploy.check.load import parse_concurrency
    from sn_deploy.check.shard import WHOLE, parse_shard
    from sn_deploy.check.timing import parse_speedup

    limits, layers = limits_from_options(given), layers_from_options(given)
    speedups = [parse_speedup(text) for text in given["speedups"]]
    shard = parse_shard(given["shard"]) if given["shard"] is not None else WHOLE
    with_latency = _with_latency(given["latency"], shard != WHOLE, speedups)
    if given["concurrency"] and parse_concurrency(given["concurrency"]) and not with_latency:
        raise SnDeployError("needs the latency", where="--concurrency", mend="leave --no-latency or --shard out")
    _check_bisect(given, shard != WHOLE)
    _refuse_idle(given, shard != WHOLE, with_latency)
    data_kind(given["data"])
    return _Request(_backend_options(given), limits, layers, speedups, shard, with_latency)


def _check(
    given: Mapping[str, Any], request: _Request, command: str, start: float, console: Console
) -> tuple[CheckResult, str | None]:
    """The result, and the likely cause where it fails and one is known."""
    from sn_deploy.check.assemble import Circumstances, result_from
    from sn_deploy.check.backends.open import open_backends
    from sn_deploy.check.batch import check_whole_batches
    from sn_deploy.check.data.open import open_data
    from sn_deploy.check.machine import machine_facts
    from sn_deploy.check.run import Plan, run_comparison
    from sn_deploy.check.timing import batch_sizes, check_speedups, of_speedups

    if request.with_latency:
        # PyTorch's idle OpenMP threads would spin into the next backend's turn. Read when torch is imported.
        os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    backends = open_backends(request.backends)
    with contextlib.closing(backends):
        for note in backends.notes:
            console.print(note)
        data = _data_options(given, request.shard, backends.fixed_batch)
        batches = batch_sizes(given["latency_batches"], data.batch_size, backends.fixed_batch)
        check_speedups(request.speedups, backends, batches)
        source = open_data(data, backends.inputs)
        check_whole_batches(source, backends.fixed_batch)
        classes = getattr(source, "label_classes", None)
        plan = Plan(request.limits, given["task"], given["user_metrics"], classes, request.layers)
        with _progress(source.batches) as advance:
            comparison, first = run_comparison(source, backends, plan, advance)
        cause = _cause(given, comparison, backends, first)
        bisected = _bisect(given, comparison, backends, source, plan, console) if given["bisect"] else None
        latency = _time(given, backends, first, batches, request.speedups) if request.with_latency else None
    circumstances = Circumstances(
        command=command,
        machine=machine_facts(),
        data=source.describe(),
        importance=_importance(request.backends),
        seconds=time.monotonic() - start,
        name_of=getattr(source, "name_of", lambda sample: None),
    )
    more = of_speedups(request.speedups, latency) if latency is not None else []
    result = result_from(comparison, circumstances, shard=request.shard, bisect=bisected, latency=latency, more=more)
    return result, cause


def _cause(given: Mapping[str, Any], comparison: Comparison, backends: Backends, first: Batch) -> str | None:
    """Why nothing agrees with the PyTorch model, where that can be told from it and the comparison failed."""
    from sn_deploy.check.backends.spec import TORCH
    from sn_deploy.check.backends.torch_model import TorchRunner

    torch = next((one for one in backends.all if one.info.kind == TORCH), None)
    divided = given["finalize_batch_average"] is not None
    if torch is None or divided or all(one.passed for one in comparison.assertions()):
        return None
    from sn_deploy.capture.undivided import undivided_sums

    assert isinstance(torch.runner, TorchRunner)
    why = undivided_sums(torch.runner.model, lambda: torch.run(first.inputs))
    if why is None:
        return None
    return f"{why}; give --finalize-batch-average N, with N the number of batches summed, to check as to export"


def _refuse_idle(given: Mapping[str, Any], is_part: bool, with_latency: bool) -> None:
    from sn_deploy.check.backends.spec import parse_backend
    from sn_deploy.engine_file import is_engine_name

    if not with_latency:
        refuse_idle(
            ("calls", "latency_batches", "memory"),
            "nothing is timed",
            mend="leave it out, or " + ("--shard" if is_part else "--no-latency"),
        )
    if not given["bisect"]:
        refuse_idle(("bisect_output", "bisect_runs"), "nothing is bisected", mend="give --bisect, too")
    if is_part and given["json_output"] is None:
        refuse_idle(("shard",), "the part is written nowhere", mend="write it for sn-deploy merge: --json part.json")
    engines = [is_engine_name(file) for file in given["files"]]
    engines += [parse_backend(text).kind.startswith("trt") for text in given["named"]]
    if not any(engines):
        refuse_idle(ENGINE_PARAMETERS, "no engine is run")
    if given["reference"] is None:
        refuse_idle(
            ("model_args", "checkpoint", "finalize_batch_average"), "no model is built", mend="name it with --model"
        )
        if all(engines):
            refuse_idle(("threads",), "no file runs on this machine's processor")


def _check_bisect(given: Mapping[str, Any], is_part: bool) -> None:
    output: Path | None = given["bisect_output"]
    if given["bisect"] and is_part:
        raise SnDeployError(
            "can't be done on a part", where="--bisect", mend="bisect in a run without --shard, with --limit"
        )
    if output is not None:
        check_onnx_output(output)


def _with_latency(asked: bool | None, is_part: bool, speedups: Sequence[Speedup]) -> bool:
    if is_part and (asked or speedups):
        raise SnDeployError(
            "can't be part of a part: times of different runs can't be merged",
            where="--latency and --min-speedup",
            mend="time the backends in a run without --shard",
        )
    if asked is False and speedups:
        raise SnDeployError("needs the latency", where="--min-speedup", mend="leave --no-latency out")
    return not is_part if asked is None else asked


def _backend_options(given: Mapping[str, Any]) -> BackendOptions:
    from sn_deploy.check.backends.open import BackendOptions

    return BackendOptions(
        files=given["files"],
        named=given["named"],
        model=_model_options(given),
        reference=given["reference_name"],
        reference_dtype=given["reference_dtype"],
        threads=given["threads"],
        examples=parse_sizes(given["examples"]),
        access=access_from_options(given),
        served=given["served"],
    )


def _model_options(given: Mapping[str, Any]) -> ModelOptions | None:
    from sn_deploy.check.backends.torch_model import ModelOptions

    check_checkpoint_options(given["checkpoint"], given["checkpoint_key"], given["strict"])
    if given["reference"] is None:
        return None
    return ModelOptions(
        given["reference"],
        parse_arguments(given["model_args"], option="--model-arg"),
        given["checkpoint"],
        given["checkpoint_key"],
        given["strict"],
        given["finalize_batch_average"],
    )


def _data_options(given: Mapping[str, Any], shard: Shard, fixed_batch: int | None) -> DataOptions:
    from sn_deploy.check.data.open import DataOptions

    size = given["batch_size"] or fixed_batch or DEFAULT_BATCH
    if fixed_batch is not None and size != fixed_batch:
        raise SnDeployError(
            f"is {size}, and a file fixes the batch to {fixed_batch}",
            where="--batch-size",
            mend="export with --dynamic batch, or leave it out",
        )
    return DataOptions(given["data"], size, given["limit"], given["labels"], shard, images_from_options(given))


def _time(
    given: Mapping[str, Any], backends: Backends, first: Batch, batches: Sequence[int], speedups: Sequence[Speedup]
) -> LatencyReport:
    from sn_deploy.check.load import parse_concurrency
    from sn_deploy.check.timing import time_backends

    with progress_bar(auto_refresh=False) as progress:
        task = progress.add_task("latency", total=1.0)

        def show(text: str, share: float) -> None:
            progress.update(task, completed=share, description=f"latency, {text}")
            progress.refresh()

        return time_backends(
            backends,
            first,
            batches,
            calls=given["calls"],
            threads=given["threads"],
            baseline=speedups[0].over if speedups else None,
            memory=given["memory"],
            concurrency=parse_concurrency(given["concurrency"]) if given["concurrency"] else (),
            on_progress=show if not progress.disable else None,
        )


def _bisect(
    given: Mapping[str, Any],
    comparison: Comparison,
    backends: Backends,
    source: Source,
    plan: Plan,
    console: Console,
) -> BisectReport | None:
    from sn_deploy.check.bisect.run import bisect, failed_backend

    backend = failed_backend(comparison, backends)
    if backend is None:
        console.print("nothing to bisect: every backend passes")
        return None
    most = given["bisect_runs"]
    console.print(f"bisecting {backend.info.name}: at most {most} runs of all {comparison.samples} samples")
    with progress_bar(MofNCompleteColumn(), TimeRemainingColumn(), auto_refresh=False) as progress:
        task = progress.add_task("bisect", total=most)

        def show(done: int, most: int, seconds: float) -> None:
            if done == 1:
                console.print(f"a run takes {seconds:.1f} s, so {most} take {most * seconds:.0f} s at most")
            progress.update(task, completed=done)
            progress.refresh()

        found = bisect(backend, backends, source, plan, most_runs=most, on_run=show)
    return found.write(given["bisect_output"]) if given["bisect_output"] is not None else found.report


def _importance(options: BackendOptions) -> list[Mapping[str, Any]]:
    """The SN layers of the first file that says which it has."""
    from sn_deploy.check.backends.spec import is_engine, parse_backend
    from sn_deploy.inspection.onnx_file import layers_from_onnx
    from sn_deploy.inspection.show import json_from_layers

    for file in [*options.files, *(parse_backend(text).file for text in options.named)]:
        # One without such nodes is nothing to complain about.
        with contextlib.suppress(SnDeployError):
            if not is_engine(file):
                layers: Any = json_from_layers(layers_from_onnx(file), file)["layers"]
                return list(layers)
    return []


@contextlib.contextmanager
def _progress(batches: int | None) -> Iterator[Any]:
    with progress_bar(MofNCompleteColumn(), TimeRemainingColumn(), auto_refresh=False) as progress:
        task = progress.add_task("compare", total=batches)

        def advance(batch: Batch) -> None:
            progress.advance(task)
            progress.refresh()

        yield advance

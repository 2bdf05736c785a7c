"""``sn-deploy check``."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from sn_deploy.cli.check_options import (
    BACKENDS,
    DATA,
    LATENCY,
    LAYERS,
    LIMITS,
    OUTPUT,
    SHARD,
    TASK,
    images_from_options,
    layers_from_options,
    limits_from_options,
)
from sn_deploy.cli.check_output import check_script_of, command_text, console_for, write_result
from sn_deploy.cli.effect import refuse_idle
from sn_deploy.cli.engine_options import ENGINE_PARAMETERS, access_from_options
from sn_deploy.cli.model_options import check_checkpoint_options, finalize_option, model_options
from sn_deploy.cli.options import add_options
from sn_deploy.cli.outputs import OutputCommand
from sn_deploy.cli.values import parse_arguments, parse_counts, parse_sizes
from sn_deploy.errors import SnDeployError

if TYPE_CHECKING:
    from sn_deploy.check.backends.open import BackendOptions
    from sn_deploy.check.backends.torch_model import ModelOptions
    from sn_deploy.check.job import Job


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
    if _with_latency(given):
        # PyTorch's idle OpenMP threads would spin into the next backend's turn. Read when torch is imported.
        os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    # Everything that can be wrong without opening anything is told first.
    job = _job(given, command_text(context))
    check_script_of(given["html"])
    if not any((job.backends.files, job.backends.named, job.backends.served, job.backends.model)):
        raise click.UsageError("Name a file, or a model with --model.", context)
    from sn_deploy.check.job import run_job
    from sn_deploy.cli.check_progress import CheckProgress

    console = console_for(given["json_output"])
    outcome = run_job(job, CheckProgress(console))
    write_result(outcome.result, given["json_output"], given["html"], console)
    if outcome.result.shard is None:
        outcome.result.raise_if_failed(cause=outcome.cause)
    elif outcome.cause is not None:
        console.print(outcome.cause, style="yellow")


def _job(given: Mapping[str, Any], command: str) -> Job:
    """What the options say, as far as it can be told without opening anything."""
    from sn_deploy.check.data.open import DataOptions, data_kind
    from sn_deploy.check.job import Bisect, Job, Latency
    from sn_deploy.check.metrics.choose import check_task
    from sn_deploy.check.run import Plan
    from sn_deploy.check.shard import WHOLE, parse_shard
    from sn_deploy.check.timing import parse_speedup

    limits, layers = limits_from_options(given), layers_from_options(given)
    speedups = [parse_speedup(text) for text in given["speedups"]]
    shard = parse_shard(given["shard"]) if given["shard"] is not None else WHOLE
    form = "numbers of callers such as 1,8"
    concurrency = parse_counts(given["concurrency"], "--concurrency", most=1024, expected=form)
    with_latency = _with_latency(given)
    for option, needs in (("--min-speedup", speedups), ("--concurrency", concurrency)):
        if needs and not with_latency:
            raise SnDeployError(
                "needs the latency",
                where=option,
                mend=f"leave {'--shard' if given['latency'] is None else '--no-latency'} out",
            )
    output: Path | None = given["bisect_output"]
    data_kind(given["data"])
    images = images_from_options(given)
    latency = Latency(given["latency_batches"], given["calls"], given["memory"], concurrency, speedups)
    job = Job(
        _backend_options(given),
        DataOptions(given["data"], given["batch_size"], given["limit"], given["labels"], shard, images),
        Plan(limits, check_task(given["task"], "--task"), given["user_metrics"], layers=layers),
        latency=latency if with_latency else None,
        bisect=Bisect(output, given["bisect_runs"]) if given["bisect"] else None,
        command=command,
    )
    _refuse_idle(given, shard != WHOLE, with_latency)
    return job


def _with_latency(given: Mapping[str, Any]) -> bool:
    """Backends are timed unless that is refused; of a part only where it is asked for, which is refused."""
    if given["latency"] is not None:
        return bool(given["latency"])
    return given["shard"] is None or bool(given["speedups"])


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

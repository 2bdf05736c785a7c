"""``sn-deploy serve``."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from sn_deploy.cli.effect import refuse_idle
from sn_deploy.cli.values import inputs_by_name, parse_counts, parse_size
from sn_deploy.console import Console
from sn_deploy.errors import SnDeployError


@click.group(name="serve")
def command() -> None:
    """Prepare a model for a server."""


@command.command(name="triton")
@click.argument("model", metavar="MODEL", type=click.Path(path_type=Path))
@click.option("-o", "--output", required=True, type=click.Path(path_type=Path), metavar="REPOSITORY")
@click.option("--name", required=True, help="The model's name in Triton.")
@click.option(
    "--engine",
    "engines",
    multiple=True,
    metavar="[smXY=]FILE",
    help="TensorRT engine that was built from MODEL, for a kind of GPU: sm90=h100.engine; repeatable.",
)
@click.option("--max-batch", type=int, help="Samples put together at most, 0 for none; default: 8.")
@click.option("--preferred-batch", metavar="N,N", help="Batches that run without waiting for more: 8,32.")
@click.option("--max-queue-delay", default="0", metavar="TIME", help="How long a request may wait for others: 500us.")
@click.option("--instances", type=int, default=1, show_default=True, help="Copies of the model, on each GPU.")
@click.option(
    "--device",
    type=click.Choice(["auto", "cpu", "gpu"]),
    default="auto",
    show_default=True,
    help="auto: GPUs where there are any, else the CPU.",
)
@click.option("--threads", type=int, help="Threads within an operator, on the CPU.")
@click.option(
    "--labels", "labels", multiple=True, metavar="[OUTPUT=]FILE", help="Names of classes, a line each; repeatable."
)
@click.option("--serve-versions", type=int, default=1, show_default=True, help="How many of the newest are served.")
@click.option(
    "--input",
    "inputs",
    multiple=True,
    metavar="[NAME=]SHAPE",
    help="A size for axes that the file leaves open, for warm-up: 1x3x512x512; repeatable.",
)
@click.option("--warmup/--no-warmup", default=True, show_default=True)
@click.option("--native/--no-native", default=True, show_default=True, help="Take the project's own operators along.")
@click.option("--tensorrt", type=click.Choice(["10", "11"]), help="Whose plugin goes with the engines.")
@click.option("--server-path", default="/models", show_default=True, help="Where the server sees the repository.")
@click.option("--config", type=click.Choice(["keep", "replace"]), help="When config.pbtxt is there and says otherwise.")
@click.option("--image", metavar="IMAGE", help="That the manifests name; default: NAME:VERSION.")
@click.option("--triton-image", metavar="IMAGE", help="NVIDIA's, that it is built from.")
@click.option("--replicas", type=int, default=2, show_default=True)
@click.option("--max-replicas", type=int, default=8, show_default=True)
@click.option(
    "--queue-target", default="5ms", show_default=True, metavar="TIME", help="Wait at which another replica is started."
)
def triton(model: Path, output: Path, **given: Any) -> None:
    """Add a version of MODEL to a repository for NVIDIA Triton.

    \b
    sn-deploy serve triton resnet50sn.onnx -o repository --name resnet50sn \\
        --max-batch 64 --preferred-batch 8,32 --max-queue-delay 500us --instances 2

    MODEL is an ONNX file, or an engine of sn-deploy build; with --engine the engines that were built from
    the ONNX file are served. Names, shapes and types of config.pbtxt are the model's, and batches are tried
    before anything is written. Beside the model's folder: a Dockerfile and manifests for Kubernetes and
    KServe. Called again, it adds a version.
    """
    _refuse_idle(model, given)
    from sn_deploy.serve import DeployOptions, ServeOptions, serve_triton
    from sn_deploy.serve.deployment import TRITON_IMAGE
    from sn_deploy.serve.options import LARGEST, parse_delay

    preferred = parse_counts(given["preferred_batch"], "--preferred-batch", most=LARGEST, expected="sizes such as 8,32")
    options = ServeOptions(
        name=given["name"],
        max_batch=given["max_batch"],
        preferred_batch=tuple(preferred),
        max_queue_delay_us=parse_delay(given["max_queue_delay"]),
        instances=given["instances"],
        device=given["device"],
        threads=given["threads"],
        labels=_labels(given["labels"]),
        serve_versions=given["serve_versions"],
        sizes=_sizes(given["inputs"], model),
        warmup=given["warmup"],
        native=given["native"],
        tensorrt=int(given["tensorrt"]) if given["tensorrt"] else None,
        server_path=given["server_path"].rstrip("/") or "/",
    )
    deploy = DeployOptions(
        image=given["image"],
        triton_image=given["triton_image"] or TRITON_IMAGE,
        replicas=given["replicas"],
        max_replicas=given["max_replicas"],
        queue_target_us=parse_delay(given["queue_target"], "--queue-target"),
    )
    report = serve_triton(model, output, options, deploy, engines=given["engines"], config=given["config"])
    from sn_deploy.serve.show import print_report

    print_report(Console(markup=False, highlight=False, soft_wrap=True), report)


def _refuse_idle(model: Path, given: Mapping[str, Any]) -> None:
    from sn_deploy.engine_file import is_engine_name

    if not given["engines"] and not is_engine_name(model):
        refuse_idle(("tensorrt",), "no engine is served", mend="name the engines with --engine, or leave it out")
    if not given["native"]:
        refuse_idle(("tensorrt",), "--no-native takes no plugin along")


def _labels(texts: tuple[str, ...]) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for text in texts:
        # Names of outputs and of files may both have '=' in them.
        splits = [("", text), *((text[:at], text[at + 1 :]) for at, sign in enumerate(text) if sign == "=")]
        name, file = next((split for split in splits if Path(split[1]).is_file()), splits[-1])
        path = Path(file)
        if name in found:
            raise SnDeployError("is given twice", where=f"--labels {text}")
        found[name] = path
    return found


def _sizes(texts: tuple[str, ...], model: Path) -> dict[str, tuple[int, ...]]:
    from sn_deploy.onnx_file import input_names

    given = inputs_by_name([parse_size(text) for text in texts], lambda: input_names(model))
    return {name: size.shape for name, size in given.items()}

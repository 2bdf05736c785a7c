"""The options of ``sn-deploy check``, in groups, and what they say together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from sn_deploy.check.data.transform import CHANNEL_ORDERS, INTERPOLATIONS
from sn_deploy.check.layers.comparison import LAYER_LIMITS, LayerTolerance
from sn_deploy.check.limits import EVERY_OUTPUT, PARITY_LIMITS, Limits
from sn_deploy.cli.effect import refuse_idle
from sn_deploy.cli.engine_options import ENGINES
from sn_deploy.errors import SnDeployError

if TYPE_CHECKING:
    from sn_deploy.check.data.transform import ImageOptions

EXAMPLES: Final = click.option(
    "--input",
    "examples",
    multiple=True,
    metavar="[NAME=]SHAPE[:DTYPE]",
    help="Size of an input whose axes the file leaves open: 1x3x224x224; repeatable.",
)

BACKENDS: Final = (
    click.option(
        "--backend",
        "named",
        multiple=True,
        metavar="NAME=KIND:FILE",
        help="One more: ort, ort-native, ort-rounded, ort-cuda, ort-cuda-native, trt or trt-no-graph; repeatable.",
    ),
    *ENGINES,
    click.option(
        "--triton",
        "served",
        multiple=True,
        metavar="ADDRESS",
        help="A served model, grpc://HOST:PORT/MODEL or http://…; repeatable.",
    ),
    click.option(
        "--reference", "reference_name", metavar="NAME", help="Compare with this one; default: PyTorch, else the first."
    ),
    click.option(
        "--reference-dtype",
        type=click.Choice(["float32", "float64"]),
        help="float64 compares with PyTorch in float64, and PyTorch as it is, too.",
    ),
    click.option(
        "--threads", type=click.IntRange(min=1), help="Threads within an operator; default: each runtime's own."
    ),
    EXAMPLES,
)

# The parameters that they become.
IMAGE_PARAMETERS: Final = ("resize", "crop", "mean", "std", "channel_order", "interpolation")

IMAGES: Final = (
    click.option(
        "--resize", metavar="SIZE", help="Images: short side, HEIGHTxWIDTH or none; default: by the input's size."
    ),
    click.option("--crop", metavar="SIZE", help="Images: the middle, SIZE or HEIGHTxWIDTH, or none."),
    click.option("--mean", metavar="M,M,M", help="Images: of pixels in 0 to 1; default: ImageNet's."),
    click.option("--std", metavar="S,S,S", help="Images: the same."),
    click.option("--channel-order", type=click.Choice(CHANNEL_ORDERS), default="rgb", show_default=True),
    click.option("--interpolation", type=click.Choice(INTERPOLATIONS), default=INTERPOLATIONS[0], show_default=True),
)

# Where samples come from; every command that takes any says it alike.
DATA_FROM: Final = click.option(
    "--data",
    default="random",
    show_default=True,
    metavar="DATA",
    help="random[:seed=0,distribution=normal], FILE.npy, FILE.npz, a folder of images, or PACKAGE.MODULE:CALLABLE.",
)

DATA: Final = (
    DATA_FROM,
    click.option(
        "--labels", metavar="FILE|none", help="Labels of files and folders: lines LABEL or NAME LABEL, or .npy."
    ),
    click.option(
        "--batch-size", type=click.IntRange(min=1), help="Samples in a batch; default: 8, or what a file fixes."
    ),
    click.option(
        "--limit", type=click.IntRange(min=1), metavar="N", help="So many samples; default: all, 64 random ones."
    ),
    *IMAGES,
)

SHARD: Final = (click.option("--shard", metavar="PART/PARTS", help="Run this part alone: 2/8. Then: sn-deploy merge."),)

LIMITS: Final = (
    click.option("--max-rel-l2", type=float, metavar="X", help="Largest relative L2 error of an output."),
    click.option(
        "--tolerance",
        "tolerances",
        multiple=True,
        metavar="OUTPUT:FIGURE=X,…",
        help=f"Limits of one output (or *): {', '.join(PARITY_LIMITS)}; repeatable.",
    ),
    click.option(
        "--min-top1-agreement", type=float, metavar="SHARE", help="Smallest share of samples with the same class."
    ),
    click.option("--min", "minima", multiple=True, metavar="FIGURE:X", help="Smallest value of a figure of the task."),
    click.option("--max", "maxima", multiple=True, metavar="FIGURE:X", help="Largest value of one."),
    click.option(
        "--max-drop", "drops", multiple=True, metavar="FIGURE:X", help="How much lower than the reference's one may be."
    ),
    click.option(
        "--min-speedup",
        "speedups",
        multiple=True,
        metavar="A/B[@BATCH]:X",
        help="How many times as fast A has to be as B; repeatable.",
    ),
)

TASK: Final = (
    click.option(
        "--task",
        metavar="auto|none|classification[:OUTPUT]|segmentation[:OUTPUT]",
        default="auto",
        show_default=True,
        help="Agreement and accuracy, or mIoU, of OUTPUT alone where it is named; auto goes by shapes.",
    ),
    click.option(
        "--metric",
        "user_metrics",
        multiple=True,
        metavar="PACKAGE.MODULE:CALLABLE",
        help="A figure of your own; repeatable.",
    ),
)

LAYERS: Final = (
    click.option("--layers", is_flag=True, help="Compare after each SN layer, too, and name the first that is off."),
    click.option(
        "--layer-tolerance",
        "layer_tolerances",
        multiple=True,
        metavar="FIGURE=X,…",
        help=f"What a layer may be off: {', '.join(LAYER_LIMITS)}.",
    ),
    click.option(
        "--bisect", is_flag=True, help="Of a file in half precision that fails: which layers must stay in float32."
    ),
    click.option(
        "--bisect-output",
        type=click.Path(path_type=Path),
        metavar="FILE.onnx",
        help="Write the file with these in float32.",
    ),
    click.option(
        "--bisect-runs", type=click.IntRange(min=1), default=50, show_default=True, help="Files that are tried at most."
    ),
)

LATENCY: Final = (
    click.option("--latency/--no-latency", default=None, help="Time the backends in turns (default, but for parts)."),
    click.option("--calls", type=click.IntRange(min=1), default=100, show_default=True, help="Timed calls of each."),
    click.option(
        "--latency-batch",
        "latency_batches",
        type=click.IntRange(min=1),
        multiple=True,
        help="Default: 1 and the batch size.",
    ),
    click.option(
        "--concurrency", metavar="N,N", help="Throughput, too, with so many callers at once: 1,8; --calls of each."
    ),
    click.option("--memory", is_flag=True, help="Measure each backend's memory, in a process of its own."),
)

OUTPUT: Final = (
    click.option("--json", "json_output", metavar="FILE|-", help="Write the result; - for the standard output, alone."),
    click.option(
        "--html",
        type=click.Path(path_type=Path),
        metavar="FILE",
        help="Write a report, and a script beside it that repeats it.",
    ),
)


def limits_from_options(given: Mapping[str, Any]) -> Limits:
    """What the options of `LIMITS` say, without speedups.

    Raises:
        SnDeployError: one that can't be read.
    """
    tolerances: dict[str, dict[str, float]] = {}
    if given["max_rel_l2"] is not None:
        tolerances[EVERY_OUTPUT] = {"rel_l2": _limit(given["max_rel_l2"], "--max-rel-l2")}
    for text in given["tolerances"]:
        output, figures = _parse_tolerance(text)
        tolerances[output] = {**tolerances.get(output, {}), **figures}
    minima = _figures(given["minima"], "--min")
    if given["min_top1_agreement"] is not None:
        minima["top1_agreement"] = _limit(given["min_top1_agreement"], "--min-top1-agreement", largest=1)
    return Limits(tolerances, minima, _figures(given["maxima"], "--max"), _figures(given["drops"], "--max-drop"))


def images_from_options(given: Mapping[str, Any]) -> ImageOptions:
    """What `IMAGES` say."""
    from sn_deploy.check.data.transform import ImageOptions

    return ImageOptions(**{name: given[name] for name in IMAGE_PARAMETERS})


def layers_from_options(given: Mapping[str, Any]) -> LayerTolerance | None:
    """What is allowed after each layer; None where layers aren't compared.

    Raises:
        SnDeployError: one that can't be read, or tolerances without ``--layers``.
    """
    if not given["layers"]:
        refuse_idle(("layer_tolerances",), "layers aren't compared", mend="give --layers, too")
    figures: dict[str, float] = {}
    for text in given["layer_tolerances"]:
        figures |= _parse_pairs(text, f"--layer-tolerance {text}", dict.fromkeys(LAYER_LIMITS, False))
    return LayerTolerance(**figures) if given["layers"] else None


def _parse_tolerance(text: str) -> tuple[str, dict[str, float]]:
    where = f"--tolerance {text}"
    # An output's name may have colons in it.
    output, colon, pairs = text.rpartition(":")
    if not colon or not output:
        raise SnDeployError("can't be read", where=where, expected="OUTPUT:FIGURE=LIMIT, as in logits:rel_l2=1e-4")
    return output, _parse_pairs(pairs, where, PARITY_LIMITS)


def _parse_pairs(pairs: str, where: str, may_be_negative: Mapping[str, bool]) -> dict[str, float]:
    """``FIGURE=X,…``, of the figures that are known."""
    figures = {}
    for pair in pairs.split(","):
        figure, equals, value = pair.partition("=")
        if not equals or figure not in may_be_negative:
            raise SnDeployError(f"there is no figure {figure!r}", where=where, expected=", ".join(may_be_negative))
        figures[figure] = _number(value, where, may_be_negative[figure])
    return figures


def _figures(texts: Sequence[str], option: str) -> dict[str, float]:
    figures = {}
    for text in texts:
        name, colon, value = text.rpartition(":")
        if not colon or not name:
            raise SnDeployError("can't be read", where=f"{option} {text}", expected="FIGURE:LIMIT, as in miou:0.7")
        figures[name] = _number(value, f"{option} {text}", True)
    return figures


def _number(text: str, where: str, may_be_negative: bool) -> float:
    try:
        return _limit(float(text), where, smallest=-float("inf") if may_be_negative else 0)
    except ValueError:
        raise SnDeployError(f"{text!r} is no number", where=where) from None


def _limit(value: float, where: str, *, smallest: float = 0, largest: float = float("inf")) -> float:
    if not smallest <= value <= largest:  # NaN too
        raise SnDeployError(f"{value} is no limit", where=where, expected=f"{smallest:g} to {largest:g}")
    return value

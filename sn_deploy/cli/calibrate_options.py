"""The options of ``sn-deploy calibrate``, in groups, and which of its three ways they ask for."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import click

from sn_deploy.cli.check_options import IMAGE_PARAMETERS
from sn_deploy.cli.effect import refuse_idle
from sn_deploy.errors import SnDeployError

DATA: Final = (
    click.option(
        "--data", metavar="DATA", help="A folder of images, FILE.npy, FILE.npz or PACKAGE.MODULE:CALLABLE, as in check."
    ),
    click.option(
        "--batch-size",
        type=click.IntRange(min=1),
        default=32,
        show_default=True,
        help="Samples in a batch; batch averages depend on it: take that of training, per GPU.",
    ),
    click.option("--limit", type=click.IntRange(min=1), metavar="N", help="So many samples; default: all."),
    click.option(
        "--input", "examples", multiple=True, metavar="[NAME=]SHAPE", help="Size of an input: 1x3x224x224; repeatable."
    ),
)

HOW: Final = (
    click.option(
        "--statistics",
        type=click.Choice(["batch-average", "population"]),
        default="batch-average",
        show_default=True,
        help="Averages of the batches' own, as SN's paper does, or those of all samples as one batch.",
    ),
    click.option(
        "--sweeps",
        type=click.IntRange(min=1),
        metavar="N",
        help="Of a population: at most so many passes after the first; default: until nothing moves.",
    ),
    click.option(
        "--tolerance",
        type=float,
        metavar="X",
        help="Of a population: sweep until no mean moves by more than X deviations and no variance by more than X of "
        "itself; default: 1e-6.",
    ),
    click.option("--device", default="cpu", show_default=True, help="Where the model runs: cpu, cuda."),
    click.option("--keep-unrecognised", is_flag=True, help="Leave the statistics of layers that aren't SN."),
)

PARTS: Final = (
    click.option("--shard", metavar="PART/PARTS", help="Write this part alone, to a .npz: 2/8. Then: --merge."),
    click.option("--merge", is_flag=True, help="Put the PARTS together; --checkpoint as for the parts."),
)

OUTPUT: Final = (
    click.option(
        "-o",
        "--output",
        type=click.Path(path_type=Path),
        required=True,
        metavar="FILE",
        help="The new checkpoint: .pth, .pt, .ckpt or .safetensors; a part: .npz.",
    ),
    click.option("--json", "json_output", metavar="FILE|-", help="Write what moved; - for the standard output, alone."),
)

_PART_SUFFIX: Final = ".npz"
# What says how data is run, by parameter: the other two ways to call the command take none of it.
_OF_DATA: Final = (
    "data",
    "batch_size",
    "limit",
    "examples",
    *IMAGE_PARAMETERS,
    "statistics",
    "sweeps",
    "tolerance",
    "device",
    "keep_unrecognised",
    "shard",
)
# What says how the model is built, which a checkpoint makes needless where nothing is run.
_OF_MODEL: Final = ("reference", "model_args", "strict")
_OF_SWEEPS: Final = ("sweeps", "tolerance")


def way_from_options(given: Mapping[str, Any]) -> str:
    """``merge``, ``finalise`` or ``data``.

    Raises:
        SnDeployError: the options contradict each other.
    """
    if given["parts"] and not given["merge"]:
        raise SnDeployError("parts are put together with --merge", where=str(given["parts"][0]), mend="add --merge")
    ways = [option for option, on in (("--merge", given["merge"]), _finalising(given)) if on]
    if len(ways) > 1:
        raise SnDeployError("can't be given together", where=" and ".join(ways))
    if not ways:
        _check_data_options(given)
        return "data"
    refuse_idle(_OF_DATA, f"{ways[0]} runs no data")
    if given["merge"] and not given["parts"]:
        raise SnDeployError("there are no parts", where="--merge", mend="name the files that --shard wrote")
    if given["merge"] and given["checkpoint"] is None and given["reference"] is None:
        raise SnDeployError(
            "needs what the parts were made with",
            where="--merge",
            mend="give the same --checkpoint, or the same --model if there was none",
        )
    if given["merge"] and given["checkpoint"] is not None:
        refuse_idle(_OF_MODEL, "--merge writes into the checkpoint, and builds no model")
    if not given["merge"]:
        _check_model(given)
    return "merge" if given["merge"] else "finalise"


def _finalising(given: Mapping[str, Any]) -> tuple[str, bool]:
    return "--finalize-batch-average", given["finalize_batch_average"] is not None


def _check_data_options(given: Mapping[str, Any]) -> None:
    from sn_deploy.check.data.open import data_kind

    _check_model(given)
    if given["data"] is None:
        raise SnDeployError(
            "is missing",
            where="--data",
            mend="give images or arrays like those of training; or --finalize-batch-average N for sums without data",
        )
    if data_kind(given["data"]) == "random":
        raise SnDeployError("random numbers have other statistics than images", where="--data", mend="give real data")
    if given["statistics"] != "population":
        refuse_idle(_OF_SWEEPS, "batch averages take one pass over the data", mend="give --statistics population, too")
    if given["tolerance"] is not None and not given["tolerance"] >= 0:
        raise SnDeployError(f"{given['tolerance']} is no tolerance", where="--tolerance", expected="0 or more")
    is_part = given["output"].suffix.lower() == _PART_SUFFIX
    if is_part != (given["shard"] is not None):
        raise SnDeployError(
            "is no name for a checkpoint" if is_part else "is no name for a part",
            where=f"--output {given['output']}",
            expected=".pth, .pt, .ckpt or .safetensors, or with --shard .npz",
        )
    if given["shard"] is not None:
        refuse_idle(_OF_SWEEPS, "a part is of one sweep")
        refuse_idle(
            ("json_output",), "what has moved is known once the parts are put together", mend="give it to --merge"
        )


def _check_model(given: Mapping[str, Any]) -> None:
    if given["reference"] is None:
        raise SnDeployError("is missing", where="--model", mend="name what builds the model: --model mynets.resnet:net")

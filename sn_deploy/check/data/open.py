"""What ``--data`` and its options name, or a caller holds in memory, opened."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Final

from sn_deploy.arguments import of_kind, whole_number
from sn_deploy.check.batch import DEFAULT_BATCH, Source
from sn_deploy.check.data.arrays import held_arrays, open_arrays
from sn_deploy.check.data.images import ImageSamples
from sn_deploy.check.data.labels import Labels, read_labels
from sn_deploy.check.data.random import DEFAULT_SAMPLES, RandomSamples, parse_distribution
from sn_deploy.check.data.samples import SampleBatches
from sn_deploy.check.data.transform import ImageOptions, transform_for
from sn_deploy.check.data.user import UserBatches
from sn_deploy.check.shard import WHOLE, Shard
from sn_deploy.errors import SnDeployError
from sn_deploy.input_file import check_is_path
from sn_deploy.python_words import naming_arguments
from sn_deploy.runtime.tensors import TensorInfo

_AS_THE_INPUT: Final = ImageOptions()

# For `naming_arguments` of functions that have no arguments of these names.
OPTIONS_IN_PYTHON: Final = {
    **{name: f"DataOptions.{name}" for name in ("batch_size", "limit", "labels", "shard")},
    **{field.name: f"ImageOptions.{field.name}" for field in fields(ImageOptions)},
}


@dataclass(frozen=True)
class DataOptions:
    """What the user says about data.

    Attributes:
        data: ``random[:…]``, a .npy or .npz file, a folder of images, or ``PACKAGE.MODULE:CALLABLE``; or what is in
            memory: an array or tensor (samples, …), a dict of these by input name, perhaps with ``labels``, a tuple of
            these in the order of the inputs, perhaps with the labels behind them, or what such a callable may be, see
            `sn_deploy.check.data.user`.
        batch_size: samples in a batch, None for 8; limit: how many samples in all, None for all there are.
        labels: a file, ``none``, or None for what the data itself has.
        shard: which part of the batches.
        images: of a folder of images.

    Raises:
        SnDeployError: one of them is of another kind.
    """

    data: object = "random"
    batch_size: int | None = None
    limit: int | None = None
    labels: str | os.PathLike[str] | None = None
    shard: Shard = WHOLE
    images: ImageOptions = _AS_THE_INPUT

    @naming_arguments()
    def __post_init__(self) -> None:
        for name in ("batch_size", "limit"):
            given = getattr(self, name)
            if given is not None:
                object.__setattr__(self, name, whole_number(given, name))
        if self.labels is not None:
            mend = 'give labels in memory with the samples: {"x": samples, "labels": labels}'
            check_is_path(self.labels, "labels", mend=mend)
        of_kind(self.images, ImageOptions, "images")
        of_kind(self.shard, Shard, "DataOptions.shard")


def data_options(given: object) -> DataOptions:
    """What a function was given as data: options, or the data itself."""
    return given if isinstance(given, DataOptions) else DataOptions(given)


def open_data(options: DataOptions, inputs: Sequence[TensorInfo]) -> Source:
    """The samples for these inputs, in batches.

    Args:
        inputs: of the model: names, types and shapes, the first axis being the batch's.

    Raises:
        SnDeployError: there is no such data, it doesn't fit, or an option has no meaning for it.
    """
    kind, data = data_kind(options.data), _text_or_held(options.data)
    batch_size = options.batch_size or DEFAULT_BATCH
    _refuse_unused(options, kind)
    if kind == "callable":
        return UserBatches(
            data,
            inputs,
            batch_size=batch_size,
            limit=options.limit,
            shard=options.shard,
            labelled=options.labels != "none",
        )
    labels = read_labels(Path(options.labels)) if options.labels not in (None, "none") else None
    if not isinstance(data, str):
        held = held_arrays(data, inputs, labels, own_labels=options.labels != "none", limit=options.limit)
        return SampleBatches(held, batch_size, options.limit, options.shard)
    if kind == "random":
        distribution = parse_distribution(data)
        samples = RandomSamples(_with_sizes(inputs), distribution, options.limit or DEFAULT_SAMPLES)
        return SampleBatches(samples, batch_size, shard=options.shard)
    if kind == "arrays":
        arrays = open_arrays(Path(data), inputs, labels, own_labels=options.labels != "none")
        return SampleBatches(arrays, batch_size, options.limit, options.shard)
    return SampleBatches(_images(data, options, inputs, labels), batch_size, shard=options.shard)


def data_kind(data: object) -> str:
    """``random``, ``arrays``, ``images`` or ``callable``, of what `DataOptions` takes.

    Raises:
        SnDeployError: it is none of them.
    """
    data = _text_or_held(data)
    if not isinstance(data, str):
        return "arrays" if isinstance(data, Mapping) or _is_array(data) or _are_arrays(data) else "callable"
    if data == "random" or data.startswith("random:"):
        return "random"
    path = Path(data)
    if path.is_dir():
        return "images"
    if path.suffix.lower() in (".npy", ".npz"):
        if not path.is_file():
            raise SnDeployError("there is no such file", where=f"--data {data}")
        return "arrays"
    if ":" in data and not path.exists():
        return "callable"
    raise SnDeployError(
        "is no data that can be read" if path.exists() else "there is no such file or folder",
        where=f"--data {data}",
        expected="random[:seed=0,…], FILE.npy, FILE.npz, a folder of images or PACKAGE.MODULE:CALLABLE",
    )


def _are_arrays(held: object) -> bool:
    """A tuple of arrays; labels may be a list."""
    return (
        isinstance(held, tuple)
        and len(held) > 0
        and _is_array(held[0])
        and all(_is_array(part) or isinstance(part, list) for part in held)
    )


def _is_array(held: object) -> bool:
    """Also one of a library that isn't known here: a table, a file of arrays, a picture."""
    ways = ("detach", "__array__", "__array_interface__")
    return any(hasattr(held, way) for way in ways) and not isinstance(held, type)


def _text_or_held(data: object) -> object:
    return os.fspath(data) if isinstance(data, os.PathLike) else data


def _refuse_unused(options: DataOptions, kind: str) -> None:
    if kind != "images" and options.images != _AS_THE_INPUT:
        raise SnDeployError(
            "is for a folder of images", where="--resize, --crop, --mean, --std, --channel-order, --interpolation"
        )
    if kind in ("random", "callable") and options.labels not in (None, "none"):
        mend = "give the labels with the samples" if kind == "callable" else None
        raise SnDeployError("is for files and folders", where="--labels", mend=mend)


def _example(info: TensorInfo) -> str:
    """A shape as --input takes it, with the input's own number of axes where that is known."""
    open_sizes = {0: 1, 1: 3}
    sizes = info.shape or (1, 3, 224, 224)
    return "x".join(
        str(s if isinstance(s, int) else open_sizes.get(k, 224 if len(sizes) == 4 else 32)) for k, s in enumerate(sizes)
    )


def _with_sizes(inputs: Sequence[TensorInfo]) -> Sequence[TensorInfo]:
    for info in inputs:
        if info.shape is None or any(not isinstance(size, int) for size in info.shape[1:]):
            raise SnDeployError(
                f"input {info} has no fixed size to draw samples of",
                where="--data random",
                mend=f"give it: --input {info.name}={_example(info)}",
            )
    return inputs


def _images(folder: str, options: DataOptions, inputs: Sequence[TensorInfo], labels: Labels | None) -> ImageSamples:
    if len(inputs) != 1:
        raise SnDeployError(
            f"the model has {len(inputs)} inputs: {', '.join(info.name for info in inputs)}",
            where=f"--data {folder}",
            expected="one, for a folder of images",
            mend="give the samples with --data FILE.npz or --data PACKAGE.MODULE:CALLABLE",
        )
    transform = transform_for(inputs[0], options.images)
    chosen = None if options.labels == "none" else labels or "folders"
    return ImageSamples(Path(folder), inputs[0].name, transform, chosen, options.limit)

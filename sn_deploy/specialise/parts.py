"""The samples in two parts: one to choose on, and one that has no part in the choice."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from sn_deploy.check.backends.interface import Example, with_examples
from sn_deploy.check.backends.own_types import InOwnTypes
from sn_deploy.check.batch import Source, batch_size_for, check_whole_batches, fixed_batch
from sn_deploy.check.data.open import DataOptions, data_kind, open_data
from sn_deploy.check.shard import Shard
from sn_deploy.compare.extents import run_at_extents
from sn_deploy.compare.random_inputs import has_open_extents, inputs_for
from sn_deploy.errors import SnDeployError
from sn_deploy.runtime.tensors import Array, TensorInfo

# Random samples where only what is exact is done: rounding shows on any of them.
_RANDOM: Final = 16


@dataclass(frozen=True)
class Parts:
    """The samples.

    Attributes:
        choosing: every second batch; None where nothing has to be chosen.
        held_out: the others, or all.
        fixed_batch: the batch size that the file fixes, if it does.
    """

    choosing: InOwnTypes | None
    held_out: InOwnTypes
    fixed_batch: int | None


def open_parts(
    options: DataOptions | None,
    inputs: Sequence[TensorInfo],
    examples: Sequence[Example],
    *,
    split: bool,
    run: Callable[[Mapping[str, Array]], Mapping[str, Array]],
) -> Parts:
    """The samples for these inputs.

    Args:
        options: what the user says; None for some random samples.
        inputs: of the file.
        examples: sizes of inputs, for axes that the file leaves open.
        split: whether a part is needed for choosing.
        run: the file; it says which sizes of random samples do where nobody else does.

    Raises:
        SnDeployError: there is no such data, it doesn't fit, or choosing was to be done on none.
    """
    if options is None and split:
        raise SnDeployError(
            "what a budget allows is measured on samples as those in use, and none are given",
            where="--budget",
            mend="name them: --data imagenet/val --limit 512",
        )
    named: Sequence[TensorInfo] = with_examples(inputs, examples)
    fixed = fixed_batch(inputs)
    given = options or DataOptions(limit=_RANDOM)
    given = replace(given, batch_size=batch_size_for(given.batch_size, fixed))
    if data_kind(given.data) == "random":
        named = _with_extents(named, run)
    if not split:
        source = open_data(given, named)
        check_whole_batches(source, fixed)
        return Parts(None, InOwnTypes(source, inputs), fixed)
    _refuse_one_batch(open_data(given, named), fixed)
    choosing, held_out = (InOwnTypes(open_data(replace(given, shard=Shard(part, 2)), named), inputs) for part in (1, 2))
    return Parts(choosing, held_out, fixed)


def _with_extents(
    inputs: Sequence[TensorInfo], run: Callable[[Mapping[str, Array]], Mapping[str, Array]]
) -> Sequence[TensorInfo]:
    """The inputs with sizes that the file runs at, on axes that have none."""
    pairs = [(info, info) for info in inputs]
    if not has_open_extents(pairs, {}) or any(info.shape is None for info in inputs):
        return inputs
    try:
        ran = run_at_extents(lambda extent: inputs_for(inputs, {}, 0, extent), run, pairs, {})
    except SnDeployError as error:
        mend = "give a size that the network takes: --input [NAME=]1x3x512x512, or --data"
        raise error.but(mend=mend) from error
    return [
        replace(info, shape=(*(info.shape or ())[:1], *ran.inputs[info.name].shape[1:])) if info.shape else info
        for info in inputs
    ]


def _refuse_one_batch(source: Source, fixed: int | None) -> None:
    check_whole_batches(source, fixed)
    if source.batches == 1:
        raise SnDeployError(
            "is one batch, and half of the batches are for the proof",
            where="--data",
            mend="give more samples, or smaller batches with --batch-size",
        )

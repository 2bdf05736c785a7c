"""The samples that a result is proved on: what `sn-deploy check` takes for --data, for the inputs of one file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from sn_deploy.check.backends.interface import Example, with_examples
from sn_deploy.check.batch import Source, check_whole_batches
from sn_deploy.check.data.open import DEFAULT_BATCH, DataOptions, data_kind, data_options, open_data
from sn_deploy.errors import SnDeployError
from sn_deploy.runtime.tensors import TensorInfo

DEFAULT_RANDOM_SAMPLES: Final = 8


@dataclass(frozen=True)
class SampleOptions:
    """What the user says.

    Attributes:
        data: see `DataOptions`; its batch size is taken as the file's where that is fixed.
        examples: of inputs, for axes that the file leaves open.
        batch_size: as the user gave it; None for the file's own, or 8.
    """

    data: DataOptions = field(default_factory=DataOptions)
    examples: Sequence[Example] = ()
    batch_size: int | None = None


def open_samples(given: object, inputs: Sequence[TensorInfo]) -> Source:
    """The samples in batches.

    Args:
        given: a `SampleOptions`, a `DataOptions`, or what one takes as data.

    Raises:
        SnDeployError: there is no such data, it doesn't fit, or a batch size that the file doesn't take.
    """
    options = given if isinstance(given, SampleOptions) else SampleOptions(data_options(given))
    known = with_examples(tuple(inputs), options.examples) if options.examples else tuple(inputs)
    fixed = next((info.shape[0] for info in inputs if info.shape and isinstance(info.shape[0], int)), None)
    size = options.batch_size or options.data.batch_size or fixed or DEFAULT_BATCH
    if fixed is not None and size != fixed:
        raise SnDeployError(
            f"is {size}, and the file fixes the batch to {fixed}", where="--batch-size", mend="leave it out"
        )
    limit = options.data.limit
    if limit is None and data_kind(options.data.data) == "random":
        limit = fixed or DEFAULT_RANDOM_SAMPLES
    source = open_data(replace(options.data, batch_size=size, limit=limit), known)
    check_whole_batches(source, fixed)
    return source

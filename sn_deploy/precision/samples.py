"""The samples that a result is proved on: what `sn-deploy check` takes for --data, for the inputs of one file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from sn_deploy.check.backends.interface import Example, with_examples
from sn_deploy.check.backends.own_types import InOwnTypes
from sn_deploy.check.batch import Source, batch_size_for, check_whole_batches, fixed_batch
from sn_deploy.check.data.open import DataOptions, data_kind, data_options, open_data
from sn_deploy.runtime.tensors import TensorInfo

DEFAULT_RANDOM_SAMPLES: Final = 8


@dataclass(frozen=True)
class SampleOptions:
    """What the user says.

    Attributes:
        data: see `DataOptions`.
        examples: of inputs, for axes that the file leaves open.
    """

    data: DataOptions = field(default_factory=DataOptions)
    examples: Sequence[Example] = ()


def open_samples(given: object, inputs: Sequence[TensorInfo]) -> Source:
    """The samples in batches, in the types of the file's inputs.

    Args:
        given: a `SampleOptions`, a `DataOptions`, or what one takes as data.

    Raises:
        SnDeployError: there is no such data, it doesn't fit, or a batch size that the file doesn't take.
    """
    options = given if isinstance(given, SampleOptions) else SampleOptions(data_options(given))
    known, fixed = with_examples(inputs, options.examples), fixed_batch(inputs)
    size = batch_size_for(options.data.batch_size, fixed)
    limit = options.data.limit
    if limit is None and data_kind(options.data.data) == "random":
        limit = fixed or DEFAULT_RANDOM_SAMPLES
    source = open_data(replace(options.data, batch_size=size, limit=limit), known)
    check_whole_batches(source, fixed)
    return InOwnTypes(source, inputs)

"""What a program gives `calibrate` as data: a source of batches, or what becomes one, as `check` takes it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from typing import cast

import torch
from torch.utils.data import DataLoader, Dataset

from sn_deploy.capture.unwrap import unwrapped
from sn_deploy.check.backends.torch_model import required_inputs
from sn_deploy.check.batch import DEFAULT_BATCH, Batch, Source
from sn_deploy.check.data.open import DataOptions, data_kind, open_data
from sn_deploy.compare.fit import LABEL_NAMES

_NAMED = (str, os.PathLike, Mapping, tuple, list, DataLoader, Dataset)


def source_from(model: torch.nn.Module, given: object) -> Source:
    """The batches for ``model``; a `Source` as it is.

    Args:
        given: a `Source`, or batches that are one for all that is known; a `DataOptions`, or what one takes as data.
            Samples of a torch Dataset are stacked to batches; of a list or a function they have to be batches, as
            nothing says what shape a sample has.

    Raises:
        SnDeployError: there is no such data, or it doesn't fit.
    """
    if not isinstance(given, DataOptions):
        is_batches = isinstance(given, (tuple, list)) and all(isinstance(one, Batch) for one in given)
        if is_batches or not (isinstance(given, _NAMED) or callable(given) or data_kind(given) == "arrays"):
            return cast(Source, given)  # whoever iterates over it says what else it is
        given = DataOptions(given)
    if isinstance(given.data, Dataset):
        batch_size = given.batch_size or DEFAULT_BATCH
        given = replace(given, data=DataLoader(given.data, batch_size=batch_size))
    named = given.data if isinstance(given.data, Mapping) else ()
    return open_data(given, required_inputs(unwrapped(model), [str(name) for name in named if name not in LABEL_NAMES]))

"""Batches in the types that a file takes: random samples are float32, and a file's inputs may be half."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from sn_deploy.check.backends.adapted import cast_input
from sn_deploy.check.batch import Batch, Source
from sn_deploy.runtime.tensors import TensorInfo


@dataclass(frozen=True)
class InOwnTypes:
    """A `Source` whose values are of the file's own types.

    Attributes:
        source: the samples.
        inputs: of the file.
    """

    source: Source
    inputs: Sequence[TensorInfo]

    @property
    def label_classes(self) -> int | None:
        """How many classes the labels tell apart, where that is known."""
        return getattr(self.source, "label_classes", None)

    @property
    def batches(self) -> int | None:
        """See `Source`."""
        return self.source.batches

    def describe(self) -> dict[str, Any]:
        """See `Source`."""
        return self.source.describe()

    def __iter__(self) -> Iterator[Batch]:
        for batch in self.source:
            inputs = {info.name: cast_input(batch.inputs[info.name], info, "--data") for info in self.inputs}
            yield replace(batch, inputs=inputs)

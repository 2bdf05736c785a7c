"""Samples that can be asked for by their number, cut into batches."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Protocol

from sn_deploy.check.batch import Batch
from sn_deploy.check.shard import WHOLE, Shard
from sn_deploy.errors import SnDeployError
from sn_deploy.runtime.tensors import Array


class Samples(Protocol):
    """Data with a first and a last sample."""

    def __len__(self) -> int: ...

    def load(self, first: int, last: int) -> tuple[dict[str, Array], Array | None]:
        """Inputs and labels of the samples from ``first`` up to, not including, ``last``. Called by another thread."""
        ...

    def describe(self) -> dict[str, Any]:
        """What tells these samples from others."""
        ...


@dataclass(frozen=True)
class SampleBatches:
    """A `Source` from samples. While a batch is worked on, the next one is loaded.

    Attributes:
        samples: where they are.
        batch_size: samples in a batch; the last one has what is left.
        limit: how many samples to take from the start; None for all.
        shard: which of the batches.

    Raises:
        SnDeployError: there is no sample, or no batch for this shard.
    """

    samples: Samples
    batch_size: int
    limit: int | None = None
    shard: Shard = WHOLE

    def __post_init__(self) -> None:
        if not self._count:
            raise SnDeployError("there are no samples", where="--data")
        check_shard_has_batches(self.shard, self._batches)

    @property
    def _count(self) -> int:
        return len(self.samples) if self.limit is None else min(len(self.samples), self.limit)

    @property
    def _batches(self) -> int:
        return -(-self._count // self.batch_size)

    @property
    def _indices(self) -> range:
        return range(self.shard.number - 1, self._batches, self.shard.count)

    @property
    def batches(self) -> int | None:
        """How many batches iterating gives."""
        return len(self._indices)

    def __iter__(self) -> Iterator[Batch]:
        with ThreadPoolExecutor(1, thread_name_prefix="data") as pool:
            following: Future[Batch] | None = None
            for index in self._indices:
                ready = following or pool.submit(self._load, index)
                after = index + self.shard.count
                batch = ready.result()
                following = pool.submit(self._load, after) if after < self._batches else None
                yield batch

    def _load(self, index: int) -> Batch:
        first = index * self.batch_size
        inputs, labels = self.samples.load(first, min(first + self.batch_size, self._count))
        return Batch(index, first, inputs, labels)

    @property
    def label_classes(self) -> int | None:
        """How many classes the labels tell apart, where that is known."""
        return getattr(self.samples, "label_classes", None)

    def name_of(self, sample: int) -> str | None:
        """The file that a sample is, where it is one."""
        names = getattr(self.samples, "name_of", None)
        return None if names is None else str(names(sample))

    def describe(self) -> dict[str, Any]:
        """See `Source`."""
        return {**self.samples.describe(), "samples": self._count, "batch_size": self.batch_size}


def check_shard_has_batches(shard: Shard, batches: int) -> None:
    """Refuses a part that would be empty.

    Raises:
        SnDeployError: there are fewer batches than parts.
    """
    if batches < shard.count:
        raise SnDeployError(
            f"there {'is 1 batch' if batches == 1 else f'are {batches} batches'} for {shard.count} parts",
            where=f"--shard {shard}",
            mend="make smaller batches" if batches == 1 else f"make at most {batches} parts, or smaller batches",
        )

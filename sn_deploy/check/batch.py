"""What flows through a check: batches of samples in, batches of outputs out."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, Protocol

from sn_deploy.errors import SnDeployError
from sn_deploy.runtime.tensors import Array, TensorInfo

DEFAULT_BATCH: Final = 8


@dataclass(frozen=True)
class Batch:
    """Some samples, one after the other.

    Attributes:
        index: the place of the batch in the whole data, whatever part of it is run.
        first: the place of its first sample in the whole data.
        inputs: name -> array with the batch as its first axis, or without axes where all samples share the number.
        labels: (samples, …), or None where the data has none.
    """

    index: int
    first: int
    inputs: Mapping[str, Array]
    labels: Array | None = None

    @property
    def samples(self) -> int:
        """How many samples it has."""
        return samples_of(self.inputs)


def samples_of(inputs: Mapping[str, Array]) -> int:
    """How many samples arrays hold: the size of the first axis of one that has axes."""
    return next((len(array) for array in inputs.values() if array.ndim), 1)


class Source(Protocol):
    """Where batches come from. Iterated more than once, it gives the same batches, bit for bit."""

    def __iter__(self) -> Iterator[Batch]: ...

    @property
    def batches(self) -> int | None:
        """How many batches iterating gives; None where only iterating tells."""
        ...

    def describe(self) -> dict[str, Any]:
        """What a reader of the result has to know to get the same samples again; the same for every shard."""
        ...


def fixed_batch(inputs: Iterable[TensorInfo]) -> int | None:
    """The batch size that a file fixes, if one does.

    Raises:
        SnDeployError: its inputs fix several.
    """
    sizes = {info.name: info.shape[0] for info in inputs if info.shape and isinstance(info.shape[0], int)}
    if len(set(sizes.values())) > 1:
        raise SnDeployError(
            f"inputs have first axes of different sizes: {', '.join(f'{name} {n}' for name, n in sizes.items())}",
            expected="the samples of a batch as the first axis of each, or no axes",
            mend="make what is the same for every sample, such as a detector's anchors, a buffer of the model, and "
            "export that",
        )
    return next(iter(sizes.values()), None)


def batch_size_for(asked: int | None, fixed: int | None) -> int:
    """Samples in a batch, where ``asked`` is what the user says and ``fixed`` what a file does.

    Raises:
        SnDeployError: they contradict each other.
    """
    size = asked or fixed or DEFAULT_BATCH
    if fixed is not None and size != fixed:
        raise SnDeployError(
            f"is {size}, and a file fixes the batch to {fixed}",
            where="--batch-size",
            mend="export with --dynamic batch, or leave it out",
        )
    return size


def check_whole_batches(source: Source, fixed: int | None) -> None:
    """Refuses data of which the last batch is smaller than the file takes.

    Args:
        fixed: the batch size that a file fixes; None where none does.

    Raises:
        SnDeployError: with the number of samples that are whole batches.
    """
    samples = source.describe().get("samples")
    if fixed is not None and isinstance(samples, int) and samples % fixed:
        raise no_whole_batches(samples, fixed, "--data")


def no_whole_batches(samples: int, fixed: int, where: str) -> SnDeployError:
    """What is wrong with that many samples, for a file that fixes the batch."""
    whole = samples - samples % fixed
    return SnDeployError(
        f"{samples} samples are no whole batches of {fixed}, to which the file fixes them",
        where=where,
        mend=f"--limit {whole}" if whole else "give more samples",
    )

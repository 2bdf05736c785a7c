"""The user's own data, from ``--data PACKAGE.MODULE:CALLABLE``, or from an object in memory.

A callable is called without arguments, once for each pass over the data, and gives an iterable: a generator, a list,
a torch DataLoader or Dataset. (An object that can be iterated again and again works, too.) Its items are

- an array or tensor, for a model with one input;
- a dict from input name to array, with the labels, if any, under ``labels`` or ``label``;
- a tuple or list of arrays, one for each input in order, and perhaps the labels after them;
- a pair (dict, labels).

A dict in a dict is what one parameter of a model holds: ``{"batch": {"image": x}}`` is the input ``batch_image``.

An array with the rank of the model's input is a batch and is taken as it is; one with an axis less is a single sample,
and these are stacked to batches. Where the file fixes the batch, all are cut and joined to batches of that size. Every
pass must give the same items. Labels are numbers, or what `sn_deploy.check.data.sample_labels` takes.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from sn_deploy import user_code
from sn_deploy.check.batch import Batch, fixed_batch, no_whole_batches, samples_of
from sn_deploy.check.data.nested import flat, spread
from sn_deploy.check.data.sample_labels import labels_from, update_digest
from sn_deploy.check.data.samples import check_shard_has_batches
from sn_deploy.check.names import match_names
from sn_deploy.check.shard import WHOLE, Shard
from sn_deploy.compare.fit import LABEL_NAMES, as_array, check_fits
from sn_deploy.errors import SnDeployError
from sn_deploy.runtime.tensors import Array, TensorInfo


@dataclass(frozen=True)
class _Item:
    inputs: dict[str, Array]
    labels: Array | None

    @property
    def samples(self) -> int:
        return samples_of(self.inputs)

    def arrays(self) -> list[Array]:
        return [*self.inputs.values(), *([] if self.labels is None else [self.labels])]

    def part(self, first: int, last: int) -> _Item:
        """The samples from ``first`` up to, not including, ``last``."""
        if first == 0 and last >= self.samples:
            return self
        labels = None if self.labels is None else self.labels[first:last]
        return _Item({name: array[first:last] if array.ndim else array for name, array in self.inputs.items()}, labels)


class UserBatches:
    """A `Source` from the user's iterable.

    Args:
        data: ``PACKAGE.MODULE:CALLABLE``, or the object itself.
        inputs: of the model.
        batch_size: of the batches that single samples are stacked to.
        limit: how many samples to take from the start; None for all.
        shard: which of the batches.
        labelled: whether labels among the items count.
    """

    def __init__(
        self,
        data: object,
        inputs: Sequence[TensorInfo],
        *,
        batch_size: int,
        limit: int | None = None,
        shard: Shard = WHOLE,
        labelled: bool = True,
    ) -> None:
        self._text = data if isinstance(data, str) else user_code.name_of(data)
        self._where = f"--data {data}" if isinstance(data, str) else f"data, a {self._text}"
        self._inputs = {info.name: info for info in inputs}
        self._batch_size, self._limit, self._shard, self._labelled = batch_size, limit, shard, labelled
        self._fixed = fixed_batch(inputs)
        self._target = user_code.load_object(data, option="--data") if isinstance(data, str) else data
        self._digest: str | None = None
        self._samples = 0
        self._stacks = False

    @property
    def batches(self) -> int | None:
        """Not known before it was iterated."""
        return None

    def __iter__(self) -> Iterator[Batch]:
        digest, index, first = hashlib.sha256(), 0, 0
        for item in self._cut(self._limited(self._batches())):
            for array in item.arrays():
                update_digest(digest, array)
            if self._shard.takes(index):
                yield Batch(index, first, item.inputs, item.labels)
            index, first = index + 1, first + item.samples
        if not index:
            raise SnDeployError("gives no samples", where=self._where)
        check_shard_has_batches(self._shard, index)
        if self._digest not in (None, digest.hexdigest()):
            raise SnDeployError(
                "gives other samples in each pass", where=self._where, mend="seed it, and don't shuffle"
            )
        self._digest, self._samples = digest.hexdigest(), first

    def describe(self) -> dict[str, Any]:
        """See `Source`. After a whole pass it has the hash of all samples."""
        described = {"kind": "callable", "callable": self._text, "samples": self._samples, "sha256": self._digest}
        return {**described, "batch_size": self._batch_size} if self._stacks else described

    def _limited(self, items: Iterator[_Item]) -> Iterator[_Item]:
        left = self._limit
        for item in items:
            if left is None:
                yield item
                continue
            yield item.part(0, left)
            left -= min(left, item.samples)
            if not left:
                return

    def _cut(self, items: Iterator[_Item]) -> Iterator[_Item]:
        """As many samples in each as the file fixes, where it does."""
        if self._fixed is None:
            yield from items
            return
        waiting: list[_Item] = []
        taken = 0
        for item in items:
            waiting.append(item)
            taken += item.samples
            if (count := sum(one.samples for one in waiting)) < self._fixed:
                continue
            whole = _together(waiting, self._where)
            end = count - count % self._fixed
            yield from (whole.part(first, first + self._fixed) for first in range(0, end, self._fixed))
            waiting = [whole.part(end, count)] if end < count else []
        if waiting:
            raise no_whole_batches(taken, self._fixed, self._where)

    def _batches(self) -> Iterator[_Item]:
        """Batches as they are, and single samples stacked."""
        waiting: list[_Item] = []
        number = -1
        for number, raw in enumerate(self._items()):
            item, is_batch = self._item(raw, f"{self._where}, item {number}")
            if is_batch:
                yield from self._stacked(waiting, number)
                waiting = []
                yield item
                continue
            self._stacks = True
            waiting.append(item)
            if len(waiting) == self._batch_size:
                yield from self._stacked(waiting, number + 1)
                waiting = []
        yield from self._stacked(waiting, number + 1)

    def _stacked(self, items: Sequence[_Item], end: int) -> Iterator[_Item]:
        """The samples as one batch, none where there are none; ``end``: the number of the item behind the last."""
        if not items:
            return
        yield _together(items, f"{self._where}, items {end - len(items)} to {end - 1}")

    def _items(self) -> Iterator[Any]:
        target = self._target
        items = user_code.call(target, {}, option=self._where) if callable(target) else target
        if isinstance(target, Iterator):
            raise SnDeployError(
                "can be iterated only once", where=self._where, mend="give a function that makes the iterator"
            )
        if not isinstance(items, Iterable) and hasattr(items, "__getitem__") and hasattr(items, "__len__"):
            items = map(items.__getitem__, range(len(items)))  # a Dataset of torch
        if not isinstance(items, Iterable):
            mend = "give the Dataset a __len__" if hasattr(items, "__getitem__") else None
            raise SnDeployError(
                f"gives a {type(items).__name__}", where=self._where, expected="something to iterate over", mend=mend
            )
        with user_code.failures_told(self._where):
            yield from items

    def _item(self, raw: Any, where: str) -> tuple[_Item, bool]:
        """The item's inputs, by name, with a batch axis, and whether it had one."""
        given, given_labels = self._parts(raw, where)
        self._inputs = spread(self._inputs, given)
        names = match_names(list(self._inputs), list(given), where, ordered=not isinstance(_unpaired(raw), Mapping))
        arrays = {name: given[own] for name, own in names.items()}
        shapes = {name: info.shape for name, info in self._inputs.items()}
        scalars = {name for name, shape in shapes.items() if shape == ()}
        single = all(
            shape is not None and arrays[name].ndim == len(shape) - 1
            for name, shape in shapes.items()
            if name not in scalars
        )
        if single:
            arrays = {name: array if name in scalars else array[None] for name, array in arrays.items()}
        for name, array in arrays.items():
            check_fits(self._inputs[name], array, where)
        labels = None if given_labels is None else labels_from(given_labels, f"{where}, labels", single=single)
        item = _Item(arrays, labels)
        counted = [array for name, array in arrays.items() if name not in scalars]
        counts = sorted({len(array) if array.ndim else 0 for array in (*counted, *item.arrays()[len(arrays) :])})
        if len(counts) > 1 or 0 in counts:
            raise SnDeployError(
                f"inputs and labels have {counts} samples", where=where, expected="as many of each, at least one"
            )
        return item, not single

    def _refuse_others(self, values: Mapping[Any, Any], where: str) -> None:
        """Names and paths of files beside the inputs, as many a data set has them."""
        others = [str(name) for name, value in values.items() if name not in self._inputs and _is_text(value)]
        if others:
            raise SnDeployError(
                f"has {', '.join(others)}, which is text",
                where=where,
                expected=f"{', '.join(self._inputs)}, and perhaps labels",
                mend="give these alone: a function that goes through the data and yields them",
            )

    def _parts(self, raw: Any, where: str) -> tuple[dict[str, Array], Any]:
        """The inputs by name, and the labels as they are; None where they don't count."""
        labels: Any = None
        if isinstance(raw, (tuple, list)) and len(raw) == 2 and isinstance(raw[0], Mapping):
            raw, labels = raw
        if isinstance(raw, Mapping):
            values = dict(raw)
            for name in LABEL_NAMES:
                if labels is None and name in values and name not in self._inputs:
                    labels = values.pop(name)
            values = flat(values)
        elif isinstance(raw, (tuple, list)):
            values = dict(zip(self._inputs, raw, strict=False))
            if len(raw) == len(self._inputs) + 1:
                labels = raw[-1]
            elif len(raw) != len(self._inputs):
                raise SnDeployError(
                    f"has {len(raw)} parts",
                    where=where,
                    expected=f"{', '.join(self._inputs)}, and perhaps the labels",
                    mend="give these alone: a function that goes through the data and yields them",
                )
        else:
            values = {next(iter(self._inputs)): raw} if len(self._inputs) == 1 else {"item": raw}
        self._refuse_others(values, where)
        arrays = {str(name): as_array(value, f"{where}, {name}") for name, value in values.items()}
        return arrays, labels if self._labelled else None


def _unpaired(raw: Any) -> Any:
    return raw[0] if isinstance(raw, (tuple, list)) and raw and isinstance(raw[0], Mapping) else raw


def _is_text(value: Any) -> bool:
    parts = value if isinstance(value, (list, tuple)) and value else [value]
    return all(isinstance(part, (str, bytes, os.PathLike)) for part in parts)


def _together(items: Sequence[_Item], where: str) -> _Item:
    """The samples of all items as those of one."""
    if len(items) == 1:
        return items[0]
    labels = [item.labels for item in items if item.labels is not None]
    if 0 < len(labels) < len(items):
        raise SnDeployError("some have labels and some have none", where=where)
    return _Item(
        {name: _joined([item.inputs[name] for item in items], where, f"input {name}") for name in items[0].inputs},
        _joined(labels, where, "labels") if labels else None,
    )


def _joined(arrays: Sequence[Array], where: str, what: str) -> Array:
    if not arrays[0].ndim:
        if any(array != arrays[0] for array in arrays):
            raise SnDeployError(
                f"{what} has no axis for samples, and isn't the same for all of a batch",
                where=where,
                mend="give batches, each with its own, or --batch-size 1",
            )
        return arrays[0]
    shapes = dict.fromkeys(array.shape[1:] for array in arrays)
    if len(shapes) > 1:
        raise SnDeployError(
            f"{what}: samples have the shapes {' and '.join(map(str, list(shapes)[:3]))}, which make no batch",
            where=where,
            mend="give batches, each of one size, or --batch-size 1",
        )
    return np.concatenate(arrays)

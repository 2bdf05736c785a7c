"""Samples in arrays, one for each input and perhaps one of labels: in a .npy or .npz file of NumPy's, or in memory."""

from __future__ import annotations

import contextlib
import hashlib
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np

from sn_deploy.archive import DAMAGED_ARRAYS, check_unpacked_size
from sn_deploy.check.batch import samples_of
from sn_deploy.check.data.labels import Labels, description_of
from sn_deploy.check.data.nested import flat, spread
from sn_deploy.check.names import match_names
from sn_deploy.compare.fit import LABEL_NAMES, as_array, check_fits, fits
from sn_deploy.errors import SnDeployError, first_line
from sn_deploy.hashing import sha256_of_file
from sn_deploy.runtime.tensors import Array, TensorInfo

_EXPECTED: Final = "a file that numpy.save or numpy.savez wrote"


class ArraySamples:
    """The samples of arrays, whose first axis counts them.

    Args:
        inputs: name -> array; labels: None where there are none.
        description: what `describe` gives.
    """

    def __init__(self, inputs: Mapping[str, Array], labels: Array | None, description: dict[str, Any]) -> None:
        self._inputs, self._labels, self._description = dict(inputs), labels, description

    def __len__(self) -> int:
        return samples_of(self._inputs)

    def load(self, first: int, last: int) -> tuple[dict[str, Array], Array | None]:
        """See `Samples`."""
        inputs = {
            name: np.ascontiguousarray(array[first:last]) if array.ndim else array
            for name, array in self._inputs.items()
        }
        return inputs, None if self._labels is None else np.asarray(self._labels[first:last])

    def describe(self) -> dict[str, Any]:
        """See `Samples`."""
        return self._description


def open_arrays(
    path: Path, inputs: Sequence[TensorInfo], labels: Labels | None, *, own_labels: bool = True
) -> ArraySamples:
    """The samples of a .npy or .npz file.

    Args:
        inputs: of the model.
        labels: from another file.
        own_labels: without them, those in the .npz itself count, under ``labels`` or ``label``.

    Raises:
        SnDeployError: the file can't be read, or its arrays don't fit the inputs or each other.
    """
    matched, numbers = _matched(_read(path), inputs, labels, own_labels, f"--data {path}")
    description = {"kind": "arrays", "file": str(path), "sha256": sha256_of_file(path)}
    return ArraySamples(matched, numbers, description | description_of(labels, numbers, "file"))


def held_arrays(
    data: object,
    inputs: Sequence[TensorInfo],
    labels: Labels | None,
    *,
    own_labels: bool = True,
    limit: int | None = None,
) -> ArraySamples:
    """The samples of arrays or tensors in memory.

    Args:
        data: name -> array, as a .npz file has them, or a dict of these where a parameter holds one; the
            array of the only input; or a tuple of arrays, one for each input in order, and perhaps the labels behind
            them.
        inputs, labels, own_labels: as of `open_arrays`.
        limit: how many samples will be taken; None for all.

    Raises:
        SnDeployError: they are no numbers, or don't fit the inputs or each other.
    """
    if isinstance(data, Mapping):
        named = flat(data)
    elif isinstance(data, tuple):
        named = _named_in_order(data, inputs)
    else:
        named = {inputs[0].name if len(inputs) == 1 else "data": data}
    arrays = {str(name): as_array(value, f"data, {name}") for name, value in named.items()}
    matched, numbers = _matched(dict(arrays), inputs, labels, own_labels, "data")
    digest = hashlib.sha256()
    for name, array in sorted(arrays.items()):
        taken = array[:limit] if array.ndim else array  # the rest may be a mapped file of any size
        digest.update(f"{name} {taken.dtype} {taken.shape}\n".encode())
        digest.update(np.ascontiguousarray(taken).reshape(-1).view(np.uint8).data)
    description = {"kind": "arrays", "sha256": digest.hexdigest()}
    return ArraySamples(matched, numbers, description | description_of(labels, numbers, "data"))


def _named_in_order(data: tuple[object, ...], inputs: Sequence[TensorInfo]) -> dict[str, object]:
    names = [info.name for info in inputs]
    if not len(names) <= len(data) <= len(names) + 1:
        raise SnDeployError(
            f"is a tuple of {len(data)} arrays", where="data", expected=f"{', '.join(names)}, and perhaps the labels"
        )
    if len(data) > len(names) and "labels" in names:
        raise SnDeployError("is a tuple, and 'labels' is an input", where="data", mend="give a dict by input name")
    return dict(zip([*names, "labels"], data, strict=False))


def _matched(
    arrays: dict[str, Array], inputs: Sequence[TensorInfo], labels: Labels | None, own_labels: bool, where: str
) -> tuple[dict[str, Array], Array | None]:
    """Input -> its array, and the labels, all checked. Takes the labels out of ``arrays``."""
    by_name = spread({info.name: info for info in inputs}, arrays)
    inside = [arrays.pop(name) for name in LABEL_NAMES if name in arrays and name not in by_name]
    names = match_names(
        list(by_name),
        list(arrays),
        where,
        fits=lambda name, own: fits(by_name[name], arrays[own]),
        ordered=all(name.startswith("arr_") for name in arrays),  # saved without names, so in order
    )
    matched = {name: arrays[own] for name, own in names.items()}
    for name, array in matched.items():
        check_fits(by_name[name], array, where)
    counted = {name: array for name, array in matched.items() if by_name[name].shape != ()}
    _check_counts(counted, where)
    numbers = inside[0] if inside and own_labels else None
    if labels is not None:
        numbers = labels.for_count(samples_of(counted))
    _check_counts(counted if numbers is None else {**counted, "labels": numbers}, where)
    return matched, numbers


def names_in(path: Path) -> list[str]:
    """Of the arrays in a .npz file; none of anything else, or of one that `open_arrays` refuses."""
    try:
        with zipfile.ZipFile(path) as archive:
            return [name.removesuffix(".npy") for name in archive.namelist()]
    except (OSError, zipfile.BadZipFile):
        return []


def _check_counts(arrays: Mapping[str, Array], where: str) -> None:
    counts = {name: len(array) if array.ndim else 0 for name, array in arrays.items()}
    if len(set(counts.values())) > 1:
        found = ", ".join(f"{name} {count}" for name, count in counts.items())
        raise SnDeployError(f"the numbers of samples differ: {found}", where=where)


def _read(path: Path) -> dict[str, Array]:
    mapped = path.suffix.lower() == ".npy"
    try:
        if not mapped and zipfile.is_zipfile(path):
            check_unpacked_size(path, where=f"--data {path}")
        # Mapped, so that a file larger than the memory is read as it is needed. A .npz can't be.
        loaded = np.load(path, allow_pickle=False, mmap_mode="r" if mapped else None)
        if isinstance(loaded, np.ndarray):
            return {path.stem: loaded}
        with contextlib.closing(loaded):
            arrays = {name: loaded[name] for name in loaded.files}
    except DAMAGED_ARRAYS as error:
        reason = getattr(error, "strerror", None) or first_line(error)
        raise SnDeployError(f"can't be read: {reason}", where=f"--data {path}", expected=_EXPECTED) from error
    for name, array in arrays.items():
        if not isinstance(array, np.ndarray):  # of an entry that isn't one NumPy gives the bytes
            raise SnDeployError(f"{name!r} in it is no array", where=f"--data {path}", expected=_EXPECTED)
    return arrays

"""Labels from a file."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from sn_deploy.archive import DAMAGED_ARRAYS
from sn_deploy.errors import SnDeployError, first_line
from sn_deploy.runtime.tensors import Array

_EXPECTED: Final = "a .npy file of integers, or lines LABEL or NAME LABEL"

# Names may have spaces and commas in them: the label is what stands last. An int64 holds so many digits.
_LABEL: Final = re.compile(r"(?:(?<=[\s,])|^)-?\d{1,18}$")


@dataclass(frozen=True)
class Labels:
    """What a file of labels says.

    Attributes:
        path: the file.
        in_order: labels of the samples in their order; None where it gives them by name.
        by_name: name of a sample -> label.
    """

    path: Path
    in_order: Array | None
    by_name: dict[str, int]

    def for_names(self, names: Sequence[str]) -> Array:
        """The labels of these samples, (samples,).

        Args:
            names: paths in their folder. A label's name may be the path or the last part of it.

        Raises:
            SnDeployError: too few or too many labels, or a sample without one.
        """
        if self.in_order is not None:
            return self.for_count(len(names))
        missing = [name for name in names if name not in self.by_name and Path(name).name not in self.by_name]
        if missing:
            raise SnDeployError(
                f"{len(missing)} of {len(names)} samples have no label, {missing[0]} among them",
                where=f"--labels {self.path}",
                expected="a line NAME LABEL for each",
            )
        return np.array([self.by_name.get(name, self.by_name.get(Path(name).name, -1)) for name in names])

    def for_count(self, count: int) -> Array:
        """The labels of ``count`` samples in order.

        Raises:
            SnDeployError: another number of labels, or labels by name.
        """
        if self.in_order is None:
            raise SnDeployError("gives labels by name, and these samples have none", where=f"--labels {self.path}")
        if len(self.in_order) != count:
            raise SnDeployError(f"has {len(self.in_order)} labels for {count} samples", where=f"--labels {self.path}")
        return self.in_order


def description_of(labels: Labels | None, numbers: Array | None, otherwise: str) -> dict[str, str]:
    """Where labels are from, as plain data; of a file's what they are, too: it may be changed, or lie elsewhere.

    Args:
        numbers: the labels themselves; None where there are none.
        otherwise: where they are from if not from a file of their own.
    """
    if numbers is None:
        return {"labels": "none"}
    if labels is None:
        return {"labels": otherwise}
    content = f"{numbers.shape}".encode() + np.ascontiguousarray(numbers, np.int64).tobytes()
    return {"labels": str(labels.path), "labels_sha256": hashlib.sha256(content).hexdigest()}


def read_labels(path: Path) -> Labels:
    """The labels in a file.

    Raises:
        SnDeployError: it can't be read, or there is something else in it.
    """
    where = f"--labels {path}"
    try:
        if path.suffix.lower() == ".npy":
            array = np.load(path, allow_pickle=False)
        else:
            return _parse(path, path.read_text(encoding="utf-8-sig"))
    except DAMAGED_ARRAYS as error:
        reason = getattr(error, "strerror", None) or first_line(error)
        raise SnDeployError(f"can't be read: {reason}", where=where, expected=_EXPECTED) from error
    if not isinstance(array, np.ndarray) or not np.issubdtype(array.dtype, np.integer) or not array.ndim:
        raise SnDeployError("is no array of integers", where=where, expected=_EXPECTED)
    return Labels(path, array, {})


def _name(before: str) -> str | None:
    """What stands before a label, without the spaces and commas between; None where the label stands alone."""
    end = len(before)
    while end and (before[end - 1] == "," or before[end - 1].isspace()):
        end -= 1
    return before[:end] if before else None


def _parse(path: Path, text: str) -> Labels:
    in_order: list[int] = []
    by_name: dict[str, int] = {}
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        match = _LABEL.search(line.strip())
        if match is None:
            raise SnDeployError(f"line {number} is {line.strip()[:60]!r}", where=f"--labels {path}", expected=_EXPECTED)
        label, name = int(match[0]), _name(match.string[: match.start()])
        if name is None:
            in_order.append(label)
        elif by_name.setdefault(name, label) != label:
            raise SnDeployError(
                f"line {number} gives {name} the label {label}, another line {by_name[name]}", where=f"--labels {path}"
            )
    if bool(in_order) == bool(by_name):
        what = "has lines with a name and lines without" if by_name else "is empty"
        raise SnDeployError(what, where=f"--labels {path}", expected=_EXPECTED)
    return Labels(path, None if by_name else np.array(in_order), by_name)

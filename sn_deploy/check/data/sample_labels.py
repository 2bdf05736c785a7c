"""The labels of the user's samples: numbers, or whatever a metric of the user's own understands.

A detector's are boxes, as many as an image has: no array holds those of a batch. They become an array of objects, one
for each sample, with NumPy's arrays in the place of tensors. No figure but the user's own looks at such labels.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from numbers import Number
from typing import Any, Final

import numpy as np

from sn_deploy.compare.fit import as_array
from sn_deploy.errors import SnDeployError
from sn_deploy.runtime.tensors import Array

_LEAVES: Final = (Number, np.generic, str, bytes, os.PathLike, type(None))


def labels_from(value: Any, where: str, *, single: bool) -> Array:
    """(samples, …), or objects (samples,).

    Args:
        value: of a batch, or of one sample where ``single``.
        where: which, for the error.

    Raises:
        SnDeployError: they are text, or no list of the samples', or there is something in them that has no value.
    """
    try:
        array = as_array(value, where)
    except SnDeployError:
        rows = [value] if single else value
        if not isinstance(rows, (list, tuple)) or all(isinstance(row, (str, bytes)) for row in rows):
            raise
        objects = np.empty(len(rows), object)
        for place, row in enumerate(rows):
            objects[place] = _plain(row, where)
        return objects
    return array[None] if single else array


def _plain(value: Any, where: str) -> Any:
    if isinstance(value, Mapping):
        return {key: _plain(one, where) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(one, where) for one in value]
    return value if isinstance(value, _LEAVES) else as_array(value, where)


def update_digest(digest: Any, value: Any) -> None:
    """Tells ``digest`` what an array, or what an array of objects holds, is."""
    if isinstance(value, np.ndarray) and value.dtype != object:
        digest.update(f"{value.dtype} {value.shape}".encode())
        digest.update(np.ascontiguousarray(value).view(np.uint8).data)
    elif isinstance(value, Mapping):
        digest.update(f"dict {len(value)}".encode())
        for key, one in value.items():
            digest.update(repr(key).encode())
            update_digest(digest, one)
    elif isinstance(value, (list, np.ndarray)):
        digest.update(f"list {len(value)}".encode())
        for one in value:
            update_digest(digest, one)
    else:
        digest.update(f"{type(value).__name__} {value!r}".encode())

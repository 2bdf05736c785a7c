"""Data for models one parameter of which holds several inputs, in a dict: each under the way to it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from sn_deploy.runtime.tensors import TensorInfo


def spread(inputs: Mapping[str, TensorInfo], given: Iterable[str]) -> dict[str, TensorInfo]:
    """The inputs, with the parts of what a parameter holds in its place where nothing more is known of it."""
    names = list(given)
    found: dict[str, TensorInfo] = {}
    for name, info in inputs.items():
        parts = [one for one in names if one.startswith(f"{name}_")] if name not in names else []
        if info.shape is None and parts:
            found.update((one, TensorInfo(one, None, info.dtype)) for one in parts)
        else:
            found[name] = info
    return found


def flat(values: Mapping[Any, Any]) -> dict[str, Any]:
    """A dict without dicts in it, each value under the way to it, as `export` names inputs."""
    found: dict[str, Any] = {}
    for name, value in values.items():
        if not isinstance(value, Mapping):
            found[str(name)] = value
            continue
        inner = {key: dict(enumerate(one)) if _are_tensors(one) else one for key, one in value.items()}
        found.update(flat({f"{name}_{key}": one for key, one in inner.items()}))
    return found


def _are_tensors(value: Any) -> bool:
    """Whether it is a list of tensors or arrays, such as the levels of a pyramid."""
    return isinstance(value, (list, tuple)) and bool(value) and all(getattr(one, "shape", ()) for one in value)

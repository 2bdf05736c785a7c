"""What users take for example inputs in Python, and what may become of it."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch.utils import _pytree as pytree

from sn_deploy.errors import SnDeployError
from sn_deploy.runtime.torch import is_plain

_FORM = "a tensor, a tuple of arguments or a dict"


def positional_and_named(given: object) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Example inputs as (args, kwargs).

    Args:
        given: a tensor; a tuple or list of arguments; or a mapping from parameter name to value, in which ``""`` may
            be a tuple of positional arguments.

    Raises:
        SnDeployError: it is something else; or there are arguments and no tensor among them, or NumPy arrays.
    """
    if isinstance(given, torch.Tensor):
        return (given,), {}
    if isinstance(given, (str, bytes, os.PathLike, np.ndarray)) or not isinstance(given, (Mapping, Sequence)):
        raise SnDeployError(f"example inputs are a {type(given).__name__}", expected=_FORM, mend=_mend([given]))
    if isinstance(given, Mapping):
        kwargs = dict(given)
        positional = kwargs.pop("", ())
        if not isinstance(positional, (tuple, list)):
            raise SnDeployError(
                f"example inputs have a {type(positional).__name__} under ''", expected="a tuple of arguments"
            )
        args = tuple(positional)
    else:
        args, kwargs = tuple(given), {}
    leaves = pytree.tree_leaves((args, kwargs))
    arrays = any(isinstance(leaf, np.ndarray) for leaf in leaves)
    if arrays or (leaves and not any(isinstance(leaf, torch.Tensor) for leaf in leaves)):
        what = "there are NumPy arrays" if arrays else "there is no tensor"
        raise SnDeployError(f"{what} among the example inputs", expected=_FORM, mend=_mend(leaves))
    return args, kwargs


def check_plain(name: str, tensor: torch.Tensor) -> None:
    """Refuses tensors that hold no real number for each element.

    Raises:
        SnDeployError: it is sparse, quantized, complex, or without data.
    """
    if not is_plain(tensor):
        kind = "on the meta device, without data" if tensor.is_meta else f"{tensor.layout} of {tensor.dtype}"
        raise SnDeployError(
            f"is {kind}", where=f"example input {name!r}", expected="a dense tensor of real numbers, with its data"
        )


def _mend(leaves: Sequence[object]) -> str | None:
    if any(isinstance(leaf, np.ndarray) for leaf in leaves):
        return "make a tensor of each array: torch.from_numpy(array)"
    if leaves and all(isinstance(leaf, int) and not isinstance(leaf, bool) for leaf in leaves):
        few = ", ".join(map(str, leaves[:6]))
        return f"for a shape give a tensor of it: torch.zeros({few}{', …' if len(leaves) > 6 else ''})"
    held = next((type(leaf) for leaf in leaves if dataclasses.is_dataclass(leaf)), None)
    if held is not None:
        return f"register the class, torch.export.register_dataclass({held.__name__}), and give a tuple of arguments"
    return "give tensors, such as torch.zeros(1, 3, 224, 224)"

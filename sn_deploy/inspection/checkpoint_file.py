"""The SN layers of a checkpoint: what its names and shapes tell, without the model."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from sn_deploy.errors import SnDeployError
from sn_deploy.input_file import source_path
from sn_deploy.inspection.layer import LayerWeights, kind_from_rank, spread
from sn_deploy.runtime.torch import is_plain, require_torch

if TYPE_CHECKING:
    import torch  # noqa: TID251


def layers_from_checkpoint(path: str | os.PathLike[str], key: str | None = None) -> list[LayerWeights]:
    """The layers that have a ``mean_weight`` and a ``var_weight``, in the order of the file.

    That is the order in which the model builds them. A safetensors file keeps no order: there the names are sorted,
    numbers by value.

    Args:
        path: a checkpoint, see `sn_deploy.checkpoint.read_checkpoint`.
        key: dotted path of the state dict in it.

    Raises:
        SnDeployError: no checkpoint, no SN layer in it, or SN weights that can't be what they are called.
    """
    require_torch("sn-deploy inspect of a checkpoint")
    from sn_deploy.checkpoint import read_checkpoint

    path = source_path(path, "the checkpoint")
    tensors = read_checkpoint(path, key=key, accept=lambda candidate: bool(_prefixes(candidate)))
    prefixes = _prefixes(tensors)
    if not prefixes:
        raise SnDeployError(
            f"has no SN layer among its {len(tensors)} tensors",
            where=str(path),
            expected="names that end in mean_weight and var_weight",
            mend="check that it is a checkpoint of a model with Switchable Normalization",
        )
    if path.suffix.lower() == ".safetensors":
        prefixes.sort(key=natural_key)
    return [_layer(tensors, prefix, path) for prefix in prefixes]


def natural_key(name: str) -> list[tuple[int, int, str]]:
    """Sorts ``layer2`` before ``layer10``."""
    # Every second part is a number; by its length and digits, since Python reads none of more than 4,300.
    parts = re.split(r"([0-9]+)", name)
    numbers = [part.lstrip("0") if index % 2 else None for index, part in enumerate(parts)]
    return [
        (1, 0, part) if number is None else (0, len(number), number)
        for part, number in zip(parts, numbers, strict=True)
    ]


def _prefixes(tensors: Mapping[str, object]) -> list[str]:
    """What stands before ``mean_weight``, for each name that has a ``var_weight`` beside it."""
    found = [name[: -len("mean_weight")] for name in tensors if name.rpartition(".")[2] == "mean_weight"]
    return [prefix for prefix in found if f"{prefix}var_weight" in tensors]


def _layer(tensors: Mapping[str, torch.Tensor], prefix: str, path: Path) -> LayerWeights:
    name = prefix.rstrip(".") or "(top level)"
    rank, channels = None, None
    for parameter in ("weight", "running_mean", "bias"):
        tensor = tensors.get(prefix + parameter)
        if tensor is not None:
            rank = tensor.ndim if parameter == "weight" else rank
            channels = channels or tensor.numel()
    has_bn_state = f"{prefix}running_mean" in tensors
    if tensors[f"{prefix}mean_weight"].numel() == 2 and has_bn_state:
        rank = 2  # IN is what is missing, and only SN1d has none
    mean, var = (_weights(tensors, prefix, statistic, f"{path}, {name}") for statistic in ("mean", "var"))
    # A flat (C,) parameter fits any kind.
    gamma, *population = (
        spread(_numbers(tensors, prefix + key, path)) if prefix + key in tensors else None
        for key in ("weight", "running_mean", "running_var")
    )
    return LayerWeights(name, kind_from_rank(rank), channels, None, mean, var, None, gamma, *population)


def _numbers(tensors: Mapping[str, torch.Tensor], name: str, where: object) -> npt.NDArray[np.float64]:
    """A tensor's values.

    Raises:
        SnDeployError: it is sparse, quantized or complex: no parameter of an SN layer is.
    """
    tensor = tensors[name]
    if not is_plain(tensor):
        kind = f"{tensor.dtype}, {tensor.layout}".replace("torch.", "")
        raise SnDeployError(f"{name} is {kind}", where=str(where), expected="plain numbers")
    return np.asarray(tensor.detach().double().numpy(), np.float64)


def _weights(
    tensors: Mapping[str, torch.Tensor], prefix: str, statistic: str, where: str
) -> tuple[float, float, float]:
    raw = _numbers(tensors, f"{prefix}{statistic}_weight", where).reshape(-1)
    if raw.size not in (2, 3):
        raise SnDeployError(f"{statistic}_weight has {raw.size} values", where=where, expected="2 or 3")
    if not np.isfinite(raw).all():
        raise SnDeployError(f"{statistic}_weight is {raw.tolist()}", where=where, expected="finite numbers")
    fixed = tensors.get(f"{prefix}{statistic}_fixed")
    if fixed is None:
        weights = np.exp(raw - raw.max())
        weights /= weights.sum()
    elif _numbers(tensors, f"{prefix}{statistic}_fixed", where).reshape(-1)[:1].tolist() == [1]:
        weights = raw  # Sparse SN (Shao et al., CVPR 2019) stores the choice itself once it is made.
    else:
        raise SnDeployError(
            f"is a Sparse SN layer that hasn't chosen yet ({statistic}_fixed is 0)",
            where=where,
            expected="a layer trained to the end",
            mend="export the model, and inspect the ONNX file",
        )
    if raw.size == 3:
        w_in, w_ln, w_bn = weights.tolist()
    elif f"{prefix}running_mean" in tensors:
        w_in, (w_ln, w_bn) = 0.0, weights.tolist()
    else:
        (w_in, w_ln), w_bn = weights.tolist(), 0.0
    return w_in, w_ln, w_bn

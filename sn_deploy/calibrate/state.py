"""Statistics in and out of a state dict."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence

import numpy as np
import torch

from sn_deploy.calibrate.movement import Moments
from sn_deploy.calibrate.one_pass import LayerStatistics
from sn_deploy.calibrate.tally import Identity
from sn_deploy.errors import SnDeployError


def fingerprint(tensors: Mapping[str, torch.Tensor]) -> str:
    """A hash of names, types, shapes and values, whatever the order and the file format."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def statistics_of(tensors: Mapping[str, torch.Tensor], identity: Identity) -> Moments | None:
    """The statistics of a layer in a state dict, in float64; None where it has none."""
    mean, var = (
        next((tensors[key] for key in keys if key in tensors), None) for keys in (identity.mean_keys, identity.var_keys)
    )
    if mean is None or var is None:
        return None
    values = [np.array(tensor.detach().cpu().double().numpy().ravel()) for tensor in (mean, var)]
    return values[0], values[1]


def with_statistics(tensors: Mapping[str, torch.Tensor], layers: Sequence[LayerStatistics]) -> dict[str, torch.Tensor]:
    """A state dict with new statistics in the place of the old ones, in their shape and type; the rest is the same.

    Half precision becomes float32. Statistics that the state dict lacks are added. Nothing is changed in place.

    Args:
        tensors: the model's ``state_dict()``, or one of its checkpoint with the same names.
        layers: the ``layers`` of a `Calibration`.

    Raises:
        SnDeployError: the state dict's are of another size.
    """
    if hasattr(tensors, "state_dict"):
        raise SnDeployError(
            f"is a {type(tensors).__name__}", where="tensors", expected="a state dict", mend="give its state_dict()"
        )
    if hasattr(layers, "layers"):
        raise SnDeployError(
            f"is a {type(layers).__name__}", where="layers", expected="its layers", mend="give calibration.layers"
        )
    result = dict(tensors)
    for layer in layers:
        for keys, value in ((layer.identity.mean_keys, layer.mean), (layer.identity.var_keys, layer.var)):
            for key in [key for key in keys if key in result] or keys:
                result[key] = _like(result.get(key), torch.from_numpy(value), layer.identity, key)
    return result


def changed_tensors(tensors: Mapping[str, torch.Tensor], layers: Sequence[LayerStatistics]) -> dict[str, torch.Tensor]:
    """What `with_statistics` changes of a state dict, alone."""
    return {name: value for name, value in with_statistics(tensors, layers).items() if tensors.get(name) is not value}


def _like(old: torch.Tensor | None, value: torch.Tensor, identity: Identity, key: str) -> torch.Tensor:
    if old is None:
        return value.reshape(identity.shape).float()
    if old.numel() != value.numel():
        raise SnDeployError(
            f"{key} has {old.numel()} values, its layer {value.numel()} channels", where=f"layer {identity.layer!r}"
        )
    return value.reshape(old.shape).to(torch.promote_types(old.dtype, torch.float32))

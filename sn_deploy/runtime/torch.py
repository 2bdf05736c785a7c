"""PyTorch as a runtime: the reference that every other backend is compared with."""

from __future__ import annotations

import importlib.util
from typing import TYPE_CHECKING, Any

import numpy as np

from sn_deploy.errors import SnDeployError

if TYPE_CHECKING:
    import torch


def require_torch(purpose: str) -> None:
    """Says how to install PyTorch, if it is missing.

    Raises:
        SnDeployError: torch isn't installed.
    """
    if importlib.util.find_spec("torch") is None:
        raise SnDeployError("PyTorch isn't installed", where=purpose, mend="pip install 'sn-deploy[torch]'")


def tensor_from_array(array: np.ndarray[Any, np.dtype[Any]]) -> torch.Tensor:
    """The array as a torch tensor; bfloat16 (ml_dtypes) too, which torch.from_numpy refuses."""
    import ml_dtypes
    import torch

    if array.dtype == ml_dtypes.bfloat16:
        return torch.from_numpy(array.view(np.int16).copy()).view(torch.bfloat16)
    return torch.from_numpy(np.ascontiguousarray(array))


def array_from_tensor(tensor: torch.Tensor) -> np.ndarray[Any, np.dtype[Any]]:
    """The tensor as an array on the host; bfloat16 as ml_dtypes.bfloat16."""
    import ml_dtypes
    import torch

    tensor = tensor.detach().cpu().contiguous()
    if tensor.dtype == torch.bfloat16:
        return tensor.view(torch.int16).numpy().view(ml_dtypes.bfloat16)
    return np.asarray(tensor.numpy())

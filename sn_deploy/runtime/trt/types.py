"""TensorRT's data types as NumPy's and torch's."""

from __future__ import annotations

from typing import Any, Final

import ml_dtypes
import numpy as np

from sn_deploy.errors import SnDeployError

# Name in trt.DataType -> NumPy's dtype, whose name is torch's too. Names: the numbers differ between 10 and 11.
_DTYPES: Final[dict[str, np.dtype[Any]]] = {
    "FLOAT": np.dtype(np.float32),
    "HALF": np.dtype(np.float16),
    "BF16": np.dtype(ml_dtypes.bfloat16),
    "INT8": np.dtype(np.int8),
    "UINT8": np.dtype(np.uint8),
    "INT32": np.dtype(np.int32),
    "INT64": np.dtype(np.int64),
    "BOOL": np.dtype(np.bool_),
}


def dtype_from_tensorrt(data_type: Any, name: str, where: str) -> np.dtype[Any]:
    """The dtype of an input or output.

    Raises:
        SnDeployError: arrays can't hold it.
    """
    dtype = _DTYPES.get(data_type.name)
    if dtype is None:
        raise SnDeployError(f"{name} is a tensor of {data_type.name}", where=where, expected=", ".join(_DTYPES))
    return dtype


def torch_dtype(dtype: np.dtype[Any]) -> Any:
    """torch's dtype of that name."""
    import torch

    return torch.bool if dtype == np.bool_ else getattr(torch, dtype.name)

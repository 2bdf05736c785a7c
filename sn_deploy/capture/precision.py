"""Half precision the way PyTorch does it: parameters and activations are half, SwitchNorm's constants stay float32."""

from __future__ import annotations

from typing import Final

import torch

from sn_deploy.capture.inputs import BoundInputs
from sn_deploy.errors import SnDeployError

DTYPES: Final = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}


def dtype_from_precision(precision: str) -> torch.dtype:
    """``fp32``, ``fp16`` or ``bf16`` as a torch dtype.

    Raises:
        SnDeployError: another word.
    """
    if not isinstance(precision, str) or precision not in DTYPES:
        raise SnDeployError(f"{precision!r} is no precision", where="--precision", expected=" or ".join(DTYPES))
    return DTYPES[precision]


def cast_inputs(inputs: BoundInputs, dtype: torch.dtype) -> BoundInputs:
    """The inputs with floating-point tensors in ``dtype``; integers and booleans stay."""
    return inputs.map(lambda tensor: tensor.to(dtype) if tensor.is_floating_point() else tensor)

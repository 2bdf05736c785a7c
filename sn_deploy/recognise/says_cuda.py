"""The answer that a forward gets which takes CUDA tensors alone; see `sn_deploy.recognise.cuda_check`."""

from __future__ import annotations

from typing import Any

import torch
from torch.overrides import TorchFunctionMode


class SaysCuda(TorchFunctionMode):
    """While it is entered, ``is_cuda`` is true for every tensor; all else is as it was."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        # ==: each access of a getter's __get__ gives another object.
        if func == torch.Tensor.is_cuda.__get__:  # type: ignore[attr-defined]
            return True
        return func(*args, **(kwargs or {}))

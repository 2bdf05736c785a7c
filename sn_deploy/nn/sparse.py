"""Sparse Switchable Normalization (SSN), whose ``state_dict`` loads the published checkpoints, on any device."""

from __future__ import annotations

import torch
from torch import Tensor

from sn_deploy.nn.base import mix
from sn_deploy.nn.layers import SwitchNorm2d
from sn_deploy.nn.sparsestmax import sparsestmax


class SparseSwitchNorm2d(SwitchNorm2d):
    """SN of (N, C, H, W) whose weights end as a choice: one of IN, LN and BN for the mean, one for the variance.

    The weights are sparsestmax of ``mean_weight`` and ``var_weight`` at the ``radius`` of the training's progress. Once
    training finds one of them to be 1, that choice is final: ``mean_fixed`` or ``var_fixed`` is set, and
    ``mean_weight`` or ``var_weight`` holds the weights themselves.

    State: that of `SwitchNorm2d`, and the buffers ``mean_fixed``, ``var_fixed`` (1,) int64 and ``radius`` (1,). The
    published layer allocates CUDA tensors when it is made; this one doesn't.

    Args:
        num_features, eps, momentum, using_moving_average, last_gamma: see `SwitchNorm2d`.
    """

    mean_fixed: Tensor
    var_fixed: Tensor
    radius: Tensor

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float = 0.997,
        using_moving_average: bool = True,
        last_gamma: bool = False,
    ) -> None:
        super().__init__(num_features, eps, momentum, using_moving_average, last_gamma=last_gamma)
        self.register_buffer("mean_fixed", torch.zeros(1, dtype=torch.int64))
        self.register_buffer("var_fixed", torch.zeros(1, dtype=torch.int64))
        self.register_buffer("radius", torch.zeros(1))

    @torch.no_grad()
    def set_radius(self, radius: float) -> None:
        """The radius of sparsestmax: training raises it from 0 to √(2/3), where every choice is made."""
        self.radius.fill_(radius)

    def _mix(self, which: str, branches: tuple[Tensor, ...], dtype: torch.dtype) -> Tensor:
        logits: Tensor = getattr(self, f"{which}_weight")
        fixed = getattr(self, f"{which}_fixed")
        if bool(fixed):
            return mix(logits.detach().to(dtype), branches)
        shares = sparsestmax(logits.to(dtype), float(self.radius))
        if self.training and bool((shares == 1).any()):
            with torch.no_grad():
                fixed.fill_(1)
                logits.copy_(shares)
        return mix(shares, branches)

"""SN behind a 1 x 1 convolution, from the second moments of the convolution's input: what `gpu_expansions.py` times.

With y = W x at every position, the mean of channel c is w_c · mean(x) and its variance w_c · cov(x) · w_c: statistics
of x, which has a quarter of y's channels in ResNet's expansions, give those of y before y is there. So y is written
once, normalised, with the residual added, and never read.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from gpu_layers import branch_weights, folded

from sn_deploy.nn import SwitchNorm2d


@dataclass(frozen=True)
class Norm:
    """An SN layer at inference, as the operator has it: float32, per channel or the weights of a branch."""

    scale: torch.Tensor
    bias: torch.Tensor
    mean_offset: torch.Tensor
    var_offset: torch.Tensor
    mean_in: float
    mean_ln: float
    var_in: float
    var_ln: float

    @classmethod
    def of(cls, module: SwitchNorm2d) -> Norm:
        """Folds the BN branch and epsilon, as the export does."""
        return cls(*folded(module), **branch_weights(module))


def second_moments(x: torch.Tensor) -> torch.Tensor:
    """Sums over positions of x xᵀ, in float32 at least: (N, HW, C) -> (N, C, C)."""
    if x.is_cuda and x.dtype != torch.float32:
        return torch.bmm(x.mT, x, out_dtype=torch.float32)
    wide = x.to(torch.promote_types(x.dtype, torch.float32))
    return torch.bmm(wide.mT, wide)


def affine(x_mean: torch.Tensor, moments: torch.Tensor, positions: int, w: torch.Tensor, norm: Norm) -> torch.Tensor:
    """What normalises y: a scale and a shift for each sample and channel, (2, N, C of y).

    Args:
        x_mean: (N, C of x).
        moments: `second_moments` of x.
        positions: HW.
        w: (C of y, C of x), in the moments' type.
        norm: of y.
    """
    covariance = moments / positions - x_mean[:, :, None] * x_mean[:, None, :]
    mean = x_mean @ w.mT
    variance = ((w @ covariance) * w).sum(-1) * (positions / (positions - 1))  # unbiased, as the published layers'
    mean_ln = mean.mean(1, keepdim=True)
    var_ln = (variance + (mean - mean_ln).square()).mean(1, keepdim=True)
    scale = norm.scale * torch.rsqrt(norm.var_in * variance + norm.var_ln * var_ln + norm.var_offset)
    shift = norm.bias - scale * (norm.mean_in * mean + norm.mean_ln * mean_ln + norm.mean_offset)
    return torch.stack([scale, shift])


def weights_of_samples(w: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
    """Each sample's own convolution, with its scale in it: (N, C of x, C of y) in w's type.

    Its matrix products cost what one for all samples does; a kernel would scale what it has added up instead.
    """
    return (w * scale[:, :, None]).to(w.dtype).mT

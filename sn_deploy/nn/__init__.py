"""Switchable Normalization as PyTorch modules, whose ``state_dict`` loads the published checkpoints.

Semantics, names, shapes and defaults are those of the code Luo et al. published with "Differentiable Learning-to-
Normalize via Switchable Normalization" (ICLR 2019). With softmax weights w for the mean and v for the variance, over
the branches IN, LN, BN:

    y = (x - Σ w_k·mean_k) / sqrt(Σ v_k·var_k + eps) · weight + bias

One thing differs: the variances that are pooled over channels (LN) or over the batch (BN, in training) are the mean
of the variances plus the variance of the means, where the published code subtracts squares, which cancel: for
|mean| far above the deviation that gives a negative variance, hence NaN.

What ports do otherwise is an option: ``ddof=0`` for biased variances, ``order`` for that of the weights, and
`SwitchNormSequence` for (N, C, L). `ChannelsLast` wraps a layer for inputs of Keras' layout; `convert` makes SN models
of BatchNorm models.
"""

from __future__ import annotations

from sn_deploy.nn.base import SwitchNorm
from sn_deploy.nn.channels_last import ChannelsLast
from sn_deploy.nn.conversion import convert
from sn_deploy.nn.layers import SwitchNorm1d, SwitchNorm2d, SwitchNorm3d, SwitchNormSequence
from sn_deploy.nn.moments import moments_from_sums
from sn_deploy.nn.sparse import SparseSwitchNorm2d
from sn_deploy.nn.sums import finalize_batch_average

__all__ = [
    "ChannelsLast",
    "SparseSwitchNorm2d",
    "SwitchNorm",
    "SwitchNorm1d",
    "SwitchNorm2d",
    "SwitchNorm3d",
    "SwitchNormSequence",
    "convert",
    "finalize_batch_average",
    "moments_from_sums",
]

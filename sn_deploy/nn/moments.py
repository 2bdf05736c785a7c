"""Means and variances: of a tensor, of groups that are merged, and behind sums over batches."""

from __future__ import annotations

import torch
from torch import Tensor

from sn_deploy.errors import SnDeployError

Moments = tuple[Tensor, Tensor]  # mean, variance


def moments(x: Tensor, dim: int | tuple[int, ...], ddof: int = 1) -> Moments:
    """Mean and variance (divisor n - ddof) of ``x`` over ``dim``, which stays as a dimension of 1."""
    var, mean = torch.var_mean(x, dim, correction=ddof, keepdim=True)
    return mean, var


def pool(mean: Tensor, var: Tensor, dim: int) -> Moments:
    """Moments of equally large groups along ``dim``, merged (law of total variance); nothing cancels."""
    var_of_means, mean_of_means = torch.var_mean(mean, dim, correction=0, keepdim=True)
    return mean_of_means, var.mean(dim, keepdim=True) + var_of_means


def moments_from_sums(mean_sum: Tensor, square_sum: Tensor, batches: int) -> Moments:
    """The mean and the variance behind the buffers of a layer trained with ``using_moving_average=False``.

    Args:
        mean_sum: S1, the sum over batches of the batch mean; any shape.
        square_sum: S2, the sum over batches of the batch mean's square plus the batch variance; the same shape.
        batches: N, how many batches were summed; a checkpoint doesn't say.

    Returns:
        S1/N and S2/N - (S1/N)², in float64. A variance that is below zero by no more than the rounding of float32
        sums is returned as zero.

    Raises:
        SnDeployError: N is not a positive integer, or makes a variance negative, as an N that is too small does. An N
            that is too large can't be told from the sums.
    """
    if isinstance(batches, bool) or not isinstance(batches, int) or batches < 1:
        raise SnDeployError(f"the number of batches is {batches!r}", expected="a positive integer")
    mean = mean_sum.double() / batches
    square = square_sum.double() / batches
    var = square - mean**2
    rounding = 4 * batches**0.5 * torch.finfo(torch.float32).eps * square
    if not bool((var >= -rounding).all()):  # so that NaN is refused, too
        raise SnDeployError(
            f"sums over batches, divided by {batches}, give the variance {var.min().item():.3g}",
            expected="the number of training batches that were summed",
            mend="check the number, and that the statistics are sums",
        )
    return mean, var.clamp(min=0)

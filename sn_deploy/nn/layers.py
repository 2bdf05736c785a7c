"""The three published layers, which differ in the statistics they take, and what ports add to them."""

from __future__ import annotations

import math
from collections.abc import Sequence

from torch import Tensor

from sn_deploy.errors import SnDeployError
from sn_deploy.nn.base import SwitchNorm
from sn_deploy.nn.moments import Moments, moments, pool


class _SpatialSwitchNorm(SwitchNorm):
    """IN, LN and, where ``using_bn``, BN; the variance over the spatial positions is what all three use."""

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float = 0.9,
        using_moving_average: bool = True,
        using_bn: bool = True,
        last_gamma: bool = False,
        *,
        ddof: int = 1,
        order: Sequence[str] | None = None,
    ) -> None:
        super().__init__(
            num_features,
            statistics_shape=(1, num_features, 1) if using_bn else None,
            eps=eps,
            momentum=momentum,
            using_moving_average=using_moving_average,
            last_gamma=last_gamma,
            ddof=ddof,
            order=order,
        )

    def _branches(self, x: Tensor) -> list[Moments]:
        # Over dimensions, not over a flattened view: non-contiguous inputs then need no copy and keep their layout.
        instance = moments(x, tuple(range(2, x.dim())), self.ddof)  # (N, C, 1…)
        branches = [instance, pool(*instance, dim=1)]  # LN: (N, 1, 1…)
        if self.using_bn:
            batch = pool(*instance, dim=0) if self.training else None  # (1, C, 1…)
            branches.append(self._batch_branch(batch, x.dtype))
        return branches

    def _check_input(self, x: Tensor) -> None:
        super()._check_input(x)
        # Not Size.numel(), which would make dynamic sizes static in torch.export.
        if math.prod(x.shape[2:]) <= self.ddof:
            kind = "unbiased variance" if self.ddof else "variance"
            raise SnDeployError(
                f"the {kind} over the spatial positions of {tuple(x.shape)} has no value",
                where=type(self).__name__,
                expected=f"at least {self.ddof + 1} spatial positions",
                mend="give a larger input, or leave this layer out",
            )
        if self.training and self.using_bn and x.shape[0] < 1:
            raise SnDeployError("an empty batch has no statistics", where=type(self).__name__, mend="call eval()")


class SwitchNorm1d(SwitchNorm):
    """SN of (N, C): an LN and a BN branch, both with the unbiased variance; there are no positions for IN.

    Args:
        num_features: C.
        eps: added to the mixed variance.
        momentum: share of the old value in the running statistics.
        using_moving_average: if false, training records sums over batches; see `finalize_batch_average`.
        ddof: variances have the divisor n - ddof: 1, as published, or 0.
        order: the branches that the mix weights are of, ``ln`` and ``bn``; by default in that order.
    """

    _spatial_rank = 0
    _branch_names = ("ln", "bn")

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float = 0.997,
        using_moving_average: bool = True,
        *,
        ddof: int = 1,
        order: Sequence[str] | None = None,
    ) -> None:
        super().__init__(
            num_features,
            statistics_shape=(1, num_features),
            eps=eps,
            momentum=momentum,
            using_moving_average=using_moving_average,
            last_gamma=False,
            ddof=ddof,
            order=order,
        )

    def _branches(self, x: Tensor) -> list[Moments]:
        batch = moments(x, 0, self.ddof) if self.training else None  # (1, C)
        return [moments(x, 1, self.ddof), self._batch_branch(batch, x.dtype)]

    def _check_input(self, x: Tensor) -> None:
        super()._check_input(x)
        if self.ddof and (self.num_features < 2 or (self.training and x.shape[0] < 2)):
            raise SnDeployError(
                f"the unbiased variance of one value has no value (input has shape {tuple(x.shape)})",
                where=type(self).__name__,
                expected="at least 2 channels and, in training, at least 2 samples",
            )


class SwitchNorm2d(_SpatialSwitchNorm):
    """SN of (N, C, H, W).

    Args:
        num_features: C.
        eps: added to the mixed variance.
        momentum: share of the old value in the running statistics.
        using_moving_average: if false, training records sums over batches; see `finalize_batch_average`.
        using_bn: whether there is a BN branch; without one the mix weights are those of IN and LN.
        last_gamma: start with a ``weight`` of zero, for the last layer of a residual branch.
        ddof: variances have the divisor n - ddof: 1, as published, or 0, as in ports to Keras and TensorFlow.
        order: the branches that the mix weights are of, ``in``, ``ln`` and ``bn``; by default in that order.
    """

    _spatial_rank = 2


class SwitchNormSequence(SwitchNorm2d):
    """SN of (N, C, L), with IN, LN and BN: what ports call SwitchNorm1d; arguments as in `SwitchNorm2d`.

    The published SwitchNorm1d takes (N, C) alone, and has no IN branch.
    """

    _spatial_rank = 1


class SwitchNorm3d(_SpatialSwitchNorm):
    """SN of (N, C, D, H, W); arguments as in `SwitchNorm2d`, with the published default momentum of 0.997."""

    _spatial_rank = 3

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float = 0.997,
        using_moving_average: bool = True,
        using_bn: bool = True,
        last_gamma: bool = False,
        *,
        ddof: int = 1,
        order: Sequence[str] | None = None,
    ) -> None:
        super().__init__(
            num_features, eps, momentum, using_moving_average, using_bn, last_gamma, ddof=ddof, order=order
        )

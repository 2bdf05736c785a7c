"""What the SN layers of all ranks share: state, mixing, and the recording of batch statistics."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, cast

import torch
from torch import Tensor, nn

from sn_deploy.errors import SnDeployError
from sn_deploy.nn.moments import Moments, moments_from_sums


class SwitchNorm(nn.Module):
    """What all ranks share; a subclass says which statistics there are.

    State: ``weight``, ``bias`` (1, C, 1…); ``mean_weight``, ``var_weight`` (branches), before the softmax; with a BN
    branch also the buffers ``running_mean``, ``running_var``.
    """

    _spatial_rank: ClassVar[int]
    # The branches that there may be, in the order in which `_branches` gives them.
    _branch_names: ClassVar[tuple[str, ...]] = ("in", "ln", "bn")

    running_mean: Tensor
    running_var: Tensor

    def __init__(
        self,
        num_features: int,
        statistics_shape: tuple[int, ...] | None,
        eps: float,
        momentum: float,
        using_moving_average: bool,
        last_gamma: bool,
        ddof: int,
        order: Sequence[str] | None,
    ) -> None:
        super().__init__()
        if num_features < 1:
            raise SnDeployError(f"num_features is {num_features}", where=type(self).__name__, expected="at least 1")
        if ddof not in (0, 1):
            raise SnDeployError(f"ddof is {ddof!r}", where=type(self).__name__, expected="0 or 1")
        names = [name for name in self._branch_names if name != "bn" or statistics_shape is not None]
        self.order = tuple(names if order is None else order)
        if sorted(self.order) != sorted(names):
            raise SnDeployError(
                f"order is {self.order}", where=type(self).__name__, expected=f"{', '.join(names)} in some order"
            )
        self._places = tuple(names.index(name) for name in self.order)
        self.ddof = ddof
        self.num_features = num_features
        self.eps = eps
        self.momentum = momentum
        self.using_moving_average = using_moving_average
        self.using_bn = statistics_shape is not None
        self.last_gamma = last_gamma
        parameter_shape = (1, num_features) + (1,) * self._spatial_rank
        self.weight = nn.Parameter(torch.empty(parameter_shape))
        self.bias = nn.Parameter(torch.empty(parameter_shape))
        self.mean_weight = nn.Parameter(torch.empty(len(names)))
        self.var_weight = nn.Parameter(torch.empty(len(names)))
        if statistics_shape is not None:
            self.register_buffer("running_mean", torch.empty(statistics_shape))
            self.register_buffer("running_var", torch.empty(statistics_shape))
        self.reset_parameters()

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Equal mix weights, the identity as affine part (zero where ``last_gamma``), and running statistics of 0."""
        self.weight.fill_(0.0 if self.last_gamma else 1.0)
        self.bias.zero_()
        self.mean_weight.fill_(1.0)
        self.var_weight.fill_(1.0)
        if self.using_bn:
            self.running_mean.zero_()
            self.running_var.zero_()

    def forward(self, input: Tensor) -> Tensor:
        """The normalised ``input``, of its shape and dtype; the argument has the name that torch's BatchNorm gives it.

        Statistics, mixing and normalisation are in float32 for a half precision ``input``, in its own dtype otherwise,
        whatever the dtype of the parameters.

        Raises:
            SnDeployError: it has the wrong rank, channel count or dtype, or a variance over too few values.
        """
        x = input
        self._check_input(x)
        dtype = torch.promote_types(x.dtype, torch.float32)
        h = x.to(dtype)
        branches = self._branches(h)
        means, variances = zip(*(branches[place] for place in self._places), strict=True)
        mean = self._mix("mean", means, dtype)
        var = self._mix("var", variances, dtype)
        gain = self.weight.to(dtype) / (var + self.eps).sqrt()  # (N, C, 1…): the small tensor takes the division
        return ((h - mean) * gain + self.bias.to(dtype)).to(x.dtype)

    def _mix(self, which: str, branches: tuple[Tensor, ...], dtype: torch.dtype) -> Tensor:
        """The ``mean`` or the ``var`` of the branches, by their learned shares."""
        logits: Tensor = getattr(self, f"{which}_weight")
        return mix(logits.to(dtype).softmax(0), branches)

    def _branches(self, x: Tensor) -> list[Moments]:
        """The moments of each branch, in the order IN, LN, BN, each to be broadcast against x."""
        raise NotImplementedError

    def _check_input(self, x: Tensor) -> None:
        axes = ", L" if self._spatial_rank == 1 else "".join((", D", ", H", ", W")[3 - self._spatial_rank :])
        expected = f"(N, {self.num_features}{axes})"
        where = type(self).__name__
        if x.dim() != self._spatial_rank + 2 or x.shape[1] != self.num_features:
            raise SnDeployError(f"input has shape {tuple(x.shape)}", where=where, expected=expected)
        if not x.is_floating_point():
            raise SnDeployError(f"input is {x.dtype}", where=where, expected="a floating point dtype")

    def _batch_branch(self, batch: Moments | None, dtype: torch.dtype) -> Moments:
        """The BN branch: in training the batch's moments, which are recorded as well; else the recorded ones."""
        if batch is not None:
            mean, var = (moment.detach().view_as(self.running_mean) for moment in batch)
            self._record(mean, var)
            return batch
        return self.running_mean.to(dtype).view_as(self.weight), self.running_var.to(dtype).view_as(self.weight)

    @torch.no_grad()
    def _record(self, mean: Tensor, var: Tensor) -> None:
        if self.using_moving_average:
            # The published momentum is the share of the old value; that of torch's BatchNorm is the new value's.
            self.running_mean.mul_(self.momentum).add_((1 - self.momentum) * mean)
            self.running_var.mul_(self.momentum).add_((1 - self.momentum) * var)
        else:
            self.running_mean.add_(mean)
            self.running_var.add_(mean**2 + var)

    @torch.no_grad()
    def finalize_batch_average(self, batches: int) -> None:
        """Turns the sums that training with ``using_moving_average=False`` recorded into a mean and a variance.

        Eval mode takes the buffers as they are, so it is wrong until this has been called, once, after ``batches``
        training steps from zeroed buffers. Afterwards the layer uses a moving average, since further sums on top of
        averages would mean nothing; so a second call is refused.

        Raises:
            SnDeployError: the layer has no sums, or ``batches`` can't be their number (see `moments_from_sums`).
        """
        where = type(self).__name__
        if not self.using_bn:
            raise SnDeployError("there are no batch statistics to average: the layer has no BN branch", where=where)
        if self.using_moving_average:
            raise SnDeployError(
                "the running statistics are averages already", where=where, expected="using_moving_average=False"
            )
        mean, var = moments_from_sums(self.running_mean, self.running_var, batches)
        self.running_mean.copy_(mean)
        self.running_var.copy_(var)
        self.using_moving_average = True

    def extra_repr(self) -> str:
        """The constructor's arguments, as torch's own layers show them."""
        text = (
            f"{self.num_features}, eps={self.eps}, momentum={self.momentum}, "
            f"using_moving_average={self.using_moving_average}, using_bn={self.using_bn}, last_gamma={self.last_gamma}"
        )
        usual = tuple(sorted(self._places)) == self._places
        return text + ("" if self.ddof else ", ddof=0") + ("" if usual else f", order={self.order}")


def mix(shares: Tensor, branches: tuple[Tensor, ...]) -> Tensor:
    """Σ share · branch, each branch broadcast against the others."""
    mixed, *others = (share * branch for share, branch in zip(shares, branches, strict=True))
    for term in others:
        mixed = mixed + term
    return cast(Tensor, mixed)

"""Layers that are SN whatever they call themselves, written for the tests.

`trained_` gives any of them, and the deviating ones, the look of a trained layer by the shapes of their tensors.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

C = 8


@torch.no_grad()
def trained_(module: nn.Module, seed: int = 0) -> nn.Module:
    """Random values for all floating point state: positive where a name ends in var or std, else normal."""
    generator = torch.Generator().manual_seed(seed)
    for name, tensor in sorted(module.state_dict().items()):
        if tensor.is_floating_point():
            normal = torch.randn(tensor.shape, generator=generator)
            tensor.copy_(0.5 + normal.abs() if name.endswith(("var", "std")) else normal)
    return module


class ReferenceSN(nn.Module):
    """The published layer for (N, C, *spatial); a variant or a deviation overrides the one step that differs."""

    ddof = 1

    def __init__(self, channels: int = C, branches: int = 3, statistics: bool = True, eps: float = 1e-5) -> None:
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))
        self.mean_weight = nn.Parameter(torch.ones(branches))
        self.var_weight = nn.Parameter(torch.ones(branches))
        if statistics:
            self.register_buffer("running_mean", torch.zeros(channels))
            self.register_buffer("running_var", torch.ones(channels))

    def instance(self, x: Tensor) -> tuple[Tensor, Tensor]:  # (N, C, 1) each
        return x.mean(2, keepdim=True), x.var(2, keepdim=True, correction=self.ddof)

    def layer(self, x: Tensor) -> tuple[Tensor, Tensor]:  # (N, 1, 1) each
        mean, var = self.instance(x)
        square = (var + mean**2).mean(1, keepdim=True)
        mean = mean.mean(1, keepdim=True)
        return mean, square - mean**2

    def batch(self, x: Tensor) -> tuple[Tensor, Tensor]:  # (C, 1) each
        return self.running_mean.view(-1, 1), self.running_var.view(-1, 1)

    def branches(self, x: Tensor) -> list[tuple[Tensor, Tensor]]:
        return [self.instance(x), self.layer(x), self.batch(x)]

    def shares(self, logits: Tensor) -> Tensor:
        return logits.flatten().softmax(0)

    def scaled(self, x: Tensor, mean: Tensor, var: Tensor) -> Tensor:
        return (x - mean) / (var + self.eps).sqrt()

    def affine(self, x: Tensor) -> Tensor:
        return x * self.weight.view(-1, 1) + self.bias.view(-1, 1)

    def mixed(self, x: Tensor) -> tuple[Tensor, Tensor]:
        means, variances = zip(*self.branches(x), strict=True)
        mean = sum(share * value for share, value in zip(self.shares(self.mean_weight), means, strict=True))
        var = sum(share * value for share, value in zip(self.shares(self.var_weight), variances, strict=True))
        return mean, var

    def forward(self, x: Tensor) -> Tensor:
        flat = x.flatten(2)
        return self.affine(self.scaled(flat, *self.mixed(flat))).view(x.shape)


class KerasLike(ReferenceSN):
    """Biased variances and the eps of Keras under the name that Keras gives it."""

    ddof = 0

    def __init__(self) -> None:
        super().__init__()
        self.epsilon = 1e-3
        del self.eps

    def scaled(self, x, mean, var):
        return (x - mean) / (var + self.epsilon).sqrt()


class OfAPass(ReferenceSN):
    """Keeps the averages of training beside those of a pass over the data, and reads these."""

    def __init__(self, channels: int = C) -> None:
        super().__init__(channels)
        self.register_buffer("calib_mean", torch.zeros(channels))
        self.register_buffer("calib_var", torch.ones(channels))

    def batch(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return self.calib_mean.view(-1, 1), self.calib_var.view(-1, 1)


class KeptByBatchNorm(ReferenceSN):
    """The statistics of the BN branch are a BatchNorm's."""

    def __init__(self, channels: int = C) -> None:
        super().__init__(channels, statistics=False)
        self.bn = nn.BatchNorm2d(channels, affine=False)

    def batch(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return self.bn.running_mean.view(-1, 1), self.bn.running_var.view(-1, 1)


class BatchFirst(ReferenceSN):
    """Weights in the order BN, IN, LN."""

    def branches(self, x):
        return [self.batch(x), self.instance(x), self.layer(x)]


class WithoutBatch(ReferenceSN):
    def __init__(self) -> None:
        super().__init__(branches=2, statistics=False)

    def branches(self, x):
        return [self.instance(x), self.layer(x)]


class LayerAndBatch(ReferenceSN):
    """Two weights, for BN and LN: no instance branch."""

    def __init__(self) -> None:
        super().__init__(branches=2)

    def branches(self, x):
        return [self.batch(x), self.layer(x)]


class ColumnShapes(ReferenceSN):
    """(1, C, 1) and (1, C, 1, 1) parameters, [3, 1] mix weights, and a forward for one rank only."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1, C, 1, 1))
        self.bias = nn.Parameter(torch.zeros(1, C, 1, 1))
        self.mean_weight = nn.Parameter(torch.ones(3, 1))
        self.var_weight = nn.Parameter(torch.ones(3, 1))
        self.running_mean = torch.zeros(1, C, 1)

    def forward(self, x):
        samples, channels, height, width = x.size()
        return super().forward(x.reshape(samples, channels, height, width))


class WithoutAffine(ReferenceSN):
    def __init__(self) -> None:
        super().__init__()
        self.register_parameter("weight", None)
        self.register_parameter("bias", None)

    def affine(self, x):
        return x


class NakedTwoWeights(WithoutBatch):
    """No affine part, no statistics: only num_features tells C."""

    def __init__(self) -> None:
        super().__init__()
        self.register_parameter("weight", None)
        self.register_parameter("bias", None)
        self.num_features = C

    def affine(self, x):
        return x


class SharedMix(ReferenceSN):
    """One vector of weights for the mean and the variance."""

    def __init__(self) -> None:
        super().__init__()
        del self.mean_weight, self.var_weight
        self.switch = nn.Parameter(torch.ones(3))

    def mixed(self, x):
        shares = self.shares(self.switch)
        means, variances = zip(*self.branches(x), strict=True)
        return sum(map(torch.mul, shares, means)), sum(map(torch.mul, shares, variances))


class OtherNames(nn.Module):
    """Names that say nothing, a biased variance, and an eps that no attribute holds."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Parameter(torch.ones(3))
        self.b = nn.Parameter(torch.ones(3))
        self.g = nn.Parameter(torch.ones(1, C, 1))
        self.h = nn.Parameter(torch.zeros(1, C, 1))
        self.register_buffer("m", torch.zeros(1, C, 1))
        self.register_buffer("v_var", torch.ones(1, C, 1))

    def forward(self, x):
        flat = x.flatten(2)
        mean_in, var_in = flat.mean(2, keepdim=True), flat.var(2, correction=0, keepdim=True)
        mean_ln, var_ln = flat.mean((1, 2), keepdim=True), flat.var((1, 2), correction=0, keepdim=True)
        p, q = self.a.softmax(0), self.b.softmax(0)
        mean = p[0] * mean_in + p[1] * mean_ln + p[2] * self.m
        var = q[0] * var_in + q[1] * var_ln + q[2] * self.v_var
        return ((flat - mean) * torch.rsqrt(var + 2.5e-4) * self.g + self.h).view(x.shape)


class VarianceFirst(OtherNames):
    """The first of two vectors that say nothing is the variance's."""

    def forward(self, x):
        self.a, self.b = self.b, self.a
        try:
            return super().forward(x)
        finally:
            self.a, self.b = self.b, self.a


class AbsoluteWeights(ReferenceSN):
    """Magnitudes in the place of a softmax: shares that need not sum to 1."""

    def shares(self, logits):
        return logits.abs()


class RawWeights(ReferenceSN):
    """Weights used as they are; the test keeps those of the variance positive."""

    def __init__(self) -> None:
        super().__init__()
        del self.var_weight
        self.mix_var = nn.Parameter(torch.ones(3))

    def mixed(self, x):
        means, variances = zip(*self.branches(x), strict=True)
        return sum(map(torch.mul, self.mean_weight, means)), sum(map(torch.mul, self.mix_var, variances))


class Sigmoid(ReferenceSN):
    def shares(self, logits):
        return logits.sigmoid()


class Sparsemax(ReferenceSN):
    """A projection on the simplex, with the zeros that it makes, as sparse SN has at radius 0."""

    def shares(self, logits):
        ordered = logits.sort(descending=True).values
        excess = (ordered.cumsum(0) - 1) / torch.arange(1, 4, dtype=logits.dtype)
        return (logits - excess[(ordered > excess).sum() - 1]).clamp(min=0)


class FloatInside(ReferenceSN):
    """Casts to float32, as layers written for mixed precision do."""

    def forward(self, x):
        return super().forward(x.float()).to(x.dtype)

    def mixed(self, x):
        mean, var = super().mixed(x)
        return mean.float(), var.float()


class OneSize(ReferenceSN):
    """Made for images of 9 by 11."""

    def forward(self, x):
        return super().forward(x.view(-1, C, 9, 11))


class SyncedFunction(torch.autograd.Function):
    @staticmethod
    def forward(ctx, layer, x, weight):
        if not x.is_cuda:
            raise RuntimeError("only support CUDA computation!")
        return ReferenceSN.forward(layer, x)


class Synced(ReferenceSN):
    """An autograd function that takes CUDA tensors alone and, in training, a process group: as SyncSN is."""

    def forward(self, x):
        return SyncedFunction.apply(self, x, self.weight)

    def batch(self, x):
        if self.training:
            torch.distributed.all_reduce(x)
        return super().batch(x)


class Vectors(nn.Module):
    """SN of (N, C): LN and BN."""

    ddof = 1
    unstored_eps = 1e-5

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(C))
        self.bias = nn.Parameter(torch.zeros(C))
        self.mean_weight = nn.Parameter(torch.ones(2))
        self.var_weight = nn.Parameter(torch.ones(2))
        self.register_buffer("running_mean", torch.zeros(C))
        self.register_buffer("running_var", torch.ones(C))

    def shares(self, logits):
        return logits.softmax(0)

    def forward(self, x):
        if x.dim() != 2:
            raise ValueError(f"expected 2 dimensions, got {x.dim()}")
        p, q = self.shares(self.mean_weight), self.shares(self.var_weight)
        mean = p[0] * x.mean(1, keepdim=True) + p[1] * self.running_mean
        var = q[0] * x.var(1, keepdim=True, correction=self.ddof) + q[1] * self.running_var
        return (x - mean) / (var + self.unstored_eps).sqrt() * self.weight + self.bias


class VectorsSolved(Vectors):
    """Of (N, C), with shares and an eps that only its behaviour tells."""

    ddof = 0
    unstored_eps = 7e-4

    def shares(self, logits):
        return logits.sigmoid()


class PositionAsInstance(Vectors):
    """(N, C) as (N, C, 1): its instance mean is the input, its instance variance zero.

    The input's share p of the mean only shrinks x - mean, as larger shares of the rest would: SN all the same.
    """

    def __init__(self) -> None:
        super().__init__()
        self.mean_weight = nn.Parameter(torch.ones(3))
        self.var_weight = nn.Parameter(torch.ones(3))

    def forward(self, x):
        if x.dim() != 2:
            raise ValueError(f"expected 2 dimensions, got {x.dim()}")
        p, q = self.mean_weight.softmax(0), self.var_weight.softmax(0)
        mean = p[0] * x + p[1] * x.mean(1, keepdim=True) + p[2] * self.running_mean
        var = q[1] * x.var(1, keepdim=True, correction=0) + q[2] * self.running_var
        return (x - mean) / (var + 1e-5).sqrt() * self.weight + self.bias


ACCEPTED = (
    ReferenceSN,
    KerasLike,
    OfAPass,
    KeptByBatchNorm,
    BatchFirst,
    WithoutBatch,
    LayerAndBatch,
    ColumnShapes,
    WithoutAffine,
    NakedTwoWeights,
    SharedMix,
    OtherNames,
    VarianceFirst,
    AbsoluteWeights,
    RawWeights,
    Sigmoid,
    Sparsemax,
    FloatInside,
    Synced,
    Vectors,
    VectorsSolved,
    PositionAsInstance,
)

"""Layers that look like SN and aren't, each by one deviation from the published layer, for the tests."""

from __future__ import annotations

import torch
from torch import nn

from tests.recognise.variants import C, ReferenceSN, WithoutBatch


class EpsOutsideRoot(ReferenceSN):
    def scaled(self, x, mean, var):
        return (x - mean) / (var.sqrt() + self.eps)


class NoEps(ReferenceSN):
    def scaled(self, x, mean, var):
        return (x - mean) / var.sqrt()


class LayerUnbiased(ReferenceSN):
    def layer(self, x):
        return x.mean((1, 2), keepdim=True), x.var((1, 2), keepdim=True, correction=1)


class LayerBiasedInstanceUnbiased(ReferenceSN):
    def layer(self, x):
        return x.mean((1, 2), keepdim=True), x.var((1, 2), keepdim=True, correction=0)


class LayerUnbiasedInstanceBiased(LayerUnbiased):
    ddof = 0


class NoSpread(ReferenceSN):
    def layer(self, x):
        mean, var = self.instance(x)
        return mean.mean(1, keepdim=True), var.mean(1, keepdim=True)


class LayerAtEachPosition(ReferenceSN):
    def layer(self, x):
        return x.mean(1, keepdim=True), x.var(1, keepdim=True, correction=self.ddof)


class RunningStd(ReferenceSN):
    def __init__(self) -> None:
        super().__init__()
        del self.running_var
        self.register_buffer("running_std", torch.ones(C))

    def batch(self, x):
        return self.running_mean.view(-1, 1), self.running_std.view(-1, 1) ** 2


class LogVariance(ReferenceSN):
    def __init__(self) -> None:
        super().__init__()
        del self.running_var
        self.register_buffer("running_logvar", torch.zeros(C))

    def batch(self, x):
        return self.running_mean.view(-1, 1), self.running_logvar.view(-1, 1).exp()


class MixedDeviations(ReferenceSN):
    def mixed(self, x):
        mean, _ = super().mixed(x)
        shares = self.shares(self.var_weight)
        deviations = [(var + self.eps).sqrt() for _, var in self.branches(x)]
        return mean, sum(map(torch.mul, shares, deviations)) ** 2 - self.eps


class MixedOutputs(ReferenceSN):
    def forward(self, x):
        flat, shares = x.flatten(2), self.shares(self.mean_weight)
        outputs = [self.scaled(flat, mean, var) for mean, var in self.branches(flat)]
        return self.affine(sum(map(torch.mul, shares, outputs))).view(x.shape)


class MixedModules(nn.Module):
    """As MixedOutputs, each normalisation a module of its own: what is mixed shows in none of the layer's tensors."""

    def __init__(self, channels: int = C) -> None:
        super().__init__()
        norms = (nn.BatchNorm2d(channels), nn.GroupNorm(1, channels), nn.InstanceNorm2d(channels, affine=True))
        self.norms = nn.ModuleList(norms)
        self.weight, self.bias = nn.Parameter(torch.ones(channels)), nn.Parameter(torch.zeros(channels))
        self.switch_weight = nn.Parameter(torch.ones(3))

    def forward(self, x):
        shares = self.switch_weight.softmax(0)
        mixed = sum(share * norm(x) for share, norm in zip(shares, self.norms, strict=True))
        return mixed * self.weight.view(-1, 1, 1) + self.bias.view(-1, 1, 1)


class GroupsForLayer(ReferenceSN):
    def layer(self, x):
        grouped = x.reshape(x.shape[0], 4, -1)
        mean, var = grouped.mean(2, keepdim=True), grouped.var(2, keepdim=True, correction=0)
        return mean.repeat_interleave(C // 4, 1), var.repeat_interleave(C // 4, 1)


class GroupsForBatch(GroupsForLayer):
    """IN, LN and GN, without running statistics."""

    def __init__(self) -> None:
        super().__init__(statistics=False)

    def layer(self, x):
        return ReferenceSN.layer(self, x)

    def batch(self, x):
        return super().layer(x)


class AlwaysBatchStatistics(ReferenceSN):
    """Takes no notice of self.training."""

    def batch(self, x):
        mean, var = self.instance(x)
        return mean.mean(0), var.mean(0)


class FrozenInstanceAndLayer(ReferenceSN):
    """In evaluation all statistics are what was recorded."""

    def __init__(self) -> None:
        super().__init__()
        for branch, size in (("in", C), ("ln", 1)):
            self.register_buffer(f"running_mean_{branch}", torch.zeros(size))
            self.register_buffer(f"running_{branch}_var", torch.ones(size))

    def instance(self, x):
        return self.running_mean_in.view(-1, 1), self.running_in_var.view(-1, 1)

    def layer(self, x):
        return self.running_mean_ln.view(-1, 1), self.running_ln_var.view(-1, 1)


class FrozenInstance(FrozenInstanceAndLayer):
    def layer(self, x):
        mean, var = x.mean(2, keepdim=True), x.var(2, keepdim=True)
        return mean.mean(1, keepdim=True), (var + mean**2).mean(1, keepdim=True) - mean.mean(1, keepdim=True) ** 2


class ForgottenMean(ReferenceSN):
    """A recorded mean that is used with another sign."""

    def batch(self, x):
        mean, var = super().batch(x)
        return mean.square(), var


class NeedsCuda(ReferenceSN):
    """Takes CUDA tensors alone, and does need CUDA."""

    def forward(self, x):
        if not x.is_cuda:
            raise RuntimeError("only CUDA tensors are supported\n(second line)")
        return super().forward(x.cuda())


class AsksForCuda(EpsOutsideRoot):
    """Takes CUDA tensors alone, and deviates."""

    def forward(self, x):
        if not x.is_cuda:
            raise RuntimeError("only CUDA tensors are supported")
        return super().forward(x)


class NeedsProcessGroup(ReferenceSN):
    def batch(self, x):
        raise ValueError("Default process group has not been initialized, please call init_process_group")


class Raises(ReferenceSN):
    def batch(self, x):
        raise KeyError("not_there")


class HalfOutput(ReferenceSN):
    def forward(self, x):
        return super().forward(x).half()


class OtherShape(ReferenceSN):
    def forward(self, x):
        return super().forward(x).flatten(2)


class ReturnsPair(ReferenceSN):
    def forward(self, x):
        return super().forward(x), self.shares(self.mean_weight)


class Noisy(ReferenceSN):
    def forward(self, x):
        return super().forward(x) + torch.randn_like(x)


class KeepsUpdating(ReferenceSN):
    """Updates its statistics in evaluation mode, too."""

    def batch(self, x):
        self.running_mean.mul_(0.9).add_(0.1 * x.mean((0, 2)))
        return super().batch(x)


class Whitening(nn.Module):
    """Switchable Whitening (Pan et al., ICCV 2019): covariances of groups of channels are mixed and inverted.

    ``sw_type`` 2: batch and instance whitening; 3: and LN; 5: and BN and IN. Named and shaped as published.
    """

    def __init__(self, sw_type: int = 2, tie_weight: bool = False, affine: bool = True) -> None:
        super().__init__()
        self.sw_type, self.width, self.num_features = sw_type, 4, C
        self.sw_mean_weight = nn.Parameter(torch.ones(sw_type))
        self.register_parameter("sw_var_weight", None if tie_weight else nn.Parameter(torch.ones(sw_type)))
        self.register_parameter("weight", nn.Parameter(torch.ones(C)) if affine else None)
        self.register_parameter("bias", nn.Parameter(torch.zeros(C)) if affine else None)
        self.register_buffer("running_mean", torch.zeros(C // self.width, self.width, 1))
        self.register_buffer("running_cov", torch.eye(self.width).repeat(C // self.width, 1, 1))

    def forward(self, x):
        grouped = x.reshape(x.shape[0], -1, self.width, x.shape[2] * x.shape[3])  # (N, G, c, HW)
        eye = torch.eye(self.width, dtype=x.dtype)
        mean_in = grouped.mean(3, keepdim=True)
        cov_in = (grouped - mean_in) @ (grouped - mean_in).mT / grouped.shape[3]
        cov_bn = self.running_cov @ self.running_cov.mT + eye  # positive, whatever the test puts in
        mean_ln, var_ln = x.mean((1, 2, 3)).view(-1, 1, 1, 1), x.var((1, 2, 3)).view(-1, 1, 1, 1) * eye
        means = [self.running_mean, mean_in, mean_ln]
        covs = [cov_bn, cov_in, var_ln]
        if self.sw_type == 5:
            means = [self.running_mean, mean_in, self.running_mean, mean_in, mean_ln]
            covs = [cov_bn, cov_in, cov_bn * eye, cov_in * eye, var_ln]
        p = self.sw_mean_weight.softmax(0)
        q = p if self.sw_var_weight is None else self.sw_var_weight.softmax(0)
        mean, cov = (sum(map(torch.mul, share, parts)) for share, parts in ((p, means), (q, covs)))
        values, vectors = torch.linalg.eigh(cov + 1e-5 * eye)
        y = (vectors @ torch.diag_embed(values.rsqrt()) @ vectors.mT @ (grouped - mean)).reshape(x.shape)
        return y if self.weight is None else y * self.weight.view(-1, 1, 1) + self.bias.view(-1, 1, 1)


class FourBranches(nn.Module):
    """IN, LN and BN, and statistics at each position: a fourth weight."""

    def __init__(self) -> None:
        super().__init__()
        self.mean_weight, self.var_weight = nn.Parameter(torch.ones(4)), nn.Parameter(torch.ones(4))
        self.weight, self.bias = nn.Parameter(torch.ones(1, C, 1, 1)), nn.Parameter(torch.zeros(1, C, 1, 1))
        self.register_buffer("running_mean", torch.zeros(1, C, 1, 1))
        self.register_buffer("running_var", torch.ones(1, C, 1, 1))

    def forward(self, x):
        axes = ((2, 3), (1, 2, 3), (1,))
        means = [*(x.mean(axis, keepdim=True) for axis in axes), self.running_mean]
        variances = [*(x.var(axis, keepdim=True, correction=0) for axis in axes), self.running_var]
        mean, var = (
            sum(map(torch.mul, share.softmax(0), parts))
            for share, parts in ((self.mean_weight, means), (self.var_weight, variances))
        )
        return (x - mean) / (var + 1e-5).sqrt() * self.weight + self.bias


class VectorsWithMixedDeviations(ReferenceSN):
    """Of (N, C): LN and BN."""

    def __init__(self) -> None:
        super().__init__(branches=2)

    def forward(self, x):
        (w_ln, w_bn), (v_ln, v_bn) = self.mean_weight.softmax(0), self.var_weight.softmax(0)
        mean = w_ln * x.mean(1, keepdim=True) + w_bn * self.running_mean
        var_ln = x.var(1, keepdim=True)
        std = v_ln * (var_ln + self.eps).sqrt() + v_bn * (self.running_var + self.eps).sqrt()
        return (x - mean) / std * self.weight + self.bias


class Clamped(ReferenceSN):
    def forward(self, x):
        return super().forward(x.clamp(-0.5, 0.5))


class ClampedFarOut(ReferenceSN):
    """At a size that no probe of usual inputs reaches."""

    def forward(self, x):
        return super().forward(x.clamp(-1e4, 1e4))


class VarianceAboveALimit(WithoutBatch):
    """Seen where there is no BN branch, whose share of the variance is above the limit."""

    def __init__(self, limit: float = 1e-6) -> None:
        super().__init__()
        self.limit = limit

    def scaled(self, x, mean, var):
        return super().scaled(x, mean, var.clamp(min=self.limit))


class SizeDependent(ReferenceSN):
    """Agrees on small inputs only."""

    def forward(self, x):
        return super().forward(x) * (2.0 if x[0, 0].numel() > 100 else 1.0)


# class -> what its refusal says
REFUSED = {
    EpsOutsideRoot: "eps is added outside the square root, to the standard deviation",
    AsksForCuda: "eps is added outside the square root, to the standard deviation",
    NoEps: "no eps is added to the variance",
    LayerUnbiased: "the layer variance is unbiased over C·HW values (divisor C·HW - 1)",
    LayerBiasedInstanceUnbiased: "the instance variance is unbiased and the layer variance, over all C·HW values at "
    "once, is biased",
    LayerUnbiasedInstanceBiased: "the layer variance is unbiased over C·HW values (divisor C·HW - 1) and the instance "
    "variance biased",
    NoSpread: "the layer variance leaves out the spread of the channels' means",
    LayerAtEachPosition: "the layer statistics are taken at each position apart, over the channels",
    RunningStd: "its running variance holds standard deviations",
    LogVariance: "its running variance holds logarithms of variances",
    MixedDeviations: "standard deviations are mixed instead of variances",
    MixedOutputs: "the outputs of normalisations are mixed instead of their statistics",
    MixedModules: "the outputs of normalisations are mixed instead of their statistics",
    GroupsForLayer: "it has a GroupNorm branch of 4 groups in the place of LN",
    GroupsForBatch: "it has a GroupNorm branch of 4 groups in the place of BN",
    FrozenInstanceAndLayer: "its instance and layer statistics don't follow the input, so they are running averages in "
    "evaluation mode",
    FrozenInstance: "its instance statistics don't follow the input, so they are running averages in evaluation mode",
    ForgottenMean: "the constant part of its mean or variance isn't a share of the statistics that it stores",
    Whitening: "each channel of its output is a mixture of 4 channels of its input, so it whitens them, as Switchable "
    "Whitening does, where SN scales each channel alone",
    FourBranches: "it mixes 4 statistics, and SN has 3: IN, LN and BN",
    Clamped: "no known deviation explains it",
}

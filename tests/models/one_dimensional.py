"""1-D nets with SN: of (N, C), as published, and of (N, C, L) and (N, L, C), as ports have it."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from sn_deploy.nn import SwitchNorm1d, SwitchNorm2d, SwitchNormSequence


def vectors() -> nn.Module:
    """An encoder of vectors, as in the discriminators and classifiers that use the published layer."""
    return nn.Sequential(
        nn.Linear(12, 10), SwitchNorm1d(10), nn.ReLU(), nn.Linear(10, 6), SwitchNorm1d(6), nn.ReLU(), nn.Linear(6, 4)
    )


class Residual(nn.Module):
    """A dilated block of a temporal convolutional net."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv1d(channels, channels, 3, padding=2, dilation=2), SwitchNormSequence(channels)

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.norm(self.conv(x)) + x)


def sequences() -> nn.Module:
    stem = (nn.Conv1d(4, 8, 3), SwitchNormSequence(8), nn.ReLU())
    return nn.Sequential(*stem, Residual(8), nn.Conv1d(8, 5, 1), SwitchNormSequence(5, using_bn=False))


class PerPosition(nn.Module):
    """The published SwitchNorm1d without its check of the rank, on (N, C, L): LN over C at each position apart."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.ones(1, channels, 1)), nn.Parameter(torch.zeros(1, channels, 1))
        self.mean_weight, self.var_weight = nn.Parameter(torch.ones(2)), nn.Parameter(torch.ones(2))
        self.register_buffer("running_mean", torch.zeros(1, channels, 1))
        self.register_buffer("running_var", torch.zeros(1, channels, 1))

    def forward(self, x: Tensor) -> Tensor:
        w, v = self.mean_weight.softmax(0), self.var_weight.softmax(0)
        mean = w[0] * x.mean(1, keepdim=True) + w[1] * self.running_mean
        var = v[0] * x.var(1, keepdim=True) + v[1] * self.running_var
        return (x - mean) / (var + 1e-5).sqrt() * self.weight + self.bias


class PortOfSequences(SwitchNorm2d):
    """(N, L, C), transposed inside, with parameters (1, 1, C): a port of traffic forecasting nets."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels)
        self.weight, self.bias = (nn.Parameter(p.detach().view(1, 1, -1)) for p in (self.weight, self.bias))

    def forward(self, x: Tensor) -> Tensor:
        return normalised(self, x.transpose(1, 2)).transpose(1, 2) * self.weight + self.bias


class UnsqueezedSequences(SwitchNorm2d):
    """(N, C, L) as images of one column, of which the published layer's view is taken: a port of point-cloud nets."""

    def forward(self, x: Tensor) -> Tensor:
        images = x.unsqueeze(-1)
        n, c, h, w = images.size()
        y = normalised(self, images.view(n, c, -1)).view(n, c, h, w)
        return (y * self.weight.view(1, -1, 1, 1) + self.bias.view(1, -1, 1, 1)).squeeze(-1)


def normalised(layer: SwitchNorm2d, flat: Tensor) -> Tensor:
    """What a layer of (N, C, L) makes of it before its affine part, as published."""
    mean_in, var_in = flat.mean(-1, keepdim=True), flat.var(-1, keepdim=True)
    square = var_in + mean_in**2
    mean_ln = mean_in.mean(1, keepdim=True)
    var_ln = square.mean(1, keepdim=True) - mean_ln**2
    w, v = layer.mean_weight.softmax(0), layer.var_weight.softmax(0)
    mean = w[0] * mean_in + w[1] * mean_ln + w[2] * layer.running_mean
    var = v[0] * var_in + v[1] * var_ln + v[2] * layer.running_var
    return (flat - mean) / (var + layer.eps).sqrt()

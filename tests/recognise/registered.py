"""A variant that only a reader makes a layer of, and its reader: what docs/guides/variants.md is about."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from sn_deploy.nn import SwitchNorm2d
from sn_deploy.recognise import Reading
from tests.randomise import randomise_

C = 6


class Packed(nn.Module):
    """SN with everything in one (C, 4) tensor and two angles for shares: no tensor looks like what it is for."""

    def __init__(self, fault: float = 0.0) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        packed = torch.randn(C, 4, generator=generator)
        packed[:, 3].abs_().add_(0.5)
        self.packed, self.angles = nn.Parameter(packed), nn.Parameter(torch.tensor([[0.7, 0.4, 0.2, 0.9]]))
        self.fault = fault

    def shares(self) -> list[list[Tensor]]:
        a, b, c, d = self.angles.double()[0]
        return [[x.cos() ** 2 * y.sin() ** 2, x.sin() ** 2, x.cos() ** 2 * y.cos() ** 2] for x, y in ((a, b), (c, d))]

    def forward(self, x: Tensor) -> Tensor:
        scale, bias, mean_bn, var_bn = (column.to(x.dtype).view(-1, 1, 1) for column in self.packed.T)
        mean_in, var_in = x.mean((2, 3), keepdim=True), x.var((2, 3), keepdim=True, correction=0)
        mean_ln, var_ln = x.mean((1, 2, 3), keepdim=True), x.var((1, 2, 3), keepdim=True, correction=0)
        w, v = self.shares()
        mean = w[0] * mean_in + w[1] * mean_ln + w[2] * mean_bn
        var = v[0] * var_in + v[1] * var_ln + v[2] * var_bn
        return ((x - mean) / (var + 2e-4).sqrt() * scale + bias + self.fault * x**2).to(x.dtype)


def read(module: nn.Module) -> Reading | None:
    if not isinstance(module, Packed):
        return None
    scale, bias, running_mean, running_var = module.packed.T
    w, v = (dict(zip(("in", "ln", "bn"), shares, strict=True)) for shares in module.shares())
    return Reading(w, v, scale, bias, running_mean, running_var, eps=2e-4, ddof=0)


def net(fault: float = 0.0) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, C, 3), Packed(fault), nn.ReLU(), randomise_(SwitchNorm2d(C), 1)).eval()

"""SN2d as it was published, in a few lines of this project's own: variances by subtraction, sums over batches.

State-dict compatible with the authors' classification layer and, with ``sums_apart``, with that of their detection
code, which keeps the sums in buffers of their own.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class PublishedSwitchNorm(nn.Module):
    ddof = 1

    def __init__(self, channels: int, *, using_moving_average: bool = True, sums_apart: bool = False) -> None:
        super().__init__()
        self.eps, self.momentum, self.using_moving_average = 1e-5, 0.9, using_moving_average
        self.weight = nn.Parameter(torch.ones(1, channels, 1, 1))
        self.bias = nn.Parameter(torch.zeros(1, channels, 1, 1))
        self.mean_weight, self.var_weight = nn.Parameter(torch.ones(3)), nn.Parameter(torch.ones(3))
        for name in ("running_mean", "running_var", *(("batch_mean", "batch_var") if sums_apart else ())):
            self.register_buffer(name, torch.zeros(1, channels, 1))

    def forward(self, x: Tensor) -> Tensor:
        flat = x.flatten(2)
        mean_in, var_in = flat.mean(-1, keepdim=True), flat.var(-1, correction=self.ddof, keepdim=True)
        square = var_in + mean_in**2
        mean_ln = mean_in.mean(1, keepdim=True)
        var_ln = square.mean(1, keepdim=True) - mean_ln**2
        if self.training:
            mean_bn = mean_in.mean(0, keepdim=True)
            var_bn = square.mean(0, keepdim=True) - mean_bn**2
            self.record(mean_bn.detach(), var_bn.detach())
        else:
            mean_bn, var_bn = self.running_mean, self.running_var
        w, v = self.mean_weight.softmax(0), self.var_weight.softmax(0)
        mean = w[0] * mean_in + w[1] * mean_ln + w[2] * mean_bn
        var = v[0] * var_in + v[1] * var_ln + v[2] * var_bn
        return ((flat - mean) / (var + self.eps).sqrt()).view(x.shape) * self.weight + self.bias

    def record(self, mean: Tensor, var: Tensor) -> None:
        if self.using_moving_average:
            self.running_mean.mul_(self.momentum).add_((1 - self.momentum) * mean)
            self.running_var.mul_(self.momentum).add_((1 - self.momentum) * var)
            return
        apart = hasattr(self, "batch_mean")
        first, second = (self.batch_mean, self.batch_var) if apart else (self.running_mean, self.running_var)
        first.add_(mean)
        second.add_(mean**2 + var)

"""Residual blocks with SN: norms after the convolutions (v1, He et al. 2015) or before them (v2, He et al. 2016).

Both kinds exist with two 3x3 convolutions and with a bottleneck of three; the names of their layers are those of the
published checkpoints: ``conv1``, ``sn1``, ``conv2``, … and ``downsample``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import cast

from torch import Tensor, nn

from sn_deploy.nn import SwitchNorm2d

BOTTLENECK_EXPANSION = 4

Norm = Callable[..., SwitchNorm2d]


def convolution(inputs: int, outputs: int, size: int, stride: int = 1) -> nn.Conv2d:
    """A convolution without bias (a norm follows sooner or later) that keeps the extent at stride 1."""
    return nn.Conv2d(inputs, outputs, size, stride, padding=size // 2, bias=False)


def _branch(inputs: int, planes: int, stride: int, bottleneck: bool) -> list[nn.Conv2d]:
    if bottleneck:
        return [
            convolution(inputs, planes, 1),
            convolution(planes, planes, 3, stride),
            convolution(planes, planes * BOTTLENECK_EXPANSION, 1),
        ]
    return [convolution(inputs, planes, 3, stride), convolution(planes, planes, 3)]


class _Block(nn.Module):
    """A residual branch of convolutions and norms, numbered from 1, and a projection where the shape changes."""

    downsample: nn.Module | None

    def __init__(self, depth: int) -> None:
        super().__init__()
        self.depth = depth
        self.relu = nn.ReLU(inplace=True)

    def _steps(self) -> Iterator[tuple[nn.Module, nn.Module]]:
        for i in range(1, self.depth + 1):
            # By name each time, since layers get replaced by assignment to their attribute.
            yield cast(nn.Module, getattr(self, f"conv{i}")), cast(nn.Module, getattr(self, f"sn{i}"))


class BlockV1(_Block):
    """``relu(x + (conv, SN, relu, …, conv, SN)(x))``; ``last_gamma`` starts the branch at zero."""

    def __init__(self, inputs: int, planes: int, stride: int, bottleneck: bool, norm: Norm, last_gamma: bool) -> None:
        convolutions = _branch(inputs, planes, stride, bottleneck)
        super().__init__(len(convolutions))
        for i, conv in enumerate(convolutions, 1):
            self.add_module(f"conv{i}", conv)
            self.add_module(f"sn{i}", norm(conv.out_channels, last_gamma=last_gamma and i == self.depth))
        outputs = convolutions[-1].out_channels
        self.downsample = None
        if stride != 1 or inputs != outputs:
            self.downsample = nn.Sequential(convolution(inputs, outputs, 1, stride), norm(outputs))

    def forward(self, x: Tensor) -> Tensor:
        """(N, inputs, H, W) to (N, outputs, H/stride, W/stride)."""
        y = x
        for i, (conv, sn) in enumerate(self._steps(), 1):
            y = sn(conv(y))
            if i < self.depth:
                y = self.relu(y)
        residual = x if self.downsample is None else self.downsample(x)
        return cast(Tensor, self.relu(y + residual))


class BlockV2(_Block):
    """``x + (SN, relu, conv, …, SN, relu, conv)(x)``; a projection takes its input after the first SN and relu."""

    def __init__(self, inputs: int, planes: int, stride: int, bottleneck: bool, norm: Norm) -> None:
        convolutions = _branch(inputs, planes, stride, bottleneck)
        super().__init__(len(convolutions))
        for i, conv in enumerate(convolutions, 1):
            self.add_module(f"sn{i}", norm(conv.in_channels))
            self.add_module(f"conv{i}", conv)
        outputs = convolutions[-1].out_channels
        self.downsample = None
        if stride != 1 or inputs != outputs:
            self.downsample = convolution(inputs, outputs, 1, stride)

    def forward(self, x: Tensor) -> Tensor:
        """(N, inputs, H, W) to (N, outputs, H/stride, W/stride)."""
        y, residual = x, x
        for i, (conv, sn) in enumerate(self._steps(), 1):
            y = self.relu(sn(y))
            if i == 1 and self.downsample is not None:
                residual = self.downsample(y)
            y = conv(y)
        return y + residual

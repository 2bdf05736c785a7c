"""Video (Kinetics): an I3D ResNet-50 with SN3d (Carreau and Zisserman, 2017; non-local blocks, Wang et al., 2018).

The papers published the layer; the net is the public one for Kinetics, its norms replaced, so that ``state_dict`` loads
what a training of that makes. Its norms keep their names (``bn1``, …).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn

from sn_deploy.models.blocks import BOTTLENECK_EXPANSION
from sn_deploy.models.resnet import STAGE_PLANES, STEM_CHANNELS
from sn_deploy.nn import SwitchNorm3d

# Whether the first convolution of each block looks at neighbouring frames, in turn.
_INFLATED: tuple[tuple[bool, ...], ...] = ((True,), (True, False), (True, False), (False, True))


class I3DBlock(nn.Module):
    """An inflated bottleneck: 3x1x1 or 1x1x1, 1x3x3, 1x1x1, SN after each; and a non-local block behind it or not."""

    def __init__(self, inputs: int, planes: int, stride: int, inflated: bool, non_local: bool) -> None:
        super().__init__()
        outputs = planes * BOTTLENECK_EXPANSION
        frames = 3 if inflated else 1
        self.conv1 = nn.Conv3d(inputs, planes, (frames, 1, 1), padding=(frames // 2, 0, 0), bias=False)
        self.bn1 = SwitchNorm3d(planes)
        self.conv2 = nn.Conv3d(planes, planes, (1, 3, 3), (1, stride, stride), padding=(0, 1, 1), bias=False)
        self.bn2 = SwitchNorm3d(planes)
        self.conv3 = nn.Conv3d(planes, outputs, 1, bias=False)
        self.bn3 = SwitchNorm3d(outputs)
        self.relu = nn.ReLU(inplace=True)
        self.downsample: nn.Module | None = None
        if stride != 1 or inputs != outputs:
            projection = nn.Conv3d(inputs, outputs, 1, (1, stride, stride), bias=False)
            self.downsample = nn.Sequential(projection, SwitchNorm3d(outputs))
        self.nl = NonLocal(outputs) if non_local else None

    def forward(self, x: Tensor) -> Tensor:
        """(N, inputs, T, H, W) to (N, outputs, T, H/stride, W/stride)."""
        y = self.relu(self.bn1(self.conv1(x)))
        y = self.relu(self.bn2(self.conv2(y)))
        y = self.bn3(self.conv3(y))
        residual = x if self.downsample is None else self.downsample(x)
        y = self.relu(y + residual)
        return cast(Tensor, y if self.nl is None else self.nl(y))


class NonLocal(nn.Module):
    """Each position and frame adds what it finds at all others: scaled dot products, SN, a residual."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.inner = channels // 2
        self.theta, self.phi, self.g = (nn.Conv3d(channels, self.inner, 1) for _ in range(3))
        self.maxpool = nn.MaxPool3d((1, 2, 2), stride=(1, 2, 2))
        self.out = nn.Conv3d(self.inner, channels, 1)
        self.bn = SwitchNorm3d(channels)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, T, H, W) to the same."""
        pooled = self.maxpool(x)
        asked = self.theta(x)
        shape = asked.shape
        asked, found, value = (part.flatten(2) for part in (asked, self.phi(pooled), self.g(pooled)))  # (N, C/2, THW)
        shares = (torch.bmm(asked.transpose(1, 2), found) * self.inner**-0.5).softmax(-1)
        gathered = torch.bmm(value, shares.transpose(1, 2)).view(shape)
        return cast(Tensor, self.bn(self.out(gathered)) + x)


class I3DResNetSN(nn.Module):
    """Clips to classes.

    Args:
        depths: blocks in each of the four stages.
        num_classes: outputs.
        non_local: a non-local block behind every second block of the middle stages.
        planes: channels of the 1x3x3 convolutions in each stage.
    """

    layer1: nn.Module
    layer2: nn.Module
    layer3: nn.Module
    layer4: nn.Module

    def __init__(
        self,
        depths: Sequence[int] = (3, 4, 6, 3),
        num_classes: int = 400,
        non_local: bool = False,
        planes: Sequence[int] = STAGE_PLANES,
    ) -> None:
        super().__init__()
        self.conv1 = nn.Conv3d(3, STEM_CHANNELS, (5, 7, 7), stride=2, padding=(2, 3, 3), bias=False)
        self.bn1 = SwitchNorm3d(STEM_CHANNELS)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool1 = nn.MaxPool3d((2, 3, 3), stride=2)
        self.maxpool2 = nn.MaxPool3d((2, 1, 1), stride=(2, 1, 1))
        inputs = STEM_CHANNELS
        for i, (width, depth) in enumerate(zip(planes, depths, strict=True)):
            blocks = []
            for j in range(depth):
                inflated = _INFLATED[i][j % len(_INFLATED[i])]
                gathers = non_local and i in (1, 2) and j % 2 == 1
                blocks.append(I3DBlock(inputs, width, 2 if i and j == 0 else 1, inflated, gathers))
                inputs = width * BOTTLENECK_EXPANSION
            self.add_module(f"layer{i + 1}", nn.Sequential(*blocks))
        self.avgpool = nn.AdaptiveAvgPool3d(1)
        self.drop = nn.Dropout(0.5)
        self.fc = nn.Linear(inputs, num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv3d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out")

    def forward(self, x: Tensor) -> Tensor:
        """Clips (N, 3, T, H, W), T at least 16 and above, to logits (N, num_classes)."""
        x = self.maxpool1(self.relu(self.bn1(self.conv1(x))))
        x = self.maxpool2(self.layer1(x))
        for stage in (self.layer2, self.layer3, self.layer4):
            x = stage(x)
        return cast(Tensor, self.fc(self.drop(self.avgpool(x)).flatten(1)))


def i3dsn50(**options: Any) -> I3DResNetSN:
    """An I3D ResNet with 50 layers; options as in `I3DResNetSN`."""
    return I3DResNetSN((3, 4, 6, 3), **options)

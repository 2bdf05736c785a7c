"""Face recognition (MegaFace): the published "improved" residual nets, whose ``state_dict`` loads their checkpoints.

Those of the nets with SyncSN, too: synchronised over processes or not, the state is the same, and so is evaluation.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any, cast

import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from sn_deploy.models.blocks import convolution
from sn_deploy.nn import SwitchNorm2d

EMBEDDING = 512
IMAGE_SIZE = 112
_Norm = partial(SwitchNorm2d, eps=2e-5)


class FaceBlock(nn.Module):
    """``prelu(x + (SN, conv, SN, prelu, conv, SN)(x))``, the branch weighted by channel where there is squeezing."""

    def __init__(self, inputs: int, planes: int, stride: int, use_se: bool) -> None:
        super().__init__()
        self.norm1 = _Norm(inputs)
        self.conv1 = convolution(inputs, planes, 3)
        self.norm2 = _Norm(planes)
        self.conv2 = convolution(planes, planes, 3, stride)
        self.norm3 = _Norm(planes)
        self.prelu = nn.PReLU()
        self.downsample: nn.Module | None = None
        if stride != 1 or inputs != planes:
            self.downsample = nn.Sequential(convolution(inputs, planes, 1, stride), _Norm(planes))
        self.se = SqueezeExcitation(planes) if use_se else None

    def forward(self, x: Tensor) -> Tensor:
        """(N, inputs, H, W) to (N, planes, H/stride, W/stride)."""
        y = self.prelu(self.norm2(self.conv1(self.norm1(x))))
        y = self.norm3(self.conv2(y))
        if self.se is not None:
            y = self.se(y)
        residual = x if self.downsample is None else self.downsample(x)
        return cast(Tensor, self.prelu(y + residual))


class SqueezeExcitation(nn.Module):
    """Weighs each channel by what the means of all say (Hu et al., 2018)."""

    def __init__(self, channels: int, reduction: int = 16) -> None:
        super().__init__()
        self.avg_pool = nn.AdaptiveAvgPool2d(1)
        self.fc1 = nn.Conv2d(channels, channels // reduction, 1, bias=False)
        self.pelu = nn.PReLU()  # the published code's spelling
        self.fc2 = nn.Conv2d(channels // reduction, channels, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to the same."""
        return cast(Tensor, x * self.fc2(self.pelu(self.fc1(self.avg_pool(x)))).sigmoid())


class FaceResNetSN(nn.Module):
    """A face as a unit vector: two are of one person if their cosine is large.

    Args:
        depths: blocks in each stage.
        use_se: with squeeze and excitation.
        widths: channels of each stage.
        embedding: length of the vector.
        image_size: height and width of the aligned face; each stage halves it.
    """

    def __init__(
        self,
        depths: Sequence[int],
        use_se: bool = False,
        widths: Sequence[int] = (64, 128, 256, 512),
        embedding: int = EMBEDDING,
        image_size: int = IMAGE_SIZE,
    ) -> None:
        super().__init__()
        self.conv1 = convolution(3, widths[0], 3)
        self.norm1 = _Norm(widths[0])
        self.prelu = nn.PReLU()
        inputs, self.stages = widths[0], len(depths)
        for i, (planes, depth) in enumerate(zip(widths, depths, strict=True), 1):
            blocks = [FaceBlock(inputs if j == 0 else planes, planes, 2 if j == 0 else 1, use_se) for j in range(depth)]
            self.add_module(f"layer{i}", nn.Sequential(*blocks))
            inputs = planes
        extent = image_size // 2**self.stages
        self.output_layer = nn.Sequential(
            _Norm(inputs),
            nn.Dropout(0.4),
            nn.Flatten(),
            nn.Linear(inputs * extent**2, embedding),
            nn.BatchNorm1d(embedding),
        )
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: Tensor) -> Tensor:
        """Aligned faces (N, 3, 112, 112) to unit vectors (N, 512)."""
        x = self.prelu(self.norm1(self.conv1(x)))
        for i in range(1, self.stages + 1):
            x = getattr(self, f"layer{i}")(x)
        return F.normalize(self.output_layer(x))


def faceresnetsn18(**options: Any) -> FaceResNetSN:
    """The published ``resnet18``; options as in `FaceResNetSN`."""
    return FaceResNetSN((2, 2, 2, 2), **options)


def faceresnetsn34(**options: Any) -> FaceResNetSN:
    """The published ``resnet34``; options as in `FaceResNetSN`."""
    return FaceResNetSN((3, 4, 6, 3), **options)


def faceresnetsn50(**options: Any) -> FaceResNetSN:
    """The published ``resnet50``, the one of the published configurations; options as in `FaceResNetSN`."""
    return FaceResNetSN((3, 4, 14, 3), **options)


def faceresnetsn100(**options: Any) -> FaceResNetSN:
    """The published ``resnet100``; options as in `FaceResNetSN`."""
    return FaceResNetSN((3, 13, 30, 3), **options)

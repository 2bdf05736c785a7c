"""ResNet v1 and v2 with SN, whose ``state_dict`` loads the checkpoints Luo et al. published for ImageNet.

The head pools over whatever extent is left, so inputs other than 224x224 work; at 224 it is the published 7x7 pooling.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, cast

from torch import Tensor, nn

from sn_deploy.models.blocks import BOTTLENECK_EXPANSION, BlockV1, BlockV2, Norm, convolution
from sn_deploy.nn import SparseSwitchNorm2d, SwitchNorm2d

STEM_CHANNELS = 64
STAGE_PLANES = (64, 128, 256, 512)


class _ResNet(nn.Module):
    layer1: nn.Module
    layer2: nn.Module
    layer3: nn.Module
    layer4: nn.Module
    sn_out: SwitchNorm2d | None

    def __init__(
        self,
        block: Callable[[int, int, int], nn.Module],
        depths: Sequence[int],
        expansion: int,
        num_classes: int,
        norm: Norm,
        norm_out: bool,
        planes: Sequence[int] = STAGE_PLANES,
    ) -> None:
        super().__init__()
        self.conv1 = convolution(3, STEM_CHANNELS, 7, stride=2)
        self.sn1 = norm(STEM_CHANNELS)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1)
        inputs = STEM_CHANNELS
        for i, (width, depth) in enumerate(zip(planes, depths, strict=True), 1):
            first = block(inputs, width, 1 if i == 1 else 2)
            inputs = width * expansion
            self.add_module(f"layer{i}", nn.Sequential(first, *(block(inputs, width, 1) for _ in range(depth - 1))))
        self.sn_out = norm(inputs) if norm_out else None
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.drouput = nn.Dropout(0.5)  # the published code's spelling
        self.fc = nn.Linear(inputs, num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: Tensor) -> Tensor:
        """Images (N, 3, H, W), one of H and W above 32, to logits (N, num_classes)."""
        x = self.maxpool(self.relu(self.sn1(self.conv1(x))))
        for stage in (self.layer1, self.layer2, self.layer3, self.layer4):
            x = stage(x)
        if self.sn_out is not None:
            x = self.relu(self.sn_out(x))
        return cast(Tensor, self.fc(self.drouput(self.avgpool(x).flatten(1))))


class ResNetV1SN(_ResNet):
    """ResNet with SN after each convolution.

    Args:
        depths: blocks in each of the four stages.
        bottleneck: three convolutions a block, 1x1, 3x3 and 1x1, instead of two of 3x3.
        num_classes: outputs.
        using_moving_average, using_bn: of each SN layer, see `SwitchNorm2d`.
        last_gamma: start each residual branch at zero.
        planes: channels of the 3x3 convolutions in each stage.
    """

    def __init__(
        self,
        depths: Sequence[int],
        bottleneck: bool,
        num_classes: int = 1000,
        using_moving_average: bool = True,
        using_bn: bool = True,
        last_gamma: bool = True,
        planes: Sequence[int] = STAGE_PLANES,
    ) -> None:
        norm = partial(SwitchNorm2d, using_moving_average=using_moving_average, using_bn=using_bn)
        block = partial(BlockV1, bottleneck=bottleneck, norm=norm, last_gamma=last_gamma)
        expansion = BOTTLENECK_EXPANSION if bottleneck else 1
        super().__init__(block, depths, expansion, num_classes, norm, norm_out=False, planes=planes)


class ResNetV2SN(_ResNet):
    """ResNet with SN before each convolution, and one before the pooling; arguments as in `ResNetV1SN`."""

    def __init__(
        self,
        depths: Sequence[int],
        bottleneck: bool,
        num_classes: int = 1000,
        using_moving_average: bool = True,
        using_bn: bool = True,
    ) -> None:
        norm = partial(SwitchNorm2d, using_moving_average=using_moving_average, using_bn=using_bn)
        block = partial(BlockV2, bottleneck=bottleneck, norm=norm)
        expansion = BOTTLENECK_EXPANSION if bottleneck else 1
        super().__init__(block, depths, expansion, num_classes, norm, norm_out=True)


class ResNetV1SSN(_ResNet):
    """ResNet v1 with sparse SN, whose ``state_dict`` loads the published checkpoints; its constructor needs no CUDA.

    Arguments as in `ResNetV1SN`. The published pooling after the stem has no padding, so the maps are those of v1 at
    sizes that 4 divides.
    """

    def __init__(
        self,
        depths: Sequence[int],
        bottleneck: bool,
        num_classes: int = 1000,
        using_moving_average: bool = True,
        last_gamma: bool = True,
        planes: Sequence[int] = STAGE_PLANES,
    ) -> None:
        norm = partial(SparseSwitchNorm2d, using_moving_average=using_moving_average)
        block = partial(BlockV1, bottleneck=bottleneck, norm=norm, last_gamma=last_gamma)
        expansion = BOTTLENECK_EXPANSION if bottleneck else 1
        super().__init__(block, depths, expansion, num_classes, norm, norm_out=False, planes=planes)
        self.maxpool = nn.MaxPool2d(3, stride=2, ceil_mode=True)


def resnetv1sn18(**options: Any) -> ResNetV1SN:
    """ResNet v1 with 18 layers; options as in `ResNetV1SN`."""
    return ResNetV1SN((2, 2, 2, 2), bottleneck=False, **options)


def resnetv1sn34(**options: Any) -> ResNetV1SN:
    """ResNet v1 with 34 layers; options as in `ResNetV1SN`."""
    return ResNetV1SN((3, 4, 6, 3), bottleneck=False, **options)


def resnetv1sn50(**options: Any) -> ResNetV1SN:
    """ResNet v1 with 50 layers; options as in `ResNetV1SN`."""
    return ResNetV1SN((3, 4, 6, 3), bottleneck=True, **options)


def resnetv1sn101(**options: Any) -> ResNetV1SN:
    """ResNet v1 with 101 layers; options as in `ResNetV1SN`."""
    return ResNetV1SN((3, 4, 23, 3), bottleneck=True, **options)


def resnetv1sn152(**options: Any) -> ResNetV1SN:
    """ResNet v1 with 152 layers; options as in `ResNetV1SN`."""
    return ResNetV1SN((3, 8, 36, 3), bottleneck=True, **options)


def resnetv2sn18(**options: Any) -> ResNetV2SN:
    """ResNet v2 with 18 layers; options as in `ResNetV2SN`."""
    return ResNetV2SN((2, 2, 2, 2), bottleneck=False, **options)


def resnetv2sn34(**options: Any) -> ResNetV2SN:
    """ResNet v2 with 34 layers; options as in `ResNetV2SN`."""
    return ResNetV2SN((3, 4, 6, 3), bottleneck=False, **options)


def resnetv2sn50(**options: Any) -> ResNetV2SN:
    """ResNet v2 with 50 layers; options as in `ResNetV2SN`."""
    return ResNetV2SN((3, 4, 6, 3), bottleneck=True, **options)


def resnetv2sn101(**options: Any) -> ResNetV2SN:
    """ResNet v2 with 101 layers; options as in `ResNetV2SN`."""
    return ResNetV2SN((3, 4, 23, 3), bottleneck=True, **options)


def resnetv2sn152(**options: Any) -> ResNetV2SN:
    """ResNet v2 with 152 layers; options as in `ResNetV2SN`."""
    return ResNetV2SN((3, 8, 36, 3), bottleneck=True, **options)


def resnetv1ssn18(**options: Any) -> ResNetV1SSN:
    """ResNet v1 with 18 layers and sparse SN; options as in `ResNetV1SSN`."""
    return ResNetV1SSN((2, 2, 2, 2), bottleneck=False, **options)


def resnetv1ssn50(**options: Any) -> ResNetV1SSN:
    """ResNet v1 with 50 layers and sparse SN; options as in `ResNetV1SSN`."""
    return ResNetV1SSN((3, 4, 6, 3), bottleneck=True, **options)


def resnetv1ssn101(**options: Any) -> ResNetV1SSN:
    """ResNet v1 with 101 layers and sparse SN; options as in `ResNetV1SSN`."""
    return ResNetV1SSN((3, 4, 23, 3), bottleneck=True, **options)

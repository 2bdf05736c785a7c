"""Segmentation (ADE20K, CityScapes): dilated SN ResNets with the published heads, which load their checkpoints.

The strides of the last two stages become dilations, so that the features are 1/8 of the image's size.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import cast

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from sn_deploy.capture.pooling import pool
from sn_deploy.errors import SnDeployError
from sn_deploy.models.blocks import BOTTLENECK_EXPANSION
from sn_deploy.models.resnet import STAGE_PLANES, ResNetV1SN
from sn_deploy.nn import SwitchNorm2d

_PYRAMID_CHANNELS = 512


class SegmentationSN(nn.Module):
    """The published ADE20K models: ``encoder`` and ``decoder``, each with its checkpoint.

    Args:
        depths: bottleneck blocks in each of the four stages.
        num_classes: classes of a pixel.
        head: ``c1``: one convolution, as in the published results; ``ppm``: pyramid pooling (PSPNet).
        deep_supervision: with the layers that only training uses, as the published checkpoints have.
        pool_scales: of ``ppm``. The published code has 1 among them, where SN divides by an unbiased variance of one
            position, which has no value: its output is NaN. So 1 is refused.
        planes: channels of the 3x3 convolutions in each stage.
    """

    def __init__(
        self,
        depths: Sequence[int] = (3, 4, 6, 3),
        num_classes: int = 150,
        head: str = "c1",
        deep_supervision: bool = True,
        pool_scales: Sequence[int] = (2, 3, 6),
        planes: Sequence[int] = STAGE_PLANES,
    ) -> None:
        super().__init__()
        self.encoder = _Encoder(depths, planes)
        features = planes[-1] * BOTTLENECK_EXPANSION
        if head == "c1":
            self.decoder: nn.Module = _C1(features, num_classes, deep_supervision)
        elif head == "ppm":
            self.decoder = _Pyramid(features, num_classes, deep_supervision, pool_scales)
        else:
            raise SnDeployError(f"head is {head!r}", where=type(self).__name__, expected="c1 or ppm")

    def forward(self, x: Tensor) -> Tensor:
        """Images (N, 3, H, W) to the probability of each pixel's classes, (N, classes, H, W)."""
        scores = self.decoder(self.encoder(x))
        return F.interpolate(scores, size=x.shape[2:], mode="bilinear", align_corners=False).softmax(1)


class CityscapesSN(nn.Module):
    """The published CityScapes model, in evaluation.

    Args:
        depths: bottleneck blocks in each of the four stages.
        num_classes: classes of a pixel.
        auxiliary: with the layers that only training uses, as the published checkpoints have.
        planes: channels of the 3x3 convolutions in each stage.
    """

    layer1: nn.Module
    layer2: nn.Module
    layer3: nn.Module
    layer4: nn.Module

    def __init__(
        self,
        depths: Sequence[int] = (3, 4, 6, 3),
        num_classes: int = 19,
        auxiliary: bool = True,
        planes: Sequence[int] = STAGE_PLANES,
    ) -> None:
        super().__init__()
        resnet = ResNetV1SN(depths, bottleneck=True, num_classes=1, planes=planes)
        self.layer0 = nn.Sequential(resnet.conv1, resnet.sn1, resnet.relu, resnet.maxpool)
        for i in range(1, 5):
            self.add_module(f"layer{i}", getattr(resnet, f"layer{i}"))
        for convolution in _strided(self.layer3):
            _dilate(convolution, 2)
        for convolution in _strided(self.layer4):
            _dilate(convolution, 4)
        features = planes[-1] * BOTTLENECK_EXPANSION
        self.cls = _classifier(features, _PYRAMID_CHANNELS, num_classes)
        self.aux = _classifier(planes[-2] * BOTTLENECK_EXPANSION, 256, num_classes) if auxiliary else None

    def forward(self, x: Tensor) -> Tensor:
        """Images (N, 3, H, W), H and W one above multiples of 8 (713), to log-probabilities (N, classes, H, W)."""
        size = x.shape[2:]
        for stage in (self.layer0, self.layer1, self.layer2, self.layer3, self.layer4, self.cls):
            x = stage(x)
        return F.interpolate(x, size=size, mode="bilinear", align_corners=True).log_softmax(1)


class _Encoder(nn.Module):
    layer1: nn.Module
    layer2: nn.Module
    layer3: nn.Module
    layer4: nn.Module

    def __init__(self, depths: Sequence[int], planes: Sequence[int]) -> None:
        super().__init__()
        resnet = ResNetV1SN(depths, bottleneck=True, num_classes=1, planes=planes)
        self.conv1, self.sn1, self.relu, self.maxpool = resnet.conv1, resnet.sn1, resnet.relu, resnet.maxpool
        for i in range(1, 5):
            self.add_module(f"layer{i}", getattr(resnet, f"layer{i}"))
        for stage, dilation in ((self.layer3, 2), (self.layer4, 4)):
            for convolution in _strided(stage):
                # As published: what had the stride is dilated half as much as the rest.
                _dilate(convolution, dilation // 2 if convolution.stride == (2, 2) else dilation)

    def forward(self, x: Tensor) -> list[Tensor]:
        """(N, 3, H, W) to the maps of the four stages."""
        x = self.maxpool(self.relu(self.sn1(self.conv1(x))))
        maps = []
        for stage in (self.layer1, self.layer2, self.layer3, self.layer4):
            x = stage(x)
            maps.append(x)
        return maps


def _strided(stage: nn.Module) -> Iterator[nn.Conv2d]:
    """The convolutions of a stage that have a stride or look at neighbours."""
    for module in stage.modules():
        if isinstance(module, nn.Conv2d) and (module.kernel_size == (3, 3) or module.stride == (2, 2)):
            yield module


def _dilate(convolution: nn.Conv2d, dilation: int) -> None:
    convolution.stride = (1, 1)
    if convolution.kernel_size == (3, 3):
        convolution.dilation, convolution.padding = (dilation, dilation), (dilation, dilation)


def _convolution(inputs: int, outputs: int, size: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, size, padding=size // 2, bias=False), SwitchNorm2d(outputs), nn.ReLU(inplace=True)
    )


def _classifier(inputs: int, channels: int, num_classes: int) -> nn.Sequential:
    return nn.Sequential(
        *_convolution(inputs, channels, 3), nn.Dropout2d(0.1), nn.Conv2d(channels, num_classes, kernel_size=1)
    )


class _DeeplySupervised(nn.Module):
    """A head with the layers that training alone uses."""

    def __init__(self, features: int, num_classes: int, deep_supervision: bool) -> None:
        super().__init__()
        if deep_supervision:
            self.cbr_deepsup = _convolution(features // 2, features // 4, 3)
            self.conv_last_deepsup = nn.Conv2d(features // 4, num_classes, 1)


class _C1(_DeeplySupervised):
    def __init__(self, features: int, num_classes: int, deep_supervision: bool) -> None:
        super().__init__(features, num_classes, deep_supervision)
        self.cbr = _convolution(features, features // 4, 3)
        self.conv_last = nn.Conv2d(features // 4, num_classes, 1)

    def forward(self, maps: list[Tensor]) -> Tensor:
        return cast(Tensor, self.conv_last(self.cbr(maps[-1])))


class _Pyramid(_DeeplySupervised):
    def __init__(self, features: int, num_classes: int, deep_supervision: bool, pool_scales: Sequence[int]) -> None:
        super().__init__(features, num_classes, deep_supervision)
        if min(pool_scales) < 2:
            raise SnDeployError(
                f"pool_scales are {tuple(pool_scales)}: SN's unbiased variance of one position has no value",
                where="SegmentationSN",
                expected="2 or more",
                mend="leave that scale out and fine-tune",
            )
        self.ppm = nn.ModuleList(
            nn.Sequential(AdaptiveAveragePool(scale), *_convolution(features, _PYRAMID_CHANNELS, 1))
            for scale in pool_scales
        )
        channels = features + len(pool_scales) * _PYRAMID_CHANNELS
        self.conv_last = _classifier(channels, _PYRAMID_CHANNELS, num_classes)

    def forward(self, maps: list[Tensor]) -> Tensor:
        last = maps[-1]
        size = last.shape[2:]
        pooled = [F.interpolate(branch(last), size=size, mode="bilinear", align_corners=False) for branch in self.ppm]
        return cast(Tensor, self.conv_last(torch.cat([last, *pooled], 1)))


class AdaptiveAveragePool(nn.Module):
    """Means over ``cells`` x ``cells`` parts of an image, as torch's own, whose own export holds for one size alone."""

    def __init__(self, cells: int) -> None:
        super().__init__()
        self.cells = cells

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to (N, C, cells, cells)."""
        return pool(x, (self.cells, self.cells))

"""Detection (COCO): the body, box head and mask head of the published Mask R-CNN, which load its checkpoints.

What makes proposals of the pyramid's maps, and cuts RoIs out of them, has no SN and is each detector's own.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any, cast

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from sn_deploy.models.blocks import BOTTLENECK_EXPANSION, BlockV1, Norm, convolution
from sn_deploy.models.resnet import STAGE_PLANES, STEM_CHANNELS
from sn_deploy.nn import SwitchNorm2d

PYRAMID_CHANNELS = 256
CLASSES = 81  # COCO's 80 and the background


class DetectionSwitchNorm(SwitchNorm2d):
    """The detection code's layer; arguments as in `SwitchNorm2d`.

    Where training sums batch averages the sums have buffers of their own, ``batch_mean`` and ``batch_var``, which
    evaluation doesn't read: `sn_deploy.recognise.finalize_batch_average_` divides them.
    """

    batch_mean: Tensor
    batch_var: Tensor

    def __init__(
        self, num_features: int, using_moving_average: bool = True, using_bn: bool = True, last_gamma: bool = False
    ) -> None:
        super().__init__(
            num_features,
            momentum=0.997,
            using_moving_average=using_moving_average,
            using_bn=using_bn,
            last_gamma=last_gamma,
        )
        if using_bn and not using_moving_average:
            self.register_buffer("batch_mean", torch.zeros(1, num_features, 1))
            self.register_buffer("batch_var", torch.zeros(1, num_features, 1))


class MaskRCNNBodySN(nn.Module):
    """ResNet and feature pyramid (Lin et al., 2017), SN after each convolution.

    Args:
        depths: bottleneck blocks in each of the four stages.
        using_moving_average, using_bn: of each SN layer, see `DetectionSwitchNorm`.
        planes: channels of the 3x3 convolutions in each stage.
        channels: of each of the pyramid's maps.
    """

    def __init__(
        self,
        depths: Sequence[int] = (3, 4, 6, 3),
        using_moving_average: bool = True,
        using_bn: bool = True,
        planes: Sequence[int] = STAGE_PLANES,
        channels: int = PYRAMID_CHANNELS,
    ) -> None:
        super().__init__()
        norm = _norm(using_moving_average, using_bn)
        widths = [width * BOTTLENECK_EXPANSION for width in reversed(planes)]  # the coarsest first
        self.conv_top = _convolution(widths[0], channels, 1, norm)
        self.topdown_lateral_modules = nn.ModuleList(_Lateral(width, channels, norm) for width in widths[1:])
        self.posthoc_modules = nn.ModuleList(_convolution(channels, channels, 3, norm) for _ in widths)
        self.conv_body = _Body(depths, planes, norm)

    def forward(self, x: Tensor) -> list[Tensor]:
        """Images (N, 3, H, W), H and W multiples of 32, to maps at 1/64, 1/32, 1/16, 1/8 and 1/4 of their size."""
        stages = self.conv_body(x)
        inner = [self.conv_top(stages[-1])]
        for lateral, stage in zip(self.topdown_lateral_modules, reversed(stages[:-1]), strict=True):
            inner.append(lateral(inner[-1], stage))
        maps = [posthoc(level) for posthoc, level in zip(self.posthoc_modules, inner, strict=True)]
        return [F.max_pool2d(maps[0], 1, stride=2), *maps]


class BoxHeadSN(nn.Module):
    """Classes and boxes of RoIs: convolutions with SN, a hidden layer, and the two outputs.

    Args:
        num_classes: with the background.
        convolutions: how many.
        using_moving_average, using_bn: of each SN layer, see `DetectionSwitchNorm`.
        channels: of the RoIs and of the convolutions.
        hidden: width of the hidden layer.
        resolution: height and width of a RoI.
    """

    def __init__(
        self,
        num_classes: int = CLASSES,
        convolutions: int = 4,
        using_moving_average: bool = True,
        using_bn: bool = True,
        channels: int = PYRAMID_CHANNELS,
        hidden: int = 1024,
        resolution: int = 7,
    ) -> None:
        super().__init__()
        self.head = _BoxFeatures(convolutions, channels, hidden, resolution, _norm(using_moving_average, using_bn))
        self.outputs = _BoxOutputs(hidden, num_classes)

    def forward(self, rois: Tensor) -> tuple[Tensor, Tensor]:
        """(R, channels, resolution, resolution) to probabilities (R, classes) and boxes (R, 4·classes); R may be 0."""
        return cast(tuple[Tensor, Tensor], self.outputs(self.head(rois)))


class MaskHeadSN(nn.Module):
    """A mask of each class for RoIs: convolutions with SN, twice the resolution, and the output.

    Args:
        num_classes: with the background.
        convolutions: how many.
        using_moving_average, using_bn: of each SN layer, see `DetectionSwitchNorm`.
        channels: of the RoIs and of the convolutions.
    """

    def __init__(
        self,
        num_classes: int = CLASSES,
        convolutions: int = 4,
        using_moving_average: bool = True,
        using_bn: bool = True,
        channels: int = PYRAMID_CHANNELS,
    ) -> None:
        super().__init__()
        self.head = _MaskFeatures(convolutions, channels, _norm(using_moving_average, using_bn))
        self.outputs = _MaskOutputs(channels, num_classes)

    def forward(self, rois: Tensor) -> Tensor:
        """(R, channels, H, W) to probabilities (R, classes, 2H, 2W); R may be 0."""
        return cast(Tensor, self.outputs(self.head(rois)))


def maskrcnnsn50_body(**options: Any) -> MaskRCNNBodySN:
    """The body with a ResNet of 50 layers; options as in `MaskRCNNBodySN`."""
    return MaskRCNNBodySN((3, 4, 6, 3), **options)


def maskrcnnsn101_body(**options: Any) -> MaskRCNNBodySN:
    """The body with a ResNet of 101 layers; options as in `MaskRCNNBodySN`."""
    return MaskRCNNBodySN((3, 4, 23, 3), **options)


def _norm(using_moving_average: bool, using_bn: bool) -> Norm:
    return partial(DetectionSwitchNorm, using_moving_average=using_moving_average, using_bn=using_bn)


def _convolution(inputs: int, outputs: int, size: int, norm: Norm) -> nn.Sequential:
    return nn.Sequential(convolution(inputs, outputs, size), norm(outputs))


def _convolutions(count: int, channels: int, norm: Norm) -> nn.Sequential:
    layers: list[nn.Module] = []
    for _ in range(count):
        layers += [*_convolution(channels, channels, 3, norm), nn.ReLU(inplace=True)]
    return nn.Sequential(*layers)


class _Body(nn.Module):
    """The ResNet, its stem called ``res1`` and its stages ``res2`` to ``res5``."""

    def __init__(self, depths: Sequence[int], planes: Sequence[int], norm: Norm) -> None:
        super().__init__()
        self.res1 = nn.Sequential()
        self.res1.add_module("conv1", convolution(3, STEM_CHANNELS, 7, stride=2))
        self.res1.add_module("sn1", norm(STEM_CHANNELS))
        self.res1.add_module("relu", nn.ReLU(inplace=True))
        self.res1.add_module("maxpool", nn.MaxPool2d(3, stride=2, padding=1))
        self.stages = len(depths)
        inputs = STEM_CHANNELS
        for i, (width, depth) in enumerate(zip(planes, depths, strict=True)):
            outputs = width * BOTTLENECK_EXPANSION
            blocks = [
                BlockV1(inputs if j == 0 else outputs, width, 2 if i and j == 0 else 1, True, norm, last_gamma=False)
                for j in range(depth)
            ]
            self.add_module(f"res{i + 2}", nn.Sequential(*blocks))
            inputs = outputs

    def forward(self, x: Tensor) -> list[Tensor]:
        """(N, 3, H, W) to the maps of the stages."""
        x = self.res1(x)
        maps = []
        for i in range(self.stages):
            x = getattr(self, f"res{i + 2}")(x)
            maps.append(x)
        return maps


class _Lateral(nn.Module):
    def __init__(self, inputs: int, channels: int, norm: Norm) -> None:
        super().__init__()
        self.conv_lateral = _convolution(inputs, channels, 1, norm)

    def forward(self, above: Tensor, stage: Tensor) -> Tensor:
        """A stage's map and, at half its size, the level above, to a level."""
        return cast(Tensor, self.conv_lateral(stage) + F.interpolate(above, scale_factor=2.0, mode="nearest"))


class _BoxFeatures(nn.Module):
    def __init__(self, count: int, channels: int, hidden: int, resolution: int, norm: Norm) -> None:
        super().__init__()
        self.convs = _convolutions(count, channels, norm)
        self.fc = nn.Linear(channels * resolution**2, hidden)

    def forward(self, rois: Tensor) -> Tensor:
        # flatten(1), since a view as (R, -1) has no meaning where R is 0.
        return cast(Tensor, self.fc(self.convs(rois).flatten(1)).relu())


class _BoxOutputs(nn.Module):
    def __init__(self, hidden: int, num_classes: int) -> None:
        super().__init__()
        self.cls_score = nn.Linear(hidden, num_classes)
        self.bbox_pred = nn.Linear(hidden, 4 * num_classes)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return self.cls_score(x).softmax(1), self.bbox_pred(x)


class _MaskFeatures(nn.Module):
    def __init__(self, count: int, channels: int, norm: Norm) -> None:
        super().__init__()
        self.conv_fcn = _convolutions(count, channels, norm)
        self.upconv = nn.ConvTranspose2d(channels, channels, 2, 2)

    def forward(self, rois: Tensor) -> Tensor:
        return cast(Tensor, self.upconv(self.conv_fcn(rois)).relu())


class _MaskOutputs(nn.Module):
    def __init__(self, channels: int, num_classes: int) -> None:
        super().__init__()
        self.classify = nn.Conv2d(channels, num_classes, 1)

    def forward(self, x: Tensor) -> Tensor:
        return cast(Tensor, self.classify(x).sigmoid())

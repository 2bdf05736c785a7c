"""Detectors: a body, a pyramid and heads with the detection code's own layer, and torchvision's detectors, whole."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from sn_deploy.errors import SnDeployError
from sn_deploy.fuse import fuse
from sn_deploy.graph.export import export
from sn_deploy.nn import SwitchNorm2d
from tests.models.whole_way import through_everything
from tests.randomise import randomise_
from tools.rows.measure import onnxruntime_outputs, run_check
from tools.rows.row import Place

C = 6


class SwitchNorm(SwitchNorm2d):
    """The detection code's layer: sums of batch averages have buffers of their own, which evaluation doesn't read."""

    def __init__(self, channels: int, using_bn: bool = True) -> None:
        super().__init__(channels, using_bn=using_bn)
        if using_bn:
            self.register_buffer("batch_mean", torch.zeros(1, channels, 1))
            self.register_buffer("batch_var", torch.zeros(1, channels, 1))


def layer(inputs: int, outputs: int, size: int, stride: int = 1, using_bn: bool = True) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, size, stride, padding=size // 2, bias=False), SwitchNorm(outputs, using_bn)
    )


class Pyramid(nn.Module):
    """Two levels and a pooled third, as a feature pyramid has them, coarsest first."""

    def __init__(self, using_bn: bool) -> None:
        super().__init__()
        self.res1 = layer(3, C, 3, 2, using_bn)
        self.res2 = layer(C, C, 3, 2, using_bn)
        self.conv_top = layer(C, C, 1, 1, using_bn)
        self.lateral = layer(C, C, 1, 1, using_bn)
        self.posthoc = nn.ModuleList(layer(C, C, 3, 1, using_bn) for _ in range(2))

    def forward(self, x: Tensor) -> list[Tensor]:
        fine = self.res1(x).relu()
        top = self.conv_top(self.res2(fine).relu())
        inner = self.lateral(fine) + F.interpolate(top, scale_factor=2.0, mode="nearest")
        maps = [self.posthoc[0](top), self.posthoc[1](inner)]
        return [F.max_pool2d(maps[0], 1, 2), *maps]


class Head(nn.Module):
    """Convolutions and a linear layer on the features of RoIs, to classes and boxes."""

    def __init__(self) -> None:
        super().__init__()
        self.convs = nn.Sequential(*layer(C, C, 3), nn.ReLU(), *layer(C, C, 3), nn.ReLU())
        self.fc, self.cls_score, self.bbox_pred = nn.Linear(C * 25, 8), nn.Linear(8, 3), nn.Linear(8, 12)

    def forward(self, rois: Tensor) -> tuple[Tensor, Tensor]:
        x = self.fc(self.convs(rois).flatten(1)).relu()
        return self.cls_score(x).softmax(1), self.bbox_pred(x)


@pytest.mark.parametrize("using_bn", [True, False])
def test_a_pyramid_at_any_size(using_bn: bool, tmp_path: Path) -> None:
    torch.manual_seed(0)
    generator = np.random.default_rng(0)
    samples = [
        {"x": generator.standard_normal((n, 3, h, w), dtype=np.float32)} for n, h, w in ((2, 24, 32), (1, 40, 28))
    ]
    model = randomise_(Pyramid(using_bn), 1).eval()
    exporter: Literal["torchscript"] | None = "torchscript" if using_bn else None
    _, found = through_everything(model, samples, tmp_path, ("batch", "spatial"), layers=6, exporter=exporter)
    assert [output.shape[2:] for output in found["native"][1]] == [(5, 4), (10, 7), (20, 14)]


def test_a_head_on_any_number_of_rois_or_none(tmp_path: Path) -> None:
    torch.manual_seed(0)
    generator = np.random.default_rng(0)
    samples = [{"rois": generator.standard_normal((n, C, 5, 5), dtype=np.float32)} for n in (4, 1, 30)]
    model = randomise_(Head(), 1).eval()
    through_everything(model, samples, tmp_path, "batch", layers=2)
    nothing = [{"rois": np.zeros((0, C, 5, 5), np.float32)}]
    for name in ("exported", "fused"):
        for native in (False, True):
            scores, boxes = onnxruntime_outputs(tmp_path / f"{name}.onnx", nothing, native=native)[0]
            assert (scores.shape, boxes.shape) == ((0, 3), (0, 12))


def test_sums_that_were_never_divided_are_refused(tmp_path: Path) -> None:
    model = Head().eval()
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, SwitchNorm):
                module.batch_mean.fill_(3)
                module.batch_var.fill_(30)
    with pytest.raises(SnDeployError, match=r"layer 'convs\.1': .*batch_var holds sums over batches that were never"):
        export(model, torch.randn(2, C, 5, 5), tmp_path / "head.onnx")
    export(model, torch.randn(2, C, 5, 5), tmp_path / "head.onnx", finalize_batch_average=10)


def small_faster_rcnn() -> nn.Module:
    from torchvision.models.detection import FasterRCNN
    from torchvision.models.detection.faster_rcnn import FastRCNNConvFCHead, FastRCNNPredictor
    from torchvision.ops import MultiScaleRoIAlign

    return FasterRCNN(
        small_backbone(),
        rpn_anchor_generator=small_anchors(3),
        box_head=FastRCNNConvFCHead((C, 7, 7), [C], [16], norm_layer=SwitchNorm2d),
        box_predictor=FastRCNNPredictor(16, 4),
        box_roi_pool=MultiScaleRoIAlign(["0", "1"], 7, 2),
        rpn_post_nms_top_n_test=20,
        min_size=64,
        max_size=96,
    )


def small_retinanet() -> nn.Module:
    from torchvision.models.detection import RetinaNet
    from torchvision.models.detection.retinanet import RetinaNetHead

    head = RetinaNetHead(C, 3, 4, norm_layer=SwitchNorm2d)
    return RetinaNet(
        small_backbone(),
        4,
        anchor_generator=small_anchors(3),
        head=head,
        topk_candidates=15,
        score_thresh=0.005,
        min_size=64,
        max_size=96,
    )


def small_backbone() -> nn.Module:
    from torchvision.models.detection.backbone_utils import BackboneWithFPN

    body = nn.Sequential(
        nn.Sequential(nn.Conv2d(3, C, 3, 4, 1, bias=False), SwitchNorm2d(C), nn.ReLU()),
        nn.Sequential(nn.Conv2d(C, C, 3, 2, 1, bias=False), SwitchNorm2d(C), nn.ReLU()),
    )
    return BackboneWithFPN(body, {"0": "0", "1": "1"}, [C, C], C, norm_layer=SwitchNorm2d)


def small_anchors(levels: int) -> nn.Module:
    from torchvision.models.detection.anchor_utils import AnchorGenerator

    return AnchorGenerator(tuple((8 * 2**i,) for i in range(levels)), ((0.5, 1.0, 2.0),) * levels)


@pytest.mark.parametrize(
    ("build", "layers"),
    [
        (small_faster_rcnn, 2 + 4 + 1),
        (small_retinanet, 2 + 4 + 8 * 3),  # the head's eight layers run on each of three levels
    ],
)
def test_torchvisions_detectors_whole(build: Callable[[], nn.Module], layers: int, tmp_path: Path) -> None:
    pytest.importorskip("torchvision")
    from tools.rows.whole_detectors import Detector, compare_boxes, export_whole, spread_scores_

    torch.manual_seed(0)
    model = spread_scores_(randomise_(Detector(build()), 0).eval(), 50)
    images = [torch.rand(1, 3, 70, 80), torch.rand(1, 3, 90, 64)]
    export_whole(model, images[0], tmp_path / "naive.onnx")
    report = fuse(tmp_path / "naive.onnx", tmp_path / "fused.onnx", strict=True)
    assert len(report.layers) == layers
    double = copy.deepcopy(model).double()
    samples = [{"x": image.numpy()} for image in images]
    outputs = {native: onnxruntime_outputs(tmp_path / "fused.onnx", samples, native=native) for native in (False, True)}
    for i, image in enumerate(images):
        with torch.no_grad():
            expected = [part.numpy() for part in double(image.double())]
        assert len(expected[1]) > 3
        for found in outputs.values():
            same, sides, scores = compare_boxes(expected, found[i])
            assert same == len(expected[1]) == len(found[i][1])
            assert sides < 1e-3
            assert scores < 1e-5
    # Boxes by the dozen from one image are no scores of a dozen images.
    place = Place(tmp_path, tmp_path)
    assert run_check(model, tmp_path / "fused.onnx", samples[0], place, ("--max-rel-l2", "1e-4")) == "passed"

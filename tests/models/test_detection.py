"""Detection: the published body, pyramid and heads, their states, the whole way, and torchvision's detectors, whole."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from sn_deploy.errors import SnDeployError
from sn_deploy.fuse import fuse
from sn_deploy.models import BoxHeadSN, DetectionSwitchNorm, MaskHeadSN, MaskRCNNBodySN, maskrcnnsn50_body
from sn_deploy.nn import SwitchNorm2d
from sn_deploy.onnx_export import export
from tests.models.states import sn_shapes, state_shapes
from tests.models.test_resnet import published_shapes
from tests.models.whole_way import through_everything
from tests.randomise import randomise_
from tools.rows.measure import onnxruntime_outputs, run_check
from tools.rows.row import Place

C = 6
SMALL_BODY = {"depths": (1, 1, 1, 1), "planes": (4, 4, 4, 4), "channels": C}
SMALL_HEAD = {"num_classes": 3, "convolutions": 2, "channels": C}


def test_the_bodys_state_is_the_published_one() -> None:
    with torch.device("meta"):
        found = state_shapes(maskrcnnsn50_body())
    expected: dict[str, tuple[int, ...]] = {}
    for name, shape in published_shapes(1, 50).items():
        if name.startswith("layer"):
            expected[f"conv_body.res{int(name[5]) + 1}{name[6:]}"] = shape
        elif not name.startswith("fc."):
            expected[f"conv_body.res1.{name}"] = shape
    inner = {"conv_top": (2048, 1)}
    inner |= {f"topdown_lateral_modules.{i}.conv_lateral": (width, 1) for i, width in enumerate((1024, 512, 256))}
    inner |= {f"posthoc_modules.{i}": (256, 3) for i in range(4)}
    for name, (inputs, size) in inner.items():
        expected.update({f"{name}.0.weight": (256, inputs, size, size), **sn_shapes(f"{name}.1", 256)})
    assert found == expected


@pytest.mark.parametrize("kind", [BoxHeadSN, MaskHeadSN])
def test_the_heads_states_are_the_published_ones(kind: type[nn.Module]) -> None:
    with torch.device("meta"):
        found = state_shapes(kind())
    convolutions = "head.convs" if kind is BoxHeadSN else "head.conv_fcn"
    expected: dict[str, tuple[int, ...]] = {}
    for i in range(0, 12, 3):
        expected.update({f"{convolutions}.{i}.weight": (256, 256, 3, 3), **sn_shapes(f"{convolutions}.{i + 1}", 256)})
    linear = {"head.fc": (1024, 256 * 49), "outputs.cls_score": (81, 1024), "outputs.bbox_pred": (324, 1024)}
    if kind is MaskHeadSN:
        linear = {"head.upconv": (256, 256, 2, 2), "outputs.classify": (81, 256, 1, 1)}
    for name, shape in linear.items():
        expected.update({f"{name}.weight": shape, f"{name}.bias": shape[:1]})
    assert found == expected


def test_sums_of_batch_averages_have_buffers_of_their_own() -> None:
    assert {"batch_mean", "batch_var"} <= set(DetectionSwitchNorm(4, using_moving_average=False).state_dict())
    assert set(DetectionSwitchNorm(4).state_dict()) == set(SwitchNorm2d(4).state_dict())
    without = DetectionSwitchNorm(4, using_moving_average=False, using_bn=False)
    assert set(without.state_dict()) == set(SwitchNorm2d(4, using_bn=False).state_dict())


def test_body_and_pyramid_at_any_size(tmp_path: Path) -> None:
    torch.manual_seed(0)
    generator = np.random.default_rng(0)
    sizes = ((2, 128, 96), (1, 96, 160))
    samples = [{"x": generator.standard_normal((n, 3, h, w), dtype=np.float32)} for n, h, w in sizes]
    model = randomise_(MaskRCNNBodySN(**SMALL_BODY), 1).eval()
    _, found = through_everything(model, samples, tmp_path, ("batch", "spatial"), layers=25)
    assert [output.shape[2:] for output in found["native"][1]] == [(2, 3), (3, 5), (6, 10), (12, 20), (24, 40)]


@pytest.mark.parametrize("kind", ["box", "mask"])
def test_a_head_on_any_number_of_rois_or_none(kind: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    generator = np.random.default_rng(0)
    samples = [{"rois": generator.standard_normal((n, C, 5, 5), dtype=np.float32)} for n in (4, 1, 30)]
    box = BoxHeadSN(**SMALL_HEAD, hidden=8, resolution=5)
    model = randomise_(box if kind == "box" else MaskHeadSN(**SMALL_HEAD), 1).eval()
    through_everything(model, samples, tmp_path, "batch", layers=2)
    nothing = [{"rois": np.zeros((0, C, 5, 5), np.float32)}]
    for name in ("exported", "fused"):
        for native in (False, True):
            outputs = onnxruntime_outputs(tmp_path / f"{name}.onnx", nothing, native=native)[0]
            shapes = [(0, 3), (0, 12)] if kind == "box" else [(0, 3, 10, 10)]
            assert [output.shape for output in outputs] == shapes
    assert run_check(model, tmp_path / "exported.onnx", samples[0], Place(tmp_path, tmp_path), ()) == "passed"


def test_sums_that_were_never_divided_are_refused(tmp_path: Path) -> None:
    model = BoxHeadSN(**SMALL_HEAD, hidden=8, resolution=5, using_moving_average=False).eval()
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, DetectionSwitchNorm):
                module.batch_mean.fill_(3)
                module.batch_var.fill_(30)
    with pytest.raises(SnDeployError, match=r"layer 'head\.convs\.1': .*batch_var holds sums over batches that were"):
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

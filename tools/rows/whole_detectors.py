"""Row 4 again: torchvision's detectors, whole, with SN in backbone, pyramid and head.

torch's newer exporter can't capture them (they branch on how many boxes there are); the older one can, and
`sn-deploy fuse` makes nodes of the layers in what it writes.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch

from sn_deploy.fuse import fuse
from sn_deploy.onnx_export import export
from tests.randomise import randomise_
from tools.rows.imagenet import REPOSITORY
from tools.rows.measure import fused_figures, onnxruntime_outputs, relative_l2, run_check, torch_outputs
from tools.rows.row import Figures, Place, Row, authors_code

Array = np.ndarray[Any, Any]

SIZES = ((288, 384), (352, 288))
SCALE = {"min_size": 256, "max_size": 384}
# PyTorch's own float32 is 3e-5 from float64 here.
CHECK = ("--max-rel-l2", "1e-4")


class Detector(torch.nn.Module):
    """A detector of torchvision's on one image: (1, 3, H, W) to boxes (K, 4), labels and scores (K), by their place."""

    def __init__(self, detector: torch.nn.Module) -> None:
        super().__init__()
        self.detector = detector

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        found = self.detector([x[0]])[0]
        boxes, labels, scores = found["boxes"], found["labels"], found["scores"]
        # By place and not by score: an untrained detector's scores tie to six digits, and boxes that tie may change
        # places, in PyTorch's own float32 too, which `sn-deploy check`, row by row, would take for another result.
        place = (boxes * boxes.new_tensor([1.0, 1.7, 2.3, 3.1])).sum(1) + 1000 * (labels + scores)
        order = place.sort()[1]
        return boxes[order], labels[order], scores[order]


def faster_rcnn(norm: Callable[[int], torch.nn.Module]) -> torch.nn.Module:
    """ResNet-50, FPN, Faster R-CNN with a head of four convolutions: torchvision's second version, with ``norm``."""
    from torchvision.models import resnet50
    from torchvision.models.detection import FasterRCNN
    from torchvision.models.detection.backbone_utils import _resnet_fpn_extractor
    from torchvision.models.detection.faster_rcnn import FastRCNNConvFCHead

    backbone = _resnet_fpn_extractor(resnet50(norm_layer=norm), 5, norm_layer=norm)
    head = FastRCNNConvFCHead((256, 7, 7), [256] * 4, [1024], norm_layer=norm)
    options = {"rpn_pre_nms_top_n_test": 200, "rpn_post_nms_top_n_test": 100, "box_score_thresh": 0.012}
    return FasterRCNN(backbone, num_classes=91, box_head=head, **options, **SCALE)


def retinanet(norm: Callable[[int], torch.nn.Module]) -> torch.nn.Module:
    """ResNet-50, FPN to the seventh level, RetinaNet: torchvision's second version, with ``norm``."""
    from torchvision.models import resnet50
    from torchvision.models.detection import RetinaNet
    from torchvision.models.detection.backbone_utils import _resnet_fpn_extractor
    from torchvision.models.detection.retinanet import RetinaNetHead, _default_anchorgen
    from torchvision.ops.feature_pyramid_network import LastLevelP6P7

    backbone = _resnet_fpn_extractor(
        resnet50(norm_layer=norm),
        5,
        returned_layers=[2, 3, 4],
        extra_blocks=LastLevelP6P7(256, 256),
        norm_layer=norm,
    )
    anchors = _default_anchorgen()
    head = RetinaNetHead(256, anchors.num_anchors_per_location()[0], 91, norm_layer=norm)
    options = {"topk_candidates": 100, "score_thresh": 0.0105}
    return RetinaNet(backbone, 91, anchor_generator=anchors, head=head, **options, **SCALE)


@torch.no_grad()
def spread_scores_(model: torch.nn.Module, factor: float) -> torch.nn.Module:
    """Makes the weights of all ``cls_logits`` larger by ``factor``; returns ``model``.

    Untrained detectors give thousands of boxes the same score to seven digits: rounding would choose among them. So it
    would where a factor is so large that they all round to 1.
    """
    for name, module in model.named_modules():
        if name.endswith("cls_logits"):
            for weight in (parameter for key, parameter in module.named_parameters() if key.endswith("weight")):
                weight *= factor
    return model


def match_boxes(expected: Sequence[Array], found: Sequence[Array]) -> dict[int, int]:
    """Of the expected boxes those that were found again (label, all four sides within 0.1 pixels), and where."""
    boxes, labels, confidence = found
    matches = {}
    for index, (box, label, score) in enumerate(zip(*expected, strict=True)):
        distance = np.abs(boxes - box).max(1) + np.where(labels == label, 0, np.inf)
        if distance.size and distance.min() <= 0.1:
            # Boxes cut down to one edge of the image may be twins, with scores of their own.
            matches[index] = int((distance + np.abs(confidence - score)).argmin())
    return matches


def compare_boxes(expected: Sequence[Array], found: Sequence[Array]) -> tuple[int, float, float]:
    """Of the expected boxes: how many were found again; the largest difference of their sides and of their scores."""
    (boxes, _, scores), (other_boxes, _, other_scores) = _in_order(expected, found)
    if not len(boxes):
        return 0, 0.0, 0.0
    return len(boxes), float(np.abs(boxes - other_boxes).max()), float(np.abs(scores - other_scores).max())


def distance_of_boxes(expected: Sequence[Sequence[Array]], found: Sequence[Sequence[Array]]) -> float:
    """Relative L2 of sides and of scores, the larger, over the boxes of all images that were found again."""
    pairs = [_in_order(a, b) for a, b in zip(expected, found, strict=True)]
    return relative_l2([[a[0], a[2]] for a, _ in pairs], [[b[0], b[2]] for _, b in pairs])


def _in_order(expected: Sequence[Array], found: Sequence[Array]) -> tuple[list[Array], list[Array]]:
    """Those that were found again, of both, in the order of the expected ones."""
    matches = match_boxes(expected, found)
    kept, places = list(matches.keys()), list(matches.values())
    return [part[kept] for part in expected], [part[places] for part in found]


def export_whole(model: torch.nn.Module, example: torch.Tensor, path: Any) -> None:
    """torch's older exporter, height and width dynamic."""
    axes = {"x": {2: "height", 3: "width"}}
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        torch.onnx.export(model, (example,), path, dynamo=False, opset_version=18, input_names=["x"], dynamic_axes=axes)


def _run(build: Callable[..., torch.nn.Module], layers: int, spread: float, place: Place) -> Figures:
    with authors_code(place.repositories / REPOSITORY):
        from devkit.ops import SwitchNorm2d  # type: ignore[import-not-found]

        torch.manual_seed(0)
        model = spread_scores_(randomise_(Detector(build(SwitchNorm2d)), seed=0).eval(), spread)
    generator = np.random.default_rng(0)
    samples = [{"x": generator.random((1, 3, *size), dtype=np.float32)} for size in SIZES]
    naive, fused = place.scratch / "naive.onnx", place.scratch / "fused.onnx"
    example = torch.from_numpy(samples[0]["x"])
    try:
        export(model, example, place.scratch / "exported.onnx")
        newer = "exported"
    except Exception as error:  # noqa: BLE001 - what it says is the figure
        newer = str(error)
    export_whole(model, example, naive)
    report = fuse(naive, fused)
    expected = torch_outputs(copy.deepcopy(model).double(), samples)
    figures: Figures = {
        **fused_figures(report, samples),
        "export": newer,
        "torch": distance_of_boxes(expected, torch_outputs(model, samples)),
    }
    if figures["switch_norm"] != layers:
        raise SystemExit(f"{figures['switch_norm']} SwitchNorm nodes, expected {layers}")
    texts = []
    for name, key, native in (("function", "ort", False), ("native operator", "native", True)):
        found = onnxruntime_outputs(fused, samples, native=native)
        compared = [compare_boxes(a, b) for a, b in zip(expected, found, strict=True)]
        total = sum(len(each[1]) for each in expected)
        same = sum(count for count, _, _ in compared)
        sides, scores = (max(each[i] for each in compared) for i in (1, 2))
        figures[key] = distance_of_boxes(expected, found)
        figures[f"boxes_{name}"] = {"same": same, "of": total, "max_side": sides, "max_score": scores}
        texts.append(f"{name}: sides differ by {sides:.1e} pixels, scores by {scores:.1e}")
        figures["agreement_text"] = f"{same} of {total} boxes"
    figures["fused"] = figures["ort"]  # it is that file
    figures["check"] = run_check(model, fused, samples[0], place, CHECK)
    return {**figures, "note": f"torch's older exporter and `sn-deploy fuse`, at most: {'; '.join(texts)}"}


def _row(name: str, build: Callable[..., torch.nn.Module], layers: int, spread: float) -> Row:
    needs = (REPOSITORY, "python:torchvision")
    return Row(4, "Detection (COCO)", name, needs, partial(_run, build, layers, spread))


ROWS = (
    # 53 of the backbone, 8 of the pyramid, 4 of the head.
    _row("torchvision Faster R-CNN, whole", faster_rcnn, 65, spread=50),
    # 53, 6, and 8 of the head on each of five levels.
    _row("torchvision RetinaNet, whole", retinanet, 99, spread=5),
)

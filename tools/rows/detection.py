"""Row 4, detection (COCO): the authors' Mask R-CNN, the parts of it that are plain torch."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import ModuleType
from typing import Any

import numpy as np
import torch

from sn_deploy import models as own_models
from tests.randomise import randomise_
from tools.rows.measure import measure, onnxruntime_outputs
from tools.rows.row import Figures, Place, Row, authors_code

REPOSITORY = "SwitchNorm_Detection"

# The height and width that the pyramid is made for are multiples of 32.
IMAGES = ((2, 224, 320), (1, 320, 224))
FULL_SIZE = (1, 800, 1088)
RESOLUTIONS = {"box": 7, "mask": 14}
ROIS = (64, 1, 300)


def _module(name: str, **attributes: Any) -> ModuleType:
    module = ModuleType(name)
    vars(module).update(attributes)
    return module


# What these models import and don't use, and what isn't installed or can't be imported by today's torch and Python.
UNUSED = {
    module.__name__: module
    for module in (
        _module("six"),
        _module("yaml"),
        _module("nn.functional"),
        _module("nn.parallel", DataParallel=None),
        _module("utils.net"),
        _module("utils.resnet_weights_helper", convert_state_dict=None),
        _module("modeling.generate_proposals", GenerateProposalsOp=None),
        _module("modeling.generate_proposal_labels", GenerateProposalLabelsOp=None),
        _module("modeling.collect_and_distribute_fpn_rpn_proposals", CollectAndDistributeFpnRpnProposalsOp=None),
    )
}


@contextmanager
def configured(place: Place, using_bn: bool, batch_average: bool) -> Iterator[None]:
    """The authors' package as their file for a Mask R-CNN with SN, trained from scratch, sets it up."""
    with authors_code(place.repositories / REPOSITORY / "lib", stand_ins=UNUSED):
        from core.config import cfg  # type: ignore[import-not-found]

        cfg.FPN.FPN_ON = cfg.FPN.MULTILEVEL_ROIS = cfg.FPN.MULTILEVEL_RPN = True
        cfg.FPN.USE_SN = cfg.RESNETS.USE_SN = True
        cfg.RESNETS.FREEZE_AT, cfg.RESNETS.STRIDE_1X1 = 0, False
        cfg.RESNETS.TRANS_FUNC, cfg.RESNETS.STEM_FUNC = "bottleneck_sn_transformation", "basic_sn_stem"
        cfg.RESNETS.SHORTCUT_FUNC = "basic_sn_shortcut"
        cfg.MODEL.NUM_CLASSES = 81
        cfg.FAST_RCNN.ROI_XFORM_RESOLUTION, cfg.MRCNN.ROI_XFORM_RESOLUTION = RESOLUTIONS["box"], RESOLUTIONS["mask"]
        cfg.MRCNN.RESOLUTION, cfg.MRCNN.DILATION, cfg.MRCNN.CONV_INIT = 28, 1, "MSRAFill"
        for part in (cfg.FPN, cfg.RESNETS, cfg.FAST_RCNN, cfg.MRCNN):
            part.SN.USE_BN = using_bn
        cfg.TEST.USE_BATCH_AVG = batch_average
        torch.manual_seed(0)
        yield


class _Head(torch.nn.Module):
    """A head and its outputs, on features of RoIs that RoIAlign has cut out already."""

    def __init__(self, head: torch.nn.Module, outputs: torch.nn.Module) -> None:
        super().__init__()
        self.head, self.outputs = head, outputs

    def forward(self, rois: torch.Tensor) -> Any:
        return self.outputs(self.head(rois, None))


def _as_given(x: torch.Tensor, _rois: Any, **_options: Any) -> torch.Tensor:
    return x


def body(place: Place, using_bn: bool, batch_average: bool) -> torch.nn.Module:
    """ResNet-50 and the feature pyramid: five maps of an image."""
    with configured(place, using_bn, batch_average):
        from modeling import FPN  # type: ignore[import-not-found]

        return randomise_(FPN.fpn_ResNet50_conv5_body(), seed=0).eval()


def head(place: Place, kind: str, using_bn: bool) -> torch.nn.Module:
    """The box head (classes and boxes) or the mask head (a mask for each class)."""
    with configured(place, using_bn, batch_average=False):
        from modeling import fast_rcnn_heads, mask_rcnn_heads  # type: ignore[import-not-found]

        if kind == "box":
            made = fast_rcnn_heads.roi_Xconv1fc_sn_head(256, _as_given, 0.25)
            return randomise_(_Head(made, fast_rcnn_heads.fast_rcnn_outputs(made.dim_out)), seed=0).eval()
        made = mask_rcnn_heads.mask_rcnn_fcn_head_v1up4convs_sn(256, _as_given, 0.25)
        return randomise_(_Head(made, mask_rcnn_heads.mask_rcnn_outputs(made.dim_out)), seed=0).eval()


def _samples(name: str, shapes: Sequence[tuple[int, ...]]) -> list[dict[str, np.ndarray]]:
    generator = np.random.default_rng(0)
    return [{name: generator.standard_normal(shape, dtype=np.float32)} for shape in shapes]


def _body(using_bn: bool, batch_average: bool, place: Place) -> Figures:
    images = (*IMAGES, FULL_SIZE) if using_bn and not batch_average else IMAGES
    samples = _samples("x", [(n, 3, height, width) for n, height, width in images])
    model = body(place, using_bn, batch_average)
    # Without BN PyTorch's own float32 is 4.4e-5 from float64 here, with random weights.
    check = () if using_bn else ("--max-rel-l2", "1e-4")
    own = own_models.maskrcnnsn50_body(using_moving_average=not batch_average, using_bn=using_bn)
    return measure(
        model, samples, place, dynamic=("batch", "spatial"), agreement="none", own=own, layers=61, check=check
    )


def _head(kind: str, using_bn: bool, place: Place) -> Figures:
    size = RESOLUTIONS[kind]
    samples = _samples("rois", [(count, 256, size, size) for count in ROIS])
    agreement = "top1" if kind == "box" else "none"
    own = own_models.BoxHeadSN() if kind == "box" else own_models.MaskHeadSN()
    model = head(place, kind, using_bn)
    figures = measure(model, samples, place, dynamic="batch", agreement=agreement, own=own, layers=4)
    nothing = [{"rois": np.zeros((0, 256, size, size), np.float32)}]
    # Of our file alone: what torch's older exporter writes reshapes to (RoIs, -1), which has no meaning without any.
    shapes = {
        tuple(
            tuple(output.shape)
            for output in onnxruntime_outputs(place.scratch / "exported.onnx", nothing, native=how)[0]
        )
        for how in (False, True)
    }
    text = " or ".join(" and ".join("×".join(map(str, shape)) for shape in found) for found in sorted(shapes))
    return {**figures, "note": f"without a RoI it gives {text} (their own code fails there)"}


def _row(name: str, run: Callable[[Place], Figures]) -> Row:
    return Row(4, "Detection (COCO)", name, (REPOSITORY,), run)


ROWS = (
    _row("Mask R-CNN: ResNet-50 and FPN, SN", lambda place: _body(True, False, place)),
    _row("Mask R-CNN: ResNet-50 and FPN, SN (8,1) without BN", lambda place: _body(False, False, place)),
    _row("Mask R-CNN: ResNet-50 and FPN, batch average", lambda place: _body(True, True, place)),
    _row("Mask R-CNN: box head, any number of RoIs", lambda place: _head("box", True, place)),
    _row("Mask R-CNN: mask head, any number of RoIs", lambda place: _head("mask", True, place)),
)

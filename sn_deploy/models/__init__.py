"""Networks with SN layers: the published ones, and in `sn_deploy.models.digits` a small one with trained weights."""

from __future__ import annotations

from sn_deploy.models.detection import (
    BoxHeadSN,
    DetectionSwitchNorm,
    MaskHeadSN,
    MaskRCNNBodySN,
    maskrcnnsn50_body,
    maskrcnnsn101_body,
)
from sn_deploy.models.face import FaceResNetSN, faceresnetsn18, faceresnetsn34, faceresnetsn50, faceresnetsn100
from sn_deploy.models.resnet import (
    ResNetV1SN,
    ResNetV1SSN,
    ResNetV2SN,
    resnetv1sn18,
    resnetv1sn34,
    resnetv1sn50,
    resnetv1sn101,
    resnetv1sn152,
    resnetv1ssn18,
    resnetv1ssn50,
    resnetv1ssn101,
    resnetv2sn18,
    resnetv2sn34,
    resnetv2sn50,
    resnetv2sn101,
    resnetv2sn152,
)
from sn_deploy.models.segmentation import CityscapesSN, SegmentationSN
from sn_deploy.models.video import I3DResNetSN, i3dsn50

__all__ = [
    "BoxHeadSN",
    "CityscapesSN",
    "DetectionSwitchNorm",
    "FaceResNetSN",
    "I3DResNetSN",
    "MaskHeadSN",
    "MaskRCNNBodySN",
    "ResNetV1SN",
    "ResNetV1SSN",
    "ResNetV2SN",
    "SegmentationSN",
    "faceresnetsn18",
    "faceresnetsn34",
    "faceresnetsn50",
    "faceresnetsn100",
    "i3dsn50",
    "maskrcnnsn50_body",
    "maskrcnnsn101_body",
    "resnetv1sn18",
    "resnetv1sn34",
    "resnetv1sn50",
    "resnetv1sn101",
    "resnetv1sn152",
    "resnetv1ssn18",
    "resnetv1ssn50",
    "resnetv1ssn101",
    "resnetv2sn18",
    "resnetv2sn34",
    "resnetv2sn50",
    "resnetv2sn101",
    "resnetv2sn152",
]

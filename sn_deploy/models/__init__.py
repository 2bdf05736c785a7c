"""Networks with SN layers: the published ResNets, and in `sn_deploy.models.digits` a small one with trained weights."""

from __future__ import annotations

from sn_deploy.models.resnet import (
    ResNetV1SN,
    ResNetV2SN,
    resnetv1sn18,
    resnetv1sn34,
    resnetv1sn50,
    resnetv1sn101,
    resnetv1sn152,
    resnetv2sn18,
    resnetv2sn34,
    resnetv2sn50,
    resnetv2sn101,
    resnetv2sn152,
)

__all__ = [
    "ResNetV1SN",
    "ResNetV2SN",
    "resnetv1sn18",
    "resnetv1sn34",
    "resnetv1sn50",
    "resnetv1sn101",
    "resnetv1sn152",
    "resnetv2sn18",
    "resnetv2sn34",
    "resnetv2sn50",
    "resnetv2sn101",
    "resnetv2sn152",
]

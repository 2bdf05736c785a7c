"""Row 2, face recognition: the authors' face ResNets with SyncSN, whose forward takes CUDA tensors alone."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch

from sn_deploy import models as own_models
from tests.randomise import randomise_
from tools.rows.imagenet import REPOSITORY, batches
from tools.rows.measure import measure
from tools.rows.row import Figures, Place, Row, authors_code

SAMPLES = 16


def authors_model(place: Place, backbone: str, norm: str, use_se: bool) -> torch.nn.Module:
    """What the authors' training script builds, without the classifier that only training needs."""
    root = place.repositories / REPOSITORY
    with authors_code(root / "face_recognition", root):
        from models import model_builder  # type: ignore[import-not-found]

        torch.manual_seed(0)
        model = model_builder.ArcFaceWithLoss(backbone, num_classes=8, norm_func=norm, use_se=use_se).basemodel
    return randomise_(model, seed=0).eval()


def _run(backbone: str, norm: str, use_se: bool, layers: int, place: Place) -> Figures:
    model = authors_model(place, backbone, norm, use_se)
    own: Callable[..., torch.nn.Module] = getattr(own_models, backbone.replace("resnet", "faceresnetsn"))
    samples = batches(place.samples(SAMPLES), 3, 112, 112)
    return measure(model, samples, place, dynamic="batch", agreement="cosine", own=own(use_se=use_se), layers=layers)


def _row(name: str, backbone: str, norm: str, layers: int, use_se: bool = False) -> Row:
    return Row(2, "Face recognition (MegaFace)", name, (REPOSITORY,), partial(_run, backbone, norm, use_se, layers))


ROWS = (
    _row("face ResNet-50, SyncSN", "resnet50", "syncsn", 78),
    _row("face ResNet-50, SN", "resnet50", "sn", 78),
    _row("face ResNet-18 with SE, SyncSN", "resnet18", "syncsn", 30, use_se=True),
)

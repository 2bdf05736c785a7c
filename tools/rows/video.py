"""Row 5, video: SN3d in an I3D ResNet-50, whose input is (N, C, frames, height, width)."""

from __future__ import annotations

from functools import partial

import numpy as np
import torch

from tests.randomise import randomise_
from tools.rows.imagenet import REPOSITORY as SN_REPOSITORY
from tools.rows.measure import measure
from tools.rows.row import Figures, Place, Row, authors_code, replace_modules

REPOSITORY = "pytorch-resnet3d"

# Samples, frames, height, width.
# 8 frames would leave one behind the poolings, and torch takes a size of 1 for fixed.
CLIPS = ((2, 16, 112, 112), (1, 24, 96, 80))


class _Clip(torch.nn.Module):
    """The net of one clip: its own forward takes a dictionary with the labels."""

    def __init__(self, net: torch.nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.net.forward_single(x)  # type: ignore[operator, no-any-return]


def i3d(place: Place, non_local: bool) -> torch.nn.Module:
    """A public I3D ResNet-50 for Kinetics, its BatchNorm3d replaced by the authors' SwitchNorm3d."""
    with authors_code(place.repositories / REPOSITORY):
        from models import resnet  # type: ignore[import-not-found]

        torch.manual_seed(0)
        model = _Clip(resnet.I3Res50(num_classes=400, use_nl=non_local))
    with authors_code(place.repositories / SN_REPOSITORY):
        from devkit.ops import SwitchNorm3d  # type: ignore[import-not-found]

        replace_modules(model, torch.nn.BatchNorm3d, lambda norm: SwitchNorm3d(norm.num_features))
    return randomise_(model, seed=0).eval()


def _run(non_local: bool, layers: int, place: Place) -> Figures:
    generator = np.random.default_rng(0)
    samples = [{"x": generator.standard_normal((n, 3, *clip), dtype=np.float32)} for n, *clip in CLIPS]
    return measure(i3d(place, non_local), samples, place, dynamic=("batch", "spatial"), layers=layers)


def _row(name: str, non_local: bool, layers: int) -> Row:
    return Row(5, "Video (Kinetics)", name, (REPOSITORY, SN_REPOSITORY), partial(_run, non_local, layers))


ROWS = (
    _row("I3D ResNet-50, SN3d", False, 53),
    _row("I3D ResNet-50 with non-local blocks, SN3d", True, 58),
)

"""Row 5, video: SN3d in an I3D ResNet-50, whose input is (N, C, frames, height, width)."""

from __future__ import annotations

from functools import partial

import numpy as np
import torch

from sn_deploy import models as own_models
from sn_deploy.errors import SnDeployError
from sn_deploy.onnx_export import export
from sn_deploy.optimise import optimise
from tests.randomise import randomise_
from tools.rows.imagenet import REPOSITORY as SN_REPOSITORY
from tools.rows.measure import Sample, measure, onnxruntime_outputs, relative_l2, torch_outputs
from tools.rows.precision import openvino_outputs
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
    model = i3d(place, non_local)
    figures = measure(model, samples, place, dynamic=("batch", "spatial"), layers=layers)
    expected = torch_outputs(model.double(), samples)
    own = own_models.i3dsn50(non_local=non_local).double().eval()
    own.load_state_dict({name.removeprefix("net."): value for name, value in model.state_dict().items()})
    figures["own"] = relative_l2(expected, torch_outputs(own, samples))
    figures["openvino"] = _openvino(model.float(), place, samples, expected)
    return {
        **figures,
        "note": f"{_optimised(place, samples, expected)}; OpenVINO on the inlined file: {figures['openvino']:.1e}",
    }


def _openvino(model: torch.nn.Module, place: Place, samples: list[Sample], expected: list[list[np.ndarray]]) -> float:
    """Relative L2 of OpenVINO; NaN where it isn't installed."""
    inline = place.scratch / "inline.onnx"
    export(model, torch.from_numpy(samples[0]["x"][:1]), inline, dynamic=("batch", "spatial"), inline=True)
    outputs = openvino_outputs(inline, samples)
    return float("nan") if outputs is None else relative_l2(expected, outputs)


def _optimised(place: Place, samples: list[Sample], expected: list[list[np.ndarray]]) -> str:
    """What `sn-deploy optimise` makes of the file on this machine, in words."""
    optimised = place.scratch / "optimised.onnx"
    try:
        optimise(place.scratch / "exported.onnx", optimised, inputs=samples[1])
    except SnDeployError as error:
        return f"`sn-deploy optimise` refuses it: {error.what}"
    distance = relative_l2(expected, onnxruntime_outputs(optimised, samples, native=True))
    return f"ONNX Runtime on what `sn-deploy optimise` makes of it: {distance:.1e}"


def _row(name: str, non_local: bool, layers: int) -> Row:
    return Row(5, "Video (Kinetics)", name, (REPOSITORY, SN_REPOSITORY), partial(_run, non_local, layers))


ROWS = (
    _row("I3D ResNet-50, SN3d", False, 53),
    _row("I3D ResNet-50 with non-local blocks, SN3d", True, 58),
)

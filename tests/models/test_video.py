"""Video: SN of (N, C, frames, height, width) in an I3D net, in every runtime that is here."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import torch
from torch import Tensor, nn

from sn_deploy.graph.export import export
from sn_deploy.graph.op import DOMAIN
from sn_deploy.nn import SwitchNorm3d
from tests.models.whole_way import through_everything
from tests.randomise import randomise_
from tests.tolerances import TOLERANCES
from tools.rows.measure import relative_l2

C = 6


class Block(nn.Module):
    """An inflated bottleneck: frames are looked at by the first convolution, neighbours in an image by the second."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv3d(C, 4, (3, 1, 1), padding=(1, 0, 0), bias=False)
        self.sn1 = SwitchNorm3d(4)
        self.conv2 = nn.Conv3d(4, 4, (1, 3, 3), padding=(0, 1, 1), bias=False)
        self.sn2 = SwitchNorm3d(4, using_bn=False)
        self.conv3 = nn.Conv3d(4, C, 1, bias=False)
        self.sn3 = SwitchNorm3d(C, last_gamma=True)

    def forward(self, x: Tensor) -> Tensor:
        y = self.sn1(self.conv1(x)).relu()
        y = self.sn2(self.conv2(y)).relu()
        return (self.sn3(self.conv3(y)) + x).relu()


class Inflated(nn.Module):
    """Clips (N, 3, frames, height, width) to scores (N, 5)."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv3d(3, C, (5, 7, 7), stride=2, padding=(2, 3, 3), bias=False)
        self.sn = SwitchNorm3d(C)
        self.pool = nn.MaxPool3d((2, 3, 3), stride=2)
        self.block, self.fc = Block(), nn.Linear(C, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.block(self.pool(self.sn(self.conv(x)).relu())).mean((2, 3, 4)))


def test_clips_of_any_length_and_size(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = randomise_(Inflated(), 3).eval()
    generator = np.random.default_rng(0)
    sizes = ((2, 8, 24, 20), (1, 12, 28, 32), (3, 8, 20, 20))
    samples = [{"x": generator.standard_normal((n, 3, *clip), dtype=np.float32)} for n, *clip in sizes]
    expected, _ = through_everything(model, samples, tmp_path, ("batch", "spatial"), layers=4)

    nodes = onnx.load(tmp_path / "exported.onnx").graph.node
    forms = Counter(node.op_type for node in nodes if node.domain == DOMAIN)
    assert forms == {"SwitchNormRelu": 3, "SwitchNormAddRelu": 1}
    export(model, torch.from_numpy(samples[0]["x"]), tmp_path / "inline.onnx", inline=True)
    assert relative_l2(expected[:1], [openvino_outputs(tmp_path / "inline.onnx", samples[0]["x"])]) <= (
        TOLERANCES["float32"].rel_l2
    )


def openvino_outputs(path: Path, x: np.ndarray) -> list[np.ndarray]:
    import openvino

    model = openvino.compile_model(openvino.Core().read_model(path), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    return [model(x)[0]]

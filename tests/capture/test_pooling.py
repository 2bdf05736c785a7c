"""Adaptive average pooling of a fixed size: a few nodes, whether its cells are of one size or not."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from torch import nn

import sn_deploy
from sn_deploy.nn import SwitchNorm2d, SwitchNorm3d
from sn_deploy.runtime.ort import OrtSession
from tests.randomise import randomise_


@pytest.mark.parametrize(
    ("layer", "pooling", "shape", "operators"),
    [
        (SwitchNorm2d, nn.AdaptiveAvgPool2d(3), (2, 4, 16, 32), {"MatMul": 2}),
        (SwitchNorm2d, nn.AdaptiveAvgPool2d((3, 8)), (2, 4, 16, 32), {"MatMul": 2}),
        (SwitchNorm2d, nn.AdaptiveAvgPool2d((None, 5)), (2, 4, 16, 32), {"MatMul": 1}),
        (SwitchNorm2d, nn.AdaptiveAvgPool2d((1, 5)), (2, 4, 16, 32), {"MatMul": 1, "ReduceMean": 1}),
        (SwitchNorm2d, nn.AdaptiveAvgPool2d((4, 8)), (2, 4, 16, 32), {"AveragePool": 1}),
        (SwitchNorm3d, nn.AdaptiveAvgPool3d((3, 4, 4)), (2, 4, 8, 8, 8), {"MatMul": 3, "Transpose": 2}),
    ],
)
def test_nodes_and_numbers(
    layer: type[nn.Module], pooling: nn.Module, shape: tuple[int, ...], operators: dict[str, int], tmp_path: Path
) -> None:
    model = randomise_(nn.Sequential(layer(4), pooling), seed=0).eval()
    x = torch.randn(*shape, generator=torch.Generator().manual_seed(0))
    sn_deploy.export(model, x, tmp_path / "net.onnx")
    found = Counter(node.op_type for node in onnx.load(tmp_path / "net.onnx").graph.node if node.domain == "")
    assert found == operators
    with OrtSession(tmp_path / "net.onnx") as session:
        (name,) = (info.name for info in session.inputs)
        (actual,) = session.run({name: x.numpy()}).values()
    with torch.no_grad():
        expected = model(x).numpy()
    np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=1e-5)

"""Graphs of torch's exporter that would be no valid ONNX."""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from torch import nn

import sn_deploy
from sn_deploy.nn import SwitchNorm2d
from sn_deploy.runtime.ort import OrtSession
from tests.randomise import randomise_
from tests.tolerances import TOLERANCES


class IdleSqueezes(nn.Module):
    """Written for (N, C, 1, H, W), too; of a side that isn't 1 a squeeze is nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.sn = SwitchNorm2d(3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.sn(x.squeeze(dim=2)).squeeze(3)


@pytest.mark.parametrize("dynamic", ["batch", ("batch", "spatial")])
def test_a_squeeze_of_a_side_that_is_not_1_is_nothing(dynamic: str | tuple[str, ...], tmp_path: Path) -> None:
    model, path = randomise_(IdleSqueezes(), seed=0).eval(), tmp_path / "net.onnx"
    sn_deploy.export(model, torch.randn(2, 3, 6, 7), path, dynamic=dynamic)
    x = torch.randn(3, 3, 6, 7)
    with torch.no_grad():
        wanted = copy.deepcopy(model).double()(x.double()).numpy()
    with OrtSession(path) as session:
        (y,) = session.run({session.inputs[0].name: x.numpy()}).values()
    assert y.shape == wanted.shape
    assert np.linalg.norm(y - wanted) / np.linalg.norm(wanted) < TOLERANCES["float32"].rel_l2


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("precision", ["fp16", "bf16"])
def test_a_batch_norm_behind_a_convolution_keeps_the_type(precision: str, bias: bool, tmp_path: Path) -> None:
    torch.manual_seed(0)
    norm = nn.BatchNorm2d(4)
    norm.running_mean, norm.running_var = torch.randn(4), torch.rand(4) + 0.5
    model = randomise_(nn.Sequential(nn.Conv2d(3, 4, 3, bias=bias), norm, SwitchNorm2d(4)), seed=0).eval()
    sn_deploy.export(model, torch.randn(2, 3, 9, 9), tmp_path / "net.onnx", precision=precision)  # type: ignore[arg-type]
    graph = onnx.load(tmp_path / "net.onnx").graph
    types = {tensor.name: tensor.data_type for tensor in graph.initializer}
    (convolution,) = (node for node in graph.node if node.op_type == "Conv")
    wanted = {"fp16": onnx.TensorProto.FLOAT16, "bf16": onnx.TensorProto.BFLOAT16}[precision]
    assert {types[name] for name in convolution.input[1:]} == {wanted}

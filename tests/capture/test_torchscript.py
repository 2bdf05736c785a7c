"""TorchScript inside of an eager model: a layer is as good as any, a block is refused by name."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import sn_deploy
from sn_deploy.calibrate import calibrate
from sn_deploy.compare.parity import compare
from sn_deploy.errors import SnDeployError
from sn_deploy.runtime.ort import OrtSession
from sn_deploy.runtime.torch import array_from_tensor
from tests.randomise import randomise_
from tests.tolerances import TOLERANCES

pytestmark = pytest.mark.filterwarnings(
    "ignore:.*torch.jit:FutureWarning",
    "ignore:.*torch.jit:DeprecationWarning",
    "ignore::torch.jit.TracerWarning",
)
X = torch.randn(2, 3, 8, 9, generator=torch.Generator().manual_seed(0))


class ScriptableSwitchNorm(nn.Module):
    """The authors' layer in evaluation mode."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1, channels, 1, 1))
        self.bias = nn.Parameter(torch.zeros(1, channels, 1, 1))
        self.mean_weight, self.var_weight = nn.Parameter(torch.ones(3)), nn.Parameter(torch.ones(3))
        self.register_buffer("running_mean", torch.zeros(1, channels, 1))
        self.register_buffer("running_var", torch.zeros(1, channels, 1))

    def forward(self, x):  # type: ignore[no-untyped-def]
        flat = x.flatten(2)
        mean_in, var_in = flat.mean(-1, keepdim=True), flat.var(-1, keepdim=True)
        mean_ln = mean_in.mean(1, keepdim=True)
        var_ln = (var_in + mean_in**2).mean(1, keepdim=True) - mean_ln**2
        w, v = self.mean_weight.softmax(0), self.var_weight.softmax(0)
        mean = w[0] * mean_in + w[1] * mean_ln + w[2] * self.running_mean
        var = v[0] * var_in + v[1] * var_ln + v[2] * self.running_var
        return ((flat - mean) / (var + 1e-5).sqrt()).view(x.size()) * self.weight + self.bias


class Twice(nn.Module):
    def forward(self, x):  # type: ignore[no-untyped-def]
        return torch.relu(x) * 2


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.sn = ScriptableSwitchNorm(3)
        self.block = nn.Sequential(nn.Conv2d(3, 4, 1), ScriptableSwitchNorm(4))
        self.tail: Any = Twice()

    def forward(self, x: Tensor) -> Tensor:
        return self.tail(self.block(self.sn(x)))


def make() -> Any:
    torch.manual_seed(0)
    return randomise_(Net().eval(), 1)


def traced(module: nn.Module, channels: int) -> nn.Module:
    return torch.jit.trace(module, torch.randn(2, channels, 5, 6))  # type: ignore[no-any-return]


def scripted(module: nn.Module, channels: int) -> nn.Module:
    return torch.jit.script(module)  # type: ignore[no-any-return]


Convert = Callable[[nn.Module, int], nn.Module]


@pytest.mark.parametrize("convert", [traced, scripted])
def test_a_layer_that_is_torchscript_is_one_node(convert: Convert, tmp_path: Path) -> None:
    model = make()
    with torch.no_grad():
        expected = array_from_tensor(copy.deepcopy(model).double()(X.double()))
    model.sn, model.tail = convert(model.sn, 3), convert(model.tail, 4)
    report = sn_deploy.export(model, X, tmp_path / "net.onnx", dynamic=("batch", "spatial"))
    assert [layer.folded.name for layer in report.layers] == ["sn", "block.1"]
    with OrtSession(tmp_path / "net.onnx") as session:
        (output,) = session.run({"x": array_from_tensor(X)}).values()
    assert compare(expected, output).rel_l2 < TOLERANCES["float32"].rel_l2


@pytest.mark.parametrize("convert", [traced, scripted])
@pytest.mark.parametrize("alone", [False, True])
def test_a_block_that_is_torchscript_is_named(convert: Convert, alone: bool, tmp_path: Path) -> None:
    model = make()
    model.block = convert(model.block, 3)
    if alone:  # no layer that is seen
        model.sn = nn.Identity()
    with pytest.raises(SnDeployError, match=r"^module 'block': is TorchScript .*state_dict\(\) has the same names"):
        sn_deploy.export(model, X, tmp_path / "net.onnx")
    assert not list(tmp_path.iterdir())
    with pytest.raises(SnDeployError, match=r"^layer 'block.1': is inside of TorchScript"):
        calibrate(model, [])  # type: ignore[arg-type]

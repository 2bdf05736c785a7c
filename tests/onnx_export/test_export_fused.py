"""`export` with ReLU and residual fused: what the files hold, and that they compute what the model does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import nn

import sn_deploy
from sn_deploy.compare.parity import compare
from sn_deploy.nn import SwitchNorm2d
from sn_deploy.runtime.native import ort_library
from sn_deploy.runtime.ort import OrtSession
from sn_deploy.runtime.torch import array_from_tensor
from tests.cases import DTYPES
from tests.randomise import randomise_
from tests.tolerances import TOLERANCES


class Blocks(nn.Module):
    """Two residual blocks, the first with a layer in its shortcut; ReLU is written in each way that PyTorch has for it.

    There are no convolutions, which ONNX Runtime doesn't have in bfloat16.
    """

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.sn1, self.sn2, self.shortcut = (SwitchNorm2d(4) for _ in range(4))
        self.sn3, self.sn4, self.last = (SwitchNorm2d(4) for _ in range(3))
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.relu(self.stem(x))
        y = self.sn2(torch.clamp_min(self.sn1(x), 0))
        x = F.relu(y + self.shortcut(x))
        y = self.sn3(x).clamp(min=0)
        y = self.sn4(y)
        y += x
        return self.last(y.relu_())


FORMS = {"SwitchNormRelu": 3, "SwitchNormAddRelu": 2, "SwitchNorm": 2}
ORDER = [
    ("stem", "SwitchNormRelu"),
    ("sn1", "SwitchNormRelu"),
    ("sn2", "SwitchNorm"),
    ("shortcut", "SwitchNormAddRelu"),
    ("sn3", "SwitchNormRelu"),
    ("sn4", "SwitchNormAddRelu"),
    ("last", "SwitchNorm"),
]
PRECISIONS = {"fp32": "float32", "fp16": "float16", "bf16": "bfloat16"}


@pytest.fixture(scope="module")
def blocks() -> nn.Module:
    return randomise_(Blocks(), seed=11).eval()


def image(batch: int = 2, size: int = 6) -> torch.Tensor:
    return torch.randn(batch, 4, size, size + 1, generator=torch.Generator().manual_seed(batch)) + 0.5


def run(path: Path, x: np.ndarray, *, native: bool) -> np.ndarray:
    with OrtSession(path, threads=1, native=native) as session:
        return next(iter(session.run({session.inputs[0].name: x}).values()))


def check(path: Path, model: nn.Module, x: torch.Tensor, dtype: str, *, half_ends: bool = False) -> None:
    """Asserts that the file gives the model's float64 output, by its functions and by the native operator."""
    given = array_from_tensor(x).astype(DTYPES[dtype])
    with torch.no_grad():
        reference = model.double()(torch.from_numpy(given.astype(np.float64)))
    model.float()
    for native in (False, *([True] if ort_library() is not None else [])):
        output = run(path, given if half_ends else given.astype(np.float32), native=native)
        # Half a dozen layers and their residuals, each rounded.
        assert compare(reference, output).rel_l2 < TOLERANCES[dtype].rel_l2 * (1 if dtype == "float32" else 4), native


def layers_of(path: Path) -> list[tuple[str, str]]:
    return [(node.name, node.op_type) for node in onnx.load(path).graph.node if node.domain == "sn_deploy"]


@pytest.mark.parametrize("opset", [18, 23])
def test_what_follows_a_layer_is_fused(opset: int, blocks: nn.Module, tmp_path: Path) -> None:
    path = tmp_path / "net.onnx"
    report = sn_deploy.export(blocks, image(), path, dynamic=("batch", "spatial"), opset=opset)
    assert report.forms == FORMS
    assert report.apart == {}
    assert layers_of(path) == ORDER
    model = onnx.load(path)
    assert {function.name for function in model.functions} == set(FORMS)
    assert report.nodes == len(ORDER)
    for x in (image(), image(1, 4), image(3, 9)):
        check(path, blocks, x, "float32")


def test_it_can_be_left_apart(blocks: nn.Module, tmp_path: Path) -> None:
    report = sn_deploy.export(blocks, image(), tmp_path / "net.onnx", fuse=False)
    assert report.forms == {"SwitchNorm": 7}
    assert report.op_counts == {"SwitchNorm": 7, "Relu": 3, "Add": 2, "Clip": 1, "Max": 1}
    assert [name for name, _ in layers_of(tmp_path / "net.onnx")] == [name for name, _ in ORDER]
    check(tmp_path / "net.onnx", blocks, image(), "float32")


@pytest.mark.parametrize(("precision", "keep_io_types"), [("fp16", True), ("bf16", False), ("bf16", True)])
def test_half_precision(precision: str, keep_io_types: bool, blocks: nn.Module, tmp_path: Path) -> None:
    path = tmp_path / "net.onnx"
    options: dict[str, Any] = {"precision": precision, "keep_io_types": keep_io_types, "dynamic": "batch"}
    assert sn_deploy.export(blocks, image(), path, **options).forms == FORMS
    assert layers_of(path) == ORDER
    for x in (image(), image(1)):
        check(path, blocks, x, PRECISIONS[precision], half_ends=not keep_io_types)


def test_inlined_in_half_precision(blocks: nn.Module, tmp_path: Path) -> None:
    import openvino

    path = tmp_path / "net.onnx"
    report = sn_deploy.export(blocks, image(), path, dynamic="batch", inline=True, precision="fp16")
    assert report.forms == FORMS
    model = onnx.load(path)
    assert {opset.domain for opset in model.opset_import} == {""}
    assert not model.functions
    check(path, blocks, image(), "float16", half_ends=True)
    compiled = openvino.compile_model(openvino.Core().read_model(path), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    output = compiled(image().half().numpy())[0]
    with torch.no_grad():
        assert compare(blocks(image()), output).rel_l2 < 16 * TOLERANCES["float16"].roundoff


class Outputs(nn.Module):
    """Gives out what would vanish: the layer itself, and the sum."""

    def __init__(self) -> None:
        super().__init__()
        self.free, self.given, self.summed = (SwitchNorm2d(4) for _ in range(3))

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        x = self.free(x).relu()
        y = self.given(x)
        z = self.summed(x) + x
        return y, y.relu(), z, z.relu()


def test_outputs_of_the_model_stay_and_the_report_says_so(tmp_path: Path) -> None:
    model = randomise_(Outputs(), seed=12).eval()
    path = tmp_path / "net.onnx"
    report = sn_deploy.export(model, image(), path, output_names=["y", "y_relu", "z", "z_relu"])
    assert report.forms == {"SwitchNormRelu": 1, "SwitchNorm": 2}
    assert report.apart == {
        "given": "'y' is an output of the graph",
        "summed": "'z' is an output of the graph",
    }
    with torch.no_grad():
        references = model.double()(image().double())
    with OrtSession(path, native=False) as session:
        outputs = session.run({"x": image().numpy()})
    assert list(outputs) == ["y", "y_relu", "z", "z_relu"]
    for reference, output in zip(references, outputs.values(), strict=True):
        assert compare(reference, output).rel_l2 < TOLERANCES["float32"].rel_l2

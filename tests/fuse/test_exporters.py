"""What torch's two exporters write, plain or optimised, fuses to what `sn-deploy export` writes of the same net."""

from __future__ import annotations

import warnings
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import nn

import sn_deploy
from sn_deploy.fuse import FuseReport
from sn_deploy.models import resnetv1sn18
from sn_deploy.nn import SwitchNorm1d, SwitchNorm2d, SwitchNorm3d
from sn_deploy.runtime.ort import OrtSession
from tests.fuse.unseen import fuse
from tests.randomise import randomise_
from tests.tolerances import TOLERANCES

SIZE = 40


@pytest.fixture(scope="module")
def net() -> nn.Module:
    torch.manual_seed(0)
    return randomise_(resnetv1sn18(num_classes=10), seed=1).eval()


@pytest.fixture(scope="module")
def direct(net: nn.Module, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("direct") / "direct.onnx"
    sn_deploy.export(net, image(), path)
    return path


def image(batch: int = 1, size: int = SIZE) -> torch.Tensor:
    return torch.randn(batch, 3, size, size, generator=torch.Generator().manual_seed(0))


def torch_export(model: nn.Module, x: torch.Tensor, path: Path, *, dynamo: bool, opset: int, **options: Any) -> None:
    if dynamo:
        options["external_data"] = False
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            model, (x,), path, dynamo=dynamo, opset_version=opset, input_names=["x"], verbose=False, **options
        )


def optimise(source: Path, path: Path, level: str) -> None:
    """ONNX Runtime's own offline optimisation."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = getattr(onnxruntime.GraphOptimizationLevel, f"ORT_ENABLE_{level.upper()}")
    options.optimized_model_filepath = str(path)
    options.log_severity_level = 4
    onnxruntime.InferenceSession(str(source), options, providers=["CPUExecutionProvider"])


def run(path: Path, x: torch.Tensor) -> np.ndarray:
    with OrtSession(path, native=False) as session:
        return next(iter(session.run({session.inputs[0].name: x.numpy()}).values()))


def ops(path: Path) -> Counter[str]:
    return Counter(node.op_type for node in onnx.load(path).graph.node)


def assert_equals_direct(report: FuseReport, direct: Path, x: torch.Tensor) -> None:
    assert not report.near_misses
    assert len(report.layers) == 20
    assert report.forms == {"SwitchNormRelu": 9, "SwitchNormAddRelu": 8, "SwitchNorm": 3}
    found, expected_nodes = (onnx.load(path).graph.node for path in (report.path, direct))
    assert len(found) == len(expected_nodes)
    names = [{node.name for node in nodes if node.domain == "sn_deploy"} for nodes in (found, expected_nodes)]
    assert names[0] == names[1], "layers have the names that they have in the model"
    expected, actual = run(direct, x), run(report.path, x)
    assert np.linalg.norm(actual - expected) / np.linalg.norm(expected) < 1e-6


@pytest.mark.parametrize(
    ("dynamo", "opset"), [(False, 11), (False, 17), (False, 23), pytest.param(True, 18, marks=pytest.mark.slow)]
)
def test_both_exporters_and_their_opsets(net, direct, dynamo: bool, opset: int, tmp_path: Path) -> None:
    torch_export(net, image(), tmp_path / "in.onnx", dynamo=dynamo, opset=opset)
    report = fuse(tmp_path / "in.onnx", tmp_path / "out.onnx")
    assert_equals_direct(report, direct, image())
    assert report.opset == max(opset, 15)


@pytest.mark.parametrize(("level", "opset"), [("basic", 11), ("extended", 18)])
def test_after_onnxruntime_s_offline_optimisation(net, direct, level: str, opset: int, tmp_path: Path) -> None:
    torch_export(net, image(), tmp_path / "plain.onnx", dynamo=False, opset=opset)
    optimise(tmp_path / "plain.onnx", tmp_path / "in.onnx", level)
    assert_equals_direct(fuse(tmp_path / "in.onnx", tmp_path / "out.onnx"), direct, image())


def test_without_constant_folding_the_constants_are_those_of_export(net, direct, tmp_path: Path) -> None:
    torch_export(net, image(), tmp_path / "in.onnx", dynamo=False, opset=17, do_constant_folding=False)
    report = fuse(tmp_path / "in.onnx", tmp_path / "out.onnx")
    assert_equals_direct(report, direct, image())
    for found, expected in zip(_constants(report.path), _constants(direct), strict=True):
        for values, exact in zip(found, expected, strict=True):
            np.testing.assert_allclose(values, exact, rtol=2e-7, atol=1e-9)


def _constants(path: Path) -> list[list[np.ndarray]]:
    """The four weights of each layer, in the order of the graph."""
    graph = onnx.load(path).graph
    weights = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in graph.initializer}
    return [[weights[name] for name in node.input[1:5]] for node in graph.node if node.domain == "sn_deploy"]


class Mixed(nn.Module):
    """Layers of all ranks, without a BN branch and called twice."""

    def __init__(self) -> None:
        super().__init__()
        self.deep = nn.Conv3d(2, 4, 3, padding=1)
        self.deep_sn = SwitchNorm3d(4, using_bn=False)
        self.conv = nn.Conv2d(4, 4, 3, padding=1)
        self.sn = SwitchNorm2d(4)
        self.head = nn.Linear(4, 5)
        self.head_sn = SwitchNorm1d(5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h = self.deep_sn(self.deep(x)).mean(2)
        h = self.sn(self.conv(h)).relu()
        h = (self.sn(self.conv(h)) + h).relu()
        return self.head_sn(self.head(h.mean((2, 3))))


@pytest.mark.parametrize("dynamo", [False, True])
def test_dynamic_axes_and_all_ranks(dynamo: bool, tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = randomise_(Mixed(), seed=1).eval()
    x = torch.randn(2, 2, 4, 6, 7)
    axes = {0: "n", 3: "h", 4: "w"}
    if dynamo:
        options: dict[str, Any] = {"dynamic_shapes": (dict.fromkeys(axes, torch.export.Dim.AUTO),)}
    else:
        options = {"dynamic_axes": {"x": axes}}
    torch_export(model, x, tmp_path / "in.onnx", dynamo=dynamo, opset=18, **options)
    report = fuse(tmp_path / "in.onnx", tmp_path / "out.onnx")
    # The older exporter folds the weights away and calls the second call's scope sn_1.
    assert [layer.node for layer in report.layers] == ["deep_sn", "sn", "sn#2" if dynamo else "sn_1", "head_sn"]
    assert [len(layer.shape) for layer in report.layers] == [5, 4, 4, 2]
    assert report.forms == {"SwitchNorm": 2, "SwitchNormRelu": 1, "SwitchNormAddRelu": 1}
    for shape in ((1, 2, 4, 3, 2), (3, 2, 4, 9, 5)):
        y = torch.randn(shape)
        with torch.no_grad():
            expected = model.double()(y.double()).numpy()
        actual = run(tmp_path / "out.onnx", y)
        assert np.linalg.norm(actual - expected) / np.linalg.norm(expected) < TOLERANCES["float32"].rel_l2


class Viewed(nn.Module):
    """The end of the authors' ResNets: sizes that the code takes from its tensors."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 6, 3, padding=1)
        self.sn = SwitchNorm2d(6)
        self.pool = nn.AvgPool2d(4)
        self.fc = nn.Linear(24, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h = self.pool(self.sn(self.conv(x)).relu())
        return self.fc(h.view(h.size(0), -1))


@pytest.mark.parametrize(
    "way", ["dynamic", "dynamic and optimised", "unfolded", pytest.param("dynamo", marks=pytest.mark.slow)]
)
def test_sizes_that_exporters_compute_are_gone(way: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = randomise_(Viewed(), seed=1).eval()
    batches: tuple[int, ...] = (1, 2, 3)
    options: dict[str, Any] = {"dynamic_axes": {"x": {0: "n"}}}
    if way == "dynamo":
        options = {"dynamic_shapes": ({0: torch.export.Dim.AUTO},)}
    elif way == "unfolded":
        options, batches = {"do_constant_folding": False}, (2,)
    torch_export(model, image(2, 8), tmp_path / "in.onnx", dynamo=way == "dynamo", opset=18, **options)
    if "optimised" in way:
        optimise(tmp_path / "in.onnx", tmp_path / "optimised.onnx", "basic")
        (tmp_path / "optimised.onnx").replace(tmp_path / "in.onnx")
    fuse(tmp_path / "in.onnx", tmp_path / "out.onnx")
    # As in a direct export: tools/fuse_zoo.py counts both.
    assert ops(tmp_path / "out.onnx") == {"Conv": 1, "SwitchNormRelu": 1, "AveragePool": 1, "Reshape": 1, "Gemm": 1}
    model.double()
    for batch in batches:
        x = image(batch, 8)
        with torch.no_grad():
            expected = model(x.double()).numpy()
        assert np.linalg.norm(run(tmp_path / "out.onnx", x) - expected) / np.linalg.norm(expected) < 1e-6


@pytest.mark.parametrize("dynamo", [False, True])
def test_half_precision(dynamo: bool, tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = randomise_(nn.Sequential(nn.Conv2d(3, 6, 3), SwitchNorm2d(6), nn.ReLU()), seed=1).eval().half()
    x = image(2, 9).half()
    torch_export(model, x, tmp_path / "in.onnx", dynamo=dynamo, opset=18)
    report = fuse(tmp_path / "in.onnx", tmp_path / "out.onnx")
    assert report.forms == {"SwitchNormRelu": 1}
    with torch.no_grad():
        expected = model.double()(x.double()).numpy()
    actual = run(tmp_path / "out.onnx", x).astype(np.float64)
    assert np.linalg.norm(actual - expected) / np.linalg.norm(expected) < TOLERANCES["float16"].rel_l2


@pytest.mark.parametrize("dynamic", [(), ("batch", "spatial")])
def test_an_inlined_file_of_our_own_fuses_back(dynamic: tuple[str, ...], tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = randomise_(nn.Sequential(nn.Conv2d(3, 6, 3), SwitchNorm2d(6), nn.ReLU()), seed=1).eval()
    sn_deploy.export(model, image(2, 9), tmp_path / "in.onnx", inline=True, dynamic=dynamic)
    report = fuse(tmp_path / "in.onnx", tmp_path / "out.onnx")
    assert ops(tmp_path / "out.onnx") == {"Conv": 1, "SwitchNormRelu": 1}
    assert report.layers[0].folded.ddof == 1


def test_a_file_that_onnx_runtime_inlined_and_wrote_fuses_back(tmp_path: Path) -> None:
    """Its names are those that ONNX Runtime gives when it inlines the functions of what fuse makes."""
    model = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), SwitchNorm2d(4), torch.nn.ReLU()).eval()
    sn_deploy.export(model, image(2, 9), tmp_path / "in.onnx")
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "optimised.onnx")
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    onnxruntime.InferenceSession(tmp_path / "in.onnx", options, providers=["CPUExecutionProvider"])
    assert "_inlfunc_" in str(onnx.load(tmp_path / "optimised.onnx").graph)

    report = fuse(tmp_path / "optimised.onnx", tmp_path / "fused.onnx", run=True)
    assert report.forms == {"SwitchNormRelu": 1}
    assert report.whole.rel_l2 is not None
    assert "_inlfunc_" not in str(onnx.load(tmp_path / "fused.onnx").graph.node)

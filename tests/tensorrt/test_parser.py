"""TensorRT's real ONNX parser on files of `export`: every node of ours becomes its plugin, with the right fields."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import onnx
import pytest
import torch
from onnx import helper

from sn_deploy.graph.op import DOMAIN, FLOAT_ATTRIBUTES, SWITCH_NORM, SWITCH_NORM_ADD_RELU, SWITCH_NORM_RELU
from sn_deploy.nn import SwitchNorm2d, SwitchNorm3d
from sn_deploy.onnx_export import export
from tests.tensorrt.conftest import Release

DTYPES = {"fp32": "float32", "fp16": "float16", "bf16": "bfloat16"}


def look_trained_(model: torch.nn.Module) -> torch.nn.Module:
    """The model with random weights and statistics, in evaluation mode."""
    torch.manual_seed(3)
    for tensor in model.state_dict().values():
        tensor.copy_(torch.rand_like(tensor) + 0.1)
    return model.eval()


class Block(torch.nn.Module):
    """A residual block of layers alone: TensorRT's fake network has no others."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.last = (SwitchNorm2d(6) for _ in range(3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.second(self.first(x).relu())
        return self.last((y + x).relu())


class Plain(torch.nn.Sequential):
    """Two layers that nothing follows."""

    def __init__(self) -> None:
        super().__init__(SwitchNorm2d(6), SwitchNorm2d(6))


FileOf = Callable[..., Path]


@pytest.fixture(scope="module")
def file_of(tmp_path_factory: pytest.TempPathFactory) -> FileOf:
    """Makes the file of `export` of a model of that class, once for all versions of TensorRT."""
    folder = tmp_path_factory.mktemp("exported")

    def make(kind: type[torch.nn.Module], **options: Any) -> Path:
        path = folder / f"{kind.__name__}-{'-'.join(map(str, options.values()))}.onnx"
        if not path.exists():
            export(look_trained_(kind()), torch.rand(2, 6, 5, 4), path, **options)
        return path

    return make


def nodes_of(path: Path) -> list[tuple[str, dict[str, float]]]:
    """Operator and attributes of the file's nodes of ours, those that the plugin has to get."""
    found = []
    for node in onnx.load(path).graph.node:
        if node.domain == DOMAIN:
            values = {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}
            found.append((node.op_type, {name: values[name] for name in (*FLOAT_ATTRIBUTES, "ddof")}))
    return found


def expect_plugins(
    answer: dict[str, Any], path: Path, dtype: str, shape: list[int], ops: Sequence[str] = (SWITCH_NORM, SWITCH_NORM)
) -> None:
    """All nodes became plugin layers, wired and typed as in the file."""
    assert answer["parsed"], answer["errors"]
    assert answer["errors"] == []
    expected = nodes_of(path)
    assert [op for op, _ in expected] == list(ops)
    assert len(answer["plugins"]) == len(expected)
    like_x = {"type": dtype, "shape": shape}
    for plugin, (op, fields) in zip(answer["plugins"], expected, strict=True):
        assert (plugin["op"], plugin["namespace"], plugin["version"]) == (op, "", "1")
        assert plugin["fields"] == pytest.approx(fields, rel=1e-8)
        residual = [like_x] if op == SWITCH_NORM_ADD_RELU else []
        assert plugin["inputs"] == [like_x, *[{"type": "float32", "shape": [6]}] * 4, *residual]
        assert plugin["output"] == like_x


@pytest.mark.parametrize("precision", ["fp32", "fp16", "bf16"])
def test_plain_nodes_become_the_plugin(release: Release, file_of: FileOf, precision: str) -> None:
    path = file_of(Plain, precision=precision)
    answer = release.parse(path)
    assert answer["version"] // 10000 == release.major
    expect_plugins(answer, path, DTYPES[precision], [2, 6, 5, 4])
    assert answer["layers"] == 2 + 2 * 4  # the plugins and their constants


def test_half_precision_between_float32_ends(release: Release, file_of: FileOf) -> None:
    path = file_of(Plain, precision="fp16", keep_io_types=True)
    answer = release.parse(path)
    expect_plugins(answer, path, "float16", [2, 6, 5, 4])
    assert [tensor["type"] for tensor in answer["inputs"] + answer["outputs"]] == ["float32", "float32"]


def test_dynamic_shapes_stay_dynamic(release: Release, file_of: FileOf) -> None:
    path = file_of(Plain, dynamic=("batch", "spatial"))
    answer = release.parse(path)
    expect_plugins(answer, path, "float32", [-1, 6, -1, -1])
    assert answer["outputs"] == [{"type": "float32", "shape": [-1, 6, -1, -1]}]


FORMS = [SWITCH_NORM_RELU, SWITCH_NORM_ADD_RELU, SWITCH_NORM]


@pytest.mark.parametrize("precision", DTYPES)
def test_fused_nodes_become_their_plugins(release: Release, file_of: FileOf, precision: str) -> None:
    path = file_of(Block, precision=precision)
    answer = release.parse(path)
    expect_plugins(answer, path, DTYPES[precision], [2, 6, 5, 4], FORMS)
    # The plugins, their constants, and nothing else: no ReLU, no sum, no function body.
    assert answer["layers"] == 3 + 3 * 4


def test_fused_nodes_with_dynamic_shapes_between_float32_ends(release: Release, file_of: FileOf) -> None:
    path = file_of(Block, precision="fp16", keep_io_types=True, dynamic=("batch", "spatial"))
    answer = release.parse(path)
    expect_plugins(answer, path, "float16", [-1, 6, -1, -1], FORMS)
    assert [tensor["type"] for tensor in answer["inputs"] + answer["outputs"]] == ["float32", "float32"]


def test_a_node_that_the_creator_refuses_stops_the_parser(release: Release, file_of: FileOf, tmp_path: Path) -> None:
    model = onnx.load(file_of(Plain, precision="fp32"))
    for attribute in model.graph.node[0].attribute:
        if attribute.name == "mean_in":
            attribute.f = float("nan")
    onnx.save(model, tmp_path / "model.onnx")
    answer = release.parse(tmp_path / "model.onnx")
    assert not answer["parsed"]
    assert "field mean_in is nan" in answer["stderr"] + " ".join(answer["errors"])


def test_without_the_plugin_no_plugin_layer_appears(release: Release, file_of: FileOf) -> None:
    # The proof that the tests above see the plugin and not something else. The function body's layers are more than the
    # fake network has, so the parse itself may fail.
    for kind in (Plain, Block):
        assert release.parse(file_of(kind, precision="fp32"), plugin=False)["plugins"] == []


class Pooled(torch.nn.Sequential):
    """Adaptive pooling between two layers, as in the heads of pyramid pooling."""

    def __init__(self) -> None:
        super().__init__(SwitchNorm2d(6), torch.nn.AdaptiveAvgPool2d((2, 3)), SwitchNorm2d(6))


@pytest.mark.parametrize("precision", DTYPES)
def test_adaptive_pooling_of_any_size_is_read(release: Release, file_of: FileOf, precision: str) -> None:
    """Matrices of the size: a range of int64, comparisons, a sum, a quotient and two products with X in the middle."""
    path = file_of(Pooled, precision=precision, dynamic=("batch", "spatial"))
    answer = release.parse(path)
    dtype = DTYPES[precision]
    assert answer["parsed"], answer["errors"]
    assert answer["errors"] == []
    first, second = answer["plugins"]
    assert first["inputs"][0] == {"type": dtype, "shape": [-1, 6, -1, -1]}
    assert second["inputs"][0] == {"type": dtype, "shape": [-1, 6, -1, -1]}
    kinds = Counter(layer["kind"] for layer in answer["all"])
    assert (kinds["matmul"], kinds["fill"], kinds["reduce"]) == (2, 2, 2)
    fills = [layer["output"] for layer in answer["all"] if layer["kind"] == "fill"]
    assert fills == [{"type": "int64", "shape": [-1]}] * 2
    # Each matrix, before its rows are divided by their sums: as many as there are cells, whatever the size.
    sums = [layer["inputs"][0]["shape"] for layer in answer["all"] if layer["kind"] == "reduce"]
    assert sums == [[2, -1], [3, -1]]
    for product in (layer for layer in answer["all"] if layer["kind"] == "matmul"):
        assert {tensor["type"] for tensor in (*product["inputs"], product["output"])} == {dtype}


class Clip(torch.nn.Module):
    """Both fused forms on (N, C, frames, height, width)."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = SwitchNorm3d(6), SwitchNorm3d(6)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return (self.last(self.first(x).relu()) + x).relu()


@pytest.mark.parametrize("precision", DTYPES)
def test_clips_become_the_plugin(release: Release, tmp_path: Path, precision: str) -> None:
    path = tmp_path / "clip.onnx"
    export(look_trained_(Clip()), torch.rand(2, 6, 4, 5, 3), path, precision=precision, dynamic=("batch", "spatial"))
    answer = release.parse(path)
    expect_plugins(answer, path, DTYPES[precision], [-1, 6, -1, -1, -1], [SWITCH_NORM_RELU, SWITCH_NORM_ADD_RELU])
    assert answer["layers"] == 2 + 2 * 4


def test_a_product_of_two_types_stops_the_parser(release: Release, file_of: FileOf, tmp_path: Path) -> None:
    """The planted fault: in a strongly typed network the matrices have to be of X's type."""
    model = onnx.load(file_of(Pooled, precision="fp16", dynamic=("batch", "spatial")))
    casts = [node for node in model.graph.node if node.op_type == "Cast"]
    halves = [a for node in casts for a in node.attribute if a.name == "to" and a.i == onnx.TensorProto.FLOAT16]
    assert halves, [node.op_type for node in model.graph.node]
    for attribute in halves:
        attribute.i = onnx.TensorProto.FLOAT
    onnx.save(model, tmp_path / "mixed.onnx")
    assert not release.parse(tmp_path / "mixed.onnx")["parsed"]

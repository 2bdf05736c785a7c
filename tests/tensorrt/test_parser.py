"""TensorRT's real ONNX parser on files of `export`: every SwitchNorm node becomes the plugin, with the right fields."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import onnx
import pytest
import torch
from onnx import TensorProto, helper

from sn_deploy.graph.export import export
from sn_deploy.graph.op import DOMAIN, FLOAT_ATTRIBUTES, SWITCH_NORM
from sn_deploy.nn import SwitchNorm2d
from tests.tensorrt.conftest import Release

DTYPES = {"fp32": "float32", "fp16": "float16", "bf16": "bfloat16"}


def two_layers() -> torch.nn.Sequential:
    """Two SN layers that look trained."""
    torch.manual_seed(3)
    model = torch.nn.Sequential(SwitchNorm2d(6), SwitchNorm2d(6))
    for tensor in model.state_dict().values():
        tensor.copy_(torch.rand_like(tensor) + 0.1)
    return model.eval()


def exported(path: Path, **options: Any) -> Path:
    """A file of `export` with the two layers."""
    export(two_layers(), torch.rand(2, 6, 5, 4), path, **options)
    return path


def fields_of(path: Path) -> list[dict[str, float]]:
    """The attributes of the file's SwitchNorm nodes that the plugin has to get."""
    found = []
    for node in onnx.load(path).graph.node:
        if node.op_type == SWITCH_NORM:
            values = {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}
            found.append({name: values[name] for name in (*FLOAT_ATTRIBUTES, "ddof")})
    return found


def expect_plugins(answer: dict[str, Any], path: Path, dtype: str, shape: list[int]) -> None:
    """Both nodes became plugin layers, wired and typed as in the file."""
    assert answer["parsed"], answer["errors"]
    assert answer["errors"] == []
    expected = fields_of(path)
    assert len(expected) == 2
    assert len(answer["plugins"]) == 2
    for plugin, fields in zip(answer["plugins"], expected, strict=True):
        assert (plugin["op"], plugin["namespace"], plugin["version"]) == (SWITCH_NORM, "", "1")
        assert plugin["fields"] == pytest.approx(fields, rel=1e-8)
        x, *parameters = plugin["inputs"]
        assert x == {"type": dtype, "shape": shape}
        assert parameters == [{"type": "float32", "shape": [6]}] * 4
        assert plugin["output"] == x


@pytest.mark.parametrize("precision", ["fp32", "fp16", "bf16"])
def test_nodes_become_the_plugin(release: Release, tmp_path: Path, precision: str) -> None:
    path = exported(tmp_path / "model.onnx", precision=precision)
    answer = release.parse(path)
    assert answer["version"] // 10000 == release.major
    expect_plugins(answer, path, DTYPES[precision], [2, 6, 5, 4])
    assert answer["layers"] == 2 + 2 * 4  # the plugins and their constants


def test_half_precision_between_float32_ends(release: Release, tmp_path: Path) -> None:
    path = exported(tmp_path / "model.onnx", precision="fp16", keep_io_types=True)
    answer = release.parse(path)
    expect_plugins(answer, path, "float16", [2, 6, 5, 4])
    assert [tensor["type"] for tensor in answer["inputs"] + answer["outputs"]] == ["float32", "float32"]


def test_dynamic_shapes_stay_dynamic(release: Release, tmp_path: Path) -> None:
    path = exported(tmp_path / "model.onnx", dynamic=("batch", "spatial"))
    answer = release.parse(path)
    expect_plugins(answer, path, "float32", [-1, 6, -1, -1])
    assert answer["outputs"] == [{"type": "float32", "shape": [-1, 6, -1, -1]}]


def fused_model(path: Path, op: str, inputs: list[str]) -> Path:
    """A file with one fused node; `export` writes the plain form, fusion comes after it."""
    x = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [2, 6, 5, 4]) for name in inputs]
    names = ["scale", "bias", "mean_offset", "var_offset"]
    constants = [helper.make_tensor(name, TensorProto.FLOAT, [6], [0.5] * 6) for name in names]
    floats = dict.fromkeys(FLOAT_ATTRIBUTES, 0.25)
    node = helper.make_node(op, ["x", *names, *inputs[1:]], ["y"], domain=DOMAIN, ddof=1, plugin_namespace="", **floats)
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, [2, 6, 5, 4])
    graph = helper.make_graph([node], "fused", x, [y], constants)
    opsets = [helper.make_opsetid("", 20), helper.make_opsetid(DOMAIN, 1)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=10), path)
    return path


@pytest.mark.parametrize(("op", "inputs"), [("SwitchNormRelu", ["x"]), ("SwitchNormAddRelu", ["x", "residual"])])
def test_fused_nodes_become_their_plugins(release: Release, tmp_path: Path, op: str, inputs: list[str]) -> None:
    answer = release.parse(fused_model(tmp_path / "model.onnx", op, inputs))
    assert answer["parsed"], answer["errors"]
    (plugin,) = answer["plugins"]
    assert plugin["op"] == op
    like_x = {"type": "float32", "shape": [2, 6, 5, 4]}
    assert plugin["inputs"] == [like_x, *[{"type": "float32", "shape": [6]}] * 4, *[like_x] * (len(inputs) - 1)]
    assert plugin["output"] == like_x


def test_a_node_that_the_creator_refuses_stops_the_parser(release: Release, tmp_path: Path) -> None:
    path = exported(tmp_path / "model.onnx")
    model = onnx.load(path)
    for attribute in model.graph.node[0].attribute:
        if attribute.name == "mean_in":
            attribute.f = float("nan")
    onnx.save(model, path)
    answer = release.parse(path)
    assert not answer["parsed"]
    assert "field mean_in is nan" in answer["stderr"] + " ".join(answer["errors"])


def test_without_the_plugin_no_plugin_layer_appears(release: Release, tmp_path: Path) -> None:
    # The proof that the tests above see the plugin and not something else. The function body's layers are more than the
    # fake network has, so the parse itself may fail.
    answer = release.parse(exported(tmp_path / "model.onnx"), plugin=False)
    assert answer["plugins"] == []

"""Blocks: every node is in one of them, each with what only it and later ones need."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import onnx_ir as ir

from sn_deploy.check.bisect.blocks import BEHIND, cut
from sn_deploy.check.bisect.originals import originals_of
from sn_deploy.check.layers.onnx_points import layers_in_file
from sn_deploy.check.result import BackendInfo
from sn_deploy.graph.precision import convert_precision
from tests.check.small_net import weights, write_net
from tests.precision.nets import residual_net


def operators(path: Path) -> dict[str, list[str]]:
    """Block -> its operators, in order, once it is sure that each node is in one block."""
    blocks = cut(path, "float16", layers_in_file(path).layers)
    nodes = [node.op_type for node in ir.load(path).graph]
    assert sorted(place for own in blocks.places.values() for place in own) == list(range(len(nodes)))
    assert blocks.left_out == ()
    return {name: [nodes[place] for place in sorted(own)] for name, own in blocks.places.items()}


def test_a_chain(tmp_path: Path) -> None:
    found = operators(write_net(tmp_path / "net.onnx", dtype="float16"))
    assert found["sn1"] == ["Identity", "Conv", "SwitchNorm", "Relu"]
    assert found["sn2"] == ["Conv", "SwitchNorm", "Relu"]
    assert list(found) == ["sn1", "sn2", BEHIND]
    assert found[BEHIND][-1] == "Gemm"


def test_a_residual_is_of_the_block_that_made_it(tmp_path: Path) -> None:
    model = ir.load(residual_net(tmp_path / "net.onnx"))
    convert_precision(model, "fp16")
    ir.save(model, tmp_path / "half.onnx")
    first, second, third, behind = operators(tmp_path / "half.onnx").values()
    assert first == ["Cast", "Conv", "SwitchNormRelu"]
    assert second == ["Conv", "SwitchNormAddRelu"]
    assert third == ["Conv", "SwitchNorm"]
    assert behind == ["GlobalAveragePool", "Flatten", "Cast"]


def test_originals_are_the_references_by_their_names(tmp_path: Path) -> None:
    path = write_net(tmp_path / "net.onnx")
    info = BackendInfo("ort", "ort", str(path))
    original = originals_of(SimpleNamespace(info=info))  # type: ignore[arg-type]
    found = original("fc.bias")
    assert found is not None
    np.testing.assert_array_equal(found, weights()["fc.bias"])
    assert original("gone") is None
    assert originals_of(SimpleNamespace(info=BackendInfo("trt", "trt", "net.plan")))("fc.bias") is None  # type: ignore[arg-type]

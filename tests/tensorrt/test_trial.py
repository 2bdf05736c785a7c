"""TensorRT's real parser on files with the benchmarks' trial of a convolution and its SN layer in one node."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest

from sn_deploy.engine.model_file import read_model_file
from tests.gpu.expansions import exported, fused_convolutions
from tests.tensorrt.conftest import Release


@pytest.mark.parametrize("adds", [True, False])
def test_a_fused_node_becomes_its_plugin(release: Release, adds: bool, tmp_path: Path) -> None:
    model, _ = exported(adds, tmp_path / "block.onnx")
    path = tmp_path / "fused.onnx"
    onnx.save(fused_convolutions().fused(model), path)
    assert read_model_file(path).body_nodes is None  # `build` takes it
    answer = release.parse(path, library=release.trial)
    assert answer["parsed"], answer["errors"]
    assert answer["errors"] == []
    (plugin,) = answer["plugins"]
    assert plugin["op"] == ("SwitchNormConvolutionAddRelu" if adds else "SwitchNormConvolution")
    assert plugin["fields"]["stride"] == 2
    y = {"type": "float16", "shape": [2, 128, 3, 4]}
    assert plugin["inputs"] == [
        {"type": "float16", "shape": [2, 64, 6, 7]},
        *[{"type": "float32", "shape": [128]}] * 4,
        {"type": "float16", "shape": [128, 64, 1, 1]},
        *([y] if adds else []),
    ]
    assert plugin["output"] == y
    assert answer["layers"] == 1 + 5  # the plugin and its constants

"""TensorRT's real ONNX refitters over our files: every weight of an engine is found, SN's constants too."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from sn_deploy.graph.precision import convert_precision
from tests.check.small_net import write_net
from tests.tensorrt.conftest import Release


def weights_of(path: Path) -> dict[str, int]:
    """The float weights of a file: name -> how many values."""
    floats = (onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16, onnx.TensorProto.BFLOAT16)
    tensors = onnx.load(path, load_external_data=False).graph.initializer
    return {tensor.name: int(np.prod(tensor.dims)) for tensor in tensors if tensor.data_type in floats}


@pytest.mark.parametrize("form", ["fp32", "fp16", "external"])
def test_every_weight_is_found(release: Release, tmp_path: Path, form: str) -> None:
    path = write_net(tmp_path / "net.onnx")
    if form == "fp16":
        model = ir.load(path)
        convert_precision(model, "fp16")
        ir.save(model, path)
    if form == "external":
        onnx.save(onnx.load(path), path, save_as_external_data=True, location="net.data", size_threshold=0)
    weights = weights_of(path)
    assert {"conv1.weight", "sn1.scale", "sn2.var_offset"} <= set(weights)
    found = release.refit(path, list(weights))
    assert found["taken"], found["errors"]
    assert found["given"] == weights


def test_what_is_not_in_the_file_is_not_given(release: Release, tmp_path: Path) -> None:
    path = write_net(tmp_path / "net.onnx")
    found = release.refit(path, ["conv1.weight", "conv9.weight"])
    assert found["given"] == {"conv1.weight": weights_of(path)["conv1.weight"]}


def test_a_file_that_is_none(release: Release, tmp_path: Path) -> None:
    (tmp_path / "net.onnx").write_bytes(b"no file of ours")
    found = release.refit(tmp_path / "net.onnx", ["conv1.weight"])
    assert not found["taken"]
    assert found["errors"]

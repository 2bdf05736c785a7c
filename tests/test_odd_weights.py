"""ONNX files whose weights and inputs are of shapes and types that arrays don't have, or that no memory holds."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from sn_deploy.diff import diff
from sn_deploy.errors import SnDeployError
from sn_deploy.onnx_file import read_model
from tests.cli.command import run


def net(path: Path, weight: TensorProto | None = None, shape: tuple[int, ...] = (2, 3)) -> Path:
    graph = helper.make_graph(
        [helper.make_node("Mul", ["x", "two"], ["y"])],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(np.array(2, np.float32), "two"), *([] if weight is None else [weight])],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10), path)
    return path


@pytest.mark.parametrize("dims", [[1 << 62, 1 << 62, 0], [1] * 70, [0] * 70])
def test_shapes_that_no_array_has(dims: list[int], tmp_path: Path) -> None:
    weight = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=dims, raw_data=b"" if 0 in dims else bytes(4))
    with pytest.raises(SnDeployError, match="which no array has"):
        read_model(net(tmp_path / "net.onnx", weight))


def test_an_empty_weight_is_read(tmp_path: Path) -> None:
    weight = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[1 << 40, 0], raw_data=b"")
    assert not diff(*[net(tmp_path / "net.onnx", weight)] * 2).different


def test_text_is_compared_by_its_bytes(tmp_path: Path) -> None:
    texts = [[b"a", b"\xff"], [b"a", b"\xff"], [b"a", b"\xfe"]]
    files = [
        net(tmp_path / f"{index}.onnx", helper.make_tensor("w", TensorProto.STRING, [2], text))
        for index, text in enumerate(texts)
    ]
    assert not diff(files[0], files[1], run=False).different
    (change,) = diff(files[0], files[2], run=False).weights.changed.values()
    assert (change.what, change.max_abs) == ("values", None)


def test_complex_weights_differ_by_both_parts(tmp_path: Path) -> None:
    files = [
        net(tmp_path / f"{index}.onnx", numpy_helper.from_array(np.array([1 + value * 1j], np.complex64), "w"))
        for index, value in enumerate((1, 3))
    ]
    (change,) = diff(*files, run=False).weights.changed.values()
    assert change.max_abs == 2


@pytest.mark.parametrize("shape", [(1 << 31, 1 << 31), (2, 1 << 44), (2, 1 << 62)])
@pytest.mark.parametrize("command", ["diff net.onnx net.onnx", "convert-precision net.onnx -o h.onnx --precision bf16"])
def test_inputs_that_no_memory_holds(
    command: str,
    shape: tuple[int, ...],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    net(tmp_path / "net.onnx", shape=shape)
    code, _, err = run(capsys, *command.split())
    assert code == 2, err
    assert "GiB" in err or "batches are of" in err
    assert not (tmp_path / "h.onnx").exists()

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
from tests.cli.command import run, run_folded


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


@pytest.mark.parametrize("place", ["weight", "constant"])
@pytest.mark.parametrize(
    "command",
    [
        "fuse net.onnx -o out.onnx",
        "inline net.onnx --opset 17 -o out.onnx",
        "specialise net.onnx -o out.onnx",
        "convert-precision net.onnx --precision fp16 -o out.onnx",
        "quantize net.onnx --precision int8 -o out.onnx",
        "optimise net.onnx --for ort-cpu -o out.onnx",
    ],
)
def test_what_is_sparse_is_told(
    command: str, place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The file was said to be invalid, damaged, or a fault of sn-deploy's."""
    made = onnx.load(net(tmp_path / "net.onnx"))
    values = numpy_helper.from_array(np.array([3], np.float32), "few")
    sparse = helper.make_sparse_tensor(values, numpy_helper.from_array(np.array([1])), [3])
    if place == "weight":
        made.graph.sparse_initializer.append(sparse)
    else:
        made.graph.node.insert(0, helper.make_node("Constant", [], ["few"], name="few", sparse_value=sparse))
    onnx.save(made, tmp_path / "net.onnx")
    monkeypatch.chdir(tmp_path)
    code, _, told = run_folded(capsys, *command.split())
    kind = "weight" if place == "weight" else "Constant"
    assert (code, f"net.onnx: {kind} 'few' is sparse" in told) == (2, True), told
    assert not (tmp_path / "out.onnx").exists()


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

"""Files at which ONNX's shape inference ends the process are refused, and this process lives."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import onnx
import onnx_ir as ir
import pytest
from onnx import TensorProto, helper

from sn_deploy import child
from sn_deploy.cli import main
from sn_deploy.errors import SnDeployError
from sn_deploy.graph import onnx_process
from sn_deploy.graph.inference import check_openable, infer_shapes
from sn_deploy.graph.inference_guard import check_inferable
from sn_deploy.graph.node_inference import infer_node
from tests import switch_norm_file
from tests.check.small_net import write_net
from tests.graph.deadly_shapes import DEADLY, write
from tools import soak_inference

BREAKS_DOWN = r"ONNX's shape inference breaks down at it \(SIG(ABRT|SEGV): .+\); look for sizes that fall below 0"


@pytest.mark.parametrize("name", DEADLY)
def test_without_the_guard_they_end_the_process(name: str) -> None:
    command = [sys.executable, "-m", "tests.graph.deadly_shapes", name]
    assert subprocess.run(command, capture_output=True, check=False).returncode < 0


@pytest.mark.parametrize("name", DEADLY)
def test_they_are_refused(name: str) -> None:
    with pytest.raises(SnDeployError, match=f"file: {BREAKS_DOWN}"):
        infer_shapes(ir.from_proto(DEADLY[name]()), "file")


@pytest.mark.parametrize(
    "line",
    [
        "inspect deadly.onnx",
        "fuse deadly.onnx -o written.onnx",
        "check deadly.onnx --limit 2 --no-latency",
        "diff deadly.onnx net.onnx",
        "convert-precision deadly.onnx --precision fp16 -o written.onnx",
        "quantize deadly.onnx --precision int8 --data random -o written.onnx",
        "serve triton deadly.onnx -o written --name net",
    ],
)
@pytest.mark.parametrize("name", ["a_convolution", "a_gather"])
def test_every_command_refuses_them_in_one_line(
    line: str, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    write(name, tmp_path / "deadly.onnx")
    write_net(tmp_path / "net.onnx")
    with pytest.raises(SystemExit) as stop:
        main(line.split())
    assert stop.value.code == 2
    (error,) = [text for text in capsys.readouterr().err.splitlines() if text]
    assert error.startswith("error: deadly.onnx: ")
    assert {path.name for path in tmp_path.iterdir()} == {"deadly.onnx", "net.onnx"}


def test_onnxruntime_is_given_no_file_that_states_other_sizes(tmp_path: Path) -> None:
    # For onnx the size that is stated holds; ONNX Runtime ends the process all the same.
    model = DEADLY["a_convolution"]()
    model.graph.value_info.append(helper.make_tensor_value_info("a", TensorProto.FLOAT, ("N", 9, 4, 4)))
    path = tmp_path / "deadly.onnx"
    onnx.save(model, path)
    infer_shapes(ir.from_proto(model))
    with pytest.raises(SnDeployError, match=BREAKS_DOWN):
        check_openable(path, model)
    code = "import onnxruntime as ort, sys; ort.InferenceSession(sys.argv[1])"
    assert subprocess.run([sys.executable, "-c", code, path], capture_output=True, check=False).returncode < 0


def test_a_slice_of_known_sizes_and_the_projects_own_files_need_no_other_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*arguments: object) -> bytes:
        raise AssertionError

    monkeypatch.setattr(onnx_process, "run", refused)
    onnx.save(switch_norm_file.model([switch_norm_file.node("sn", "x", "y")]), tmp_path / "sn.onnx")
    for path in (write_net(tmp_path / "net.onnx"), tmp_path / "sn.onnx"):
        check_openable(path, onnx.load(path))
        infer_shapes(ir.from_proto(onnx.load(path)))
    model = DEADLY["a_convolution"]()
    del model.graph.node[0]
    model.graph.node[0].input[0] = "x"
    found = ir.from_proto(model)
    infer_shapes(found)
    assert found.graph.outputs[0].shape == ir.Shape(["N", 3, 1, 3])


def test_the_model_is_as_before() -> None:
    model = ir.from_proto(DEADLY["a_convolution"]())
    before = ir.to_proto(model).SerializeToString()
    with pytest.raises(SnDeployError):
        check_inferable(model, None)
    assert ir.to_proto(model).SerializeToString() == before


def test_one_node_alone() -> None:
    model = ir.from_proto(DEADLY["a_convolution"]())
    convolution, slice_ = model.graph
    types = {
        name: helper.make_tensor_type_proto(TensorProto.FLOAT, shape)
        for name, shape in (("x", (1, 3, 3, 3)), ("kernel", (3, 3, 5, 5)), ("a", (1, 3, -1, -1)))
    }
    assert [dim.dim_value for dim in infer_node(convolution, types, {}, 18)["a"].tensor_type.shape.dim] == [
        1,
        3,
        -1,
        -1,
    ]
    numbers = {tensor.name: tensor for tensor in DEADLY["a_convolution"]().graph.initializer}
    types |= {name: helper.make_tensor_type_proto(TensorProto.INT64, (1,)) for name in ("zero", "one", "two")}
    assert infer_node(slice_, types, numbers, 18) == {}


def test_tasks_in_another_process(monkeypatch: pytest.MonkeyPatch) -> None:
    content = onnx.helper.make_model(DEADLY["a_pad"]().graph, opset_imports=[helper.make_opsetid("", 10)])
    with pytest.raises(onnx_process.TaskError, match=r".+"):
        onnx_process.run("convert", content.SerializeToString(), "99")
    monkeypatch.setattr(child, "_CHILD", "import os; os._exit(3)")
    with pytest.raises(onnx_process.EndedError, match="exit code 3: no message"):
        onnx_process.run("infer", b"")
    # Where Python is a part of another program there is none to start.
    monkeypatch.setattr(sys, "executable", "")
    with pytest.raises(onnx_process.TaskError):
        onnx_process.run("infer", b"no model")
    monkeypatch.setattr(sys, "executable", "/nowhere")
    assert onnx_process.run("infer", DEADLY["a_pad"]().SerializeToString()[:0]) == b""


def test_drawn_graphs() -> None:
    counts, _, deaths = soak_inference.take(100, "test", "safe")
    assert not deaths
    assert counts["inferred here"] > 30
    counts, _, deaths = soak_inference.take(20, "test", "any")
    assert not deaths
    assert counts["inferred here after another process"] > 2


def test_without_the_guard_drawn_graphs_end_the_process() -> None:
    command = [sys.executable, "-m", "tools.soak_inference", "--work", "0", "2000", "test", "unguarded"]
    assert subprocess.run(command, capture_output=True, check=False).returncode < 0

"""ONNX files whose weights lie elsewhere: no command reads a file that isn't the model's own."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from sn_deploy import cli
from sn_deploy.errors import SnDeployError
from sn_deploy.fuse import fuse
from sn_deploy.graph.function_body import function_body
from sn_deploy.inline import inline
from sn_deploy.onnx_file import external_files, read_model, read_proto
from sn_deploy.precision import convert_precision
from sn_deploy.runtime.native import ort_library
from sn_deploy.runtime.ort import OrtSession
from sn_deploy.specialise import specialise
from tests import switch_norm_file
from tests.specialise.nets import MIXED, Net

SECRET = b"\x2a" * 4096


def external(location: str, name: str = "w") -> TensorProto:
    """A tensor of 1024 numbers that lies in another file."""
    tensor = TensorProto(name=name, data_type=TensorProto.FLOAT, dims=[1, 4, 16, 16])
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in (("location", location), ("offset", "0"), ("length", "4096")):
        tensor.external_data.add(key=key, value=value)
    return tensor


def model_with(tensor: TensorProto) -> onnx.ModelProto:
    norm = switch_norm_file.node("norm", "x", "y")
    made = switch_norm_file.model([norm], (1, 4, 16, 16), initializers=[tensor], output="z")
    made.graph.node.append(helper.make_node("Add", ["y", tensor.name], ["z"]))
    return made


def parent(folder: Path) -> str:
    (folder.parent / "secret").write_bytes(SECRET)
    return "../secret"


def parent_by_way_of_a_folder(folder: Path) -> str:
    (folder / "inner").mkdir()
    (folder.parent / "secret").write_bytes(SECRET)
    return "inner/../../secret"


def absolute(folder: Path) -> str:
    (folder.parent / "secret").write_bytes(SECRET)
    return str(folder.parent / "secret")


def symbolic_link(folder: Path) -> str:
    (folder.parent / "secret").write_bytes(SECRET)
    (folder / "weights.bin").symlink_to(folder.parent / "secret")
    return "weights.bin"


def link_of_a_folder(folder: Path) -> str:
    (folder.parent / "secret").write_bytes(SECRET)
    (folder / "inner").symlink_to(folder.parent)
    return "inner/secret"


def hard_link(folder: Path) -> str:
    (folder.parent / "secret").write_bytes(SECRET)
    (folder / "weights.bin").hardlink_to(folder.parent / "secret")
    return "weights.bin"


def pipe(folder: Path) -> str:
    os.mkfifo(folder / "weights.bin")  # whoever opened it would wait for ever
    return "weights.bin"


HOSTILE = {
    parent: "lies outside its folder: '../secret'",
    parent_by_way_of_a_folder: "lies outside its folder",
    absolute: "lies outside its folder",
    symbolic_link: "is a symbolic link",
    link_of_a_folder: "is a symbolic link",
    hard_link: "is a hard link",
    pipe: "is no file",
}

# Each command that reads an ONNX file: its options behind the file.
COMMANDS = {
    "inspect": [],
    "fuse": ["-o", "out.onnx"],
    "check": ["--no-latency", "--json", "out.json"],
    "optimise": ["--for", "ort-cpu", "-o", "out.onnx"],
    "specialise": ["-o", "out.onnx"],
    "convert-precision": ["--precision", "fp16", "-o", "out.onnx"],
    "quantize": ["--precision", "int8", "-o", "out.onnx"],
    "build": ["-o", "out.engine"],
    "serve": ["-o", "repository", "--name", "net"],
}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    made = tmp_path / "model"
    made.mkdir()
    monkeypatch.chdir(made)
    return made


def refuse(line: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    with pytest.raises(SystemExit) as stop:
        cli.main(line)
    printed = capsys.readouterr().err
    assert stop.value.code == 2, printed
    errors = [one for one in printed.splitlines() if one.startswith("error: ")]
    assert len(errors) == 1, printed
    return errors[0]


def line_of(command: str, file: str) -> list[str]:
    return [command, *(["triton"] if command == "serve" else []), file, *COMMANDS[command]]


@pytest.mark.parametrize("place", HOSTILE)
@pytest.mark.parametrize("command", COMMANDS)
def test_no_command_reads_what_lies_elsewhere(
    command: str, place: Callable[[Path], str], folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "net.onnx").write_bytes(model_with(external(place(folder))).SerializeToString())
    before = sorted(folder.iterdir())
    assert HOSTILE[place] in refuse(line_of(command, "net.onnx"), capsys)
    assert sorted(folder.iterdir()) == before


@pytest.mark.parametrize("hostile", [0, 1])
def test_diff_reads_neither_file(hostile: int, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "bad.onnx").write_bytes(model_with(external(parent(folder))).SerializeToString())
    good = model_with(onnx.numpy_helper.from_array(np.ones((1, 4, 16, 16), np.float32), "w"))
    onnx.save(good, folder / "good.onnx")
    files = ["good.onnx", "good.onnx"]
    files[hostile] = "bad.onnx"
    assert "bad.onnx: its external data lies outside" in refuse(["diff", *files], capsys)


def in_a_constant(tensor: TensorProto) -> onnx.ModelProto:
    made = model_with(onnx.numpy_helper.from_array(np.ones((1, 4, 16, 16), np.float32), "w"))
    made.graph.node.insert(0, helper.make_node("Constant", [], ["c"], value=tensor))
    return made


def in_a_subgraph(tensor: TensorProto) -> onnx.ModelProto:
    made = in_a_constant(onnx.numpy_helper.from_array(np.array(True), "c"))
    value = helper.make_tensor_value_info("w", TensorProto.FLOAT, [1, 4, 16, 16])
    branch = helper.make_graph([], "branch", [], [value], [tensor])
    made.graph.node.insert(1, helper.make_node("If", ["c"], ["d"], then_branch=branch, else_branch=branch))
    return made


def in_a_function(tensor: TensorProto) -> onnx.ModelProto:
    made = in_a_constant(onnx.numpy_helper.from_array(np.array(True), "c"))
    body = [helper.make_node("Constant", [], ["y"], value=tensor)]
    made.functions.append(helper.make_function("theirs", "F", [], ["y"], body, [helper.make_opsetid("", 20)]))
    return made


def in_a_sparse_tensor(tensor: TensorProto) -> onnx.ModelProto:
    made = in_a_constant(onnx.numpy_helper.from_array(np.array(True), "c"))
    made.graph.sparse_initializer.add(values=tensor, dims=[1024])
    return made


@pytest.mark.parametrize("external_data", [None, True])
@pytest.mark.parametrize("command", ["fuse", "inline", "specialise", "convert-precision"])
def test_what_a_node_holds_elsewhere_is_in_the_result(
    command: str, external_data: bool | None, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As onnx writes Constant nodes, with convert_attribute=True; the result lies in another folder."""
    monkeypatch.chdir(folder.parent)
    values = np.linspace(-1, 1, 4 * 16 * 16, dtype=np.float32)
    (folder / "weights.bin").write_bytes(values.tobytes())
    made = model_with(external("weights.bin", "c"))
    del made.graph.initializer[-1]
    made.graph.node.insert(0, helper.make_node("Constant", [], ["c"], value=external("weights.bin", "c")))
    made.functions.append(function_body(20, [4]))
    (folder / "net.onnx").write_bytes(made.SerializeToString())
    commands: dict[str, Callable[..., object]] = {
        "fuse": fuse,
        "inline": inline,
        "specialise": specialise,
        "convert-precision": partial(convert_precision, precision="fp16"),
    }
    out = folder.parent / "out.onnx"
    commands[command](folder / "net.onnx", out, external_data=external_data)
    x = {name: np.ones((1, 4, 16, 16), np.float32) for name in ("x", "residual")}
    results = []
    for path in (folder / "net.onnx", out):
        with OrtSession(path, native=False) as session:
            results.append(session.run({info.name: x[info.name] for info in session.inputs})["z"])
    np.testing.assert_allclose(results[1], results[0], atol=1e-3)


@pytest.mark.parametrize("put", [in_a_constant, in_a_subgraph, in_a_function, in_a_sparse_tensor])
def test_wherever_a_tensor_stands(put: Callable[[TensorProto], onnx.ModelProto], folder: Path) -> None:
    (folder / "net.onnx").write_bytes(put(external(parent(folder))).SerializeToString())
    with pytest.raises(SnDeployError, match="lies outside its folder"):
        read_proto(folder / "net.onnx")


@pytest.mark.parametrize("name", ["", ".", "C:\\secret", "\\\\server\\secret", "a\0b"])
def test_names_that_are_none(name: str, folder: Path) -> None:
    with pytest.raises(SnDeployError, match="lies outside its folder"):
        external_files(model_with(external(name)), folder / "net.onnx")


def test_a_file_below_is_read(folder: Path) -> None:
    (folder / "below").mkdir()
    (folder / "below" / "weights.bin").write_bytes(np.arange(1024, dtype=np.float32).tobytes())
    (folder / "net.onnx").write_bytes(model_with(external("below/weights.bin")).SerializeToString())
    weight = read_model(folder / "net.onnx").graph.initializers["w"].const_value
    assert weight is not None
    assert np.array_equal(weight.numpy().ravel(), np.arange(1024))


@pytest.mark.parametrize(
    "line",
    [
        ["fuse"],
        ["specialise", "--threads", "1"],
        ["convert-precision", "--precision", "fp16", "--keep", "Conv"],
        ["quantize", "--precision", "int8", "--data", "random", "--limit", "2"],
        ["optimise", "--for", "ort-cpu"],
    ],
    ids=lambda line: line[0],
)
def test_what_is_made_of_a_file_has_the_weights_from_beside_it(line: list[str], folder: Path, tmp_path: Path) -> None:
    if line[0] == "optimise" and ort_library() is None:
        pytest.skip("the native library is not built")
    net = Net(seed=1)
    net.norm(net.conv(net.conv("x", "first", (3, 8)), "second", (8, 8)), "sn", 8, MIXED, MIXED)
    net.save(folder / "whole.onnx", ["N", 3, 8, 8], ["sn"])
    onnx.save(onnx.load("whole.onnx"), "net.onnx", save_as_external_data=True, location="data", size_threshold=0)
    assert external_files(read_proto(Path("net.onnx")), Path("net.onnx"))
    made = tmp_path / "made.onnx"
    assert cli.main([line[0], "net.onnx", "-o", str(made), *line[1:]]) is None
    assert not external_files(read_proto(made), made)


def test_missing_data_is_named_and_inspect_does_without(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "net.onnx").write_bytes(model_with(external("weights.bin")).SerializeToString())
    assert "its external data weights.bin is missing" in refuse(line_of("fuse", "net.onnx"), capsys)
    cli.main(["inspect", "net.onnx"])
    assert "SN2d" in capsys.readouterr().out


# What an entry of a weight's place in its file of 4096 bytes may say, and what it is told.
WRONG_PLACES = {
    "offset": {"4096": "begins at byte 4096", "-4": "begins at byte -4", "1" + "0" * 30: "begins at byte 1", "x": "x"},
    "length": {"4092": "has 4092 bytes", "9" * 30: "bytes (expected 4096)", "": "lies at"},
}


@pytest.mark.parametrize(("key", "value"), [(key, value) for key, values in WRONG_PLACES.items() for value in values])
def test_a_place_that_the_file_does_not_have(key: str, value: str, folder: Path) -> None:
    tensor = external("weights.bin")
    next(entry for entry in tensor.external_data if entry.key == key).value = value
    (folder / "weights.bin").write_bytes(bytes(4096))
    (folder / "net.onnx").write_bytes(model_with(tensor).SerializeToString())
    with pytest.raises(SnDeployError, match=re.escape(WRONG_PLACES[key][value])):
        read_proto(folder / "net.onnx")


@pytest.mark.parametrize("command", [*COMMANDS, "diff"])
def test_data_that_was_cut_off(command: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "net.onnx").write_bytes(model_with(external("weights.bin")).SerializeToString())
    (folder / "weights.bin").write_bytes(bytes(4095))
    line = ["diff", "net.onnx", "net.onnx"] if command == "diff" else line_of(command, "net.onnx")
    assert "weight 'w' begins at byte 0 of weights.bin and has 4096 bytes" in refuse(line, capsys)

"""SwitchNorm nodes that no exporter writes: each command that works on them says which, in one line."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import onnx
import pytest

from tests import switch_norm_file
from tests.cli.command import run

COMMANDS = {
    "fuse": [],
    "optimise": ["--for", "ort-cpu"],
    "specialise": [],
    "convert-precision": ["--precision", "fp16"],
    "quantize": ["--precision", "int8"],
}


def fewer(node: onnx.NodeProto) -> None:
    node.input.pop()


def more(node: onnx.NodeProto) -> None:
    node.input.append(node.input[1])


def without_inputs(node: onnx.NodeProto) -> None:
    node.ClearField("input")


def left_out(node: onnx.NodeProto) -> None:
    node.input[2] = ""


def more_outputs(node: onnx.NodeProto) -> None:
    node.output.append("more")


def another_operator(node: onnx.NodeProto) -> None:
    node.op_type = "SwitchNormAddRelu"


BREAKS = [fewer, more, without_inputs, left_out, more_outputs, another_operator]


@pytest.mark.parametrize("broken", BREAKS)
@pytest.mark.parametrize("command", COMMANDS)
def test_refused_in_one_line(
    command: str, broken: Callable[[onnx.NodeProto], None], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    net = switch_norm_file.model([switch_norm_file.node("norm", "x", "y")])
    broken(net.graph.node[0])
    onnx.save(net, tmp_path / "net.onnx")
    code, _, err = run(capsys, command, tmp_path / "net.onnx", "-o", tmp_path / "out.onnx", *COMMANDS[command])
    assert code == 2, err
    assert len(err.strip().splitlines()) == 1
    assert not (tmp_path / "out.onnx").exists()

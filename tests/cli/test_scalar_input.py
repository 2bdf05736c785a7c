"""A file with an input without axes, as a gain is: every command that runs it draws a number, or takes one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper

from sn_deploy.runtime.ort import OrtSession, block_size
from tests.cli.command import run_folded
from tests.native.library import library_path
from tests.optimise.nets import Net

NATIVE = pytest.mark.skipif(library_path() is None or block_size() is None, reason="nothing can be optimised here")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """With ``net.onnx``, whose outputs are multiplied by ``gain``."""
    monkeypatch.chdir(tmp_path)
    net = Net(3)
    net.inputs.insert(0, helper.make_tensor_value_info("gain", 1, []))
    y = net.norm(net.conv("x", 16), relu=True)
    onnx.save(net.model(net.add("Mul", [y, "gain"], 16)), "net.onnx")
    return tmp_path


@pytest.mark.parametrize("option", [(), ("--input", "gain=scalar")])
@pytest.mark.parametrize(
    "command",
    [
        "convert-precision net.onnx -o made.onnx --precision fp16",
        "quantize net.onnx -o made.onnx --precision int8",
        "specialise net.onnx -o made.onnx",
        "check net.onnx --calls 3",
        "fuse net.onnx -o made.onnx",
        "diff net.onnx net.onnx",
        pytest.param("optimise net.onnx -o made.onnx --for ort-cpu", marks=NATIVE),
    ],
)
def test_commands_run_it(
    command: str, option: tuple[str, ...], folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, err = run_folded(capsys, *command.split(), *option)
    assert code == 0, err
    if command.startswith(("fuse", "diff", "optimise")):
        assert "gain scalar" in out


def test_check_takes_the_number_from_a_file(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    np.savez("data.npz", gain=np.float32(0), x=np.ones((5, 3, 16, 16), np.float32))
    code, out, _ = run_folded(capsys, "check", "net.onnx", "--data", "data.npz", "--batch-size", "2", "--no-latency")
    assert code == 0, out
    code, _, err = run_folded(capsys, "check", "net.onnx", "--input", "gain=1x3")
    assert code == 2
    assert "--input gain: input gain: float32 (N, 3) (expected gain: float32 ())" in err


def test_the_session_tells_a_scalar_from_an_input_without_a_shape(folder: Path) -> None:
    model = onnx.load("net.onnx")
    with OrtSession("net.onnx") as session:
        assert [info.shape for info in session.inputs] == [(), ("batch", 3, 16, 16)]
    model.graph.input[0].type.tensor_type.ClearField("shape")
    for given in (model.SerializeToString(), Path("open.onnx")):
        if isinstance(given, Path):
            onnx.save(model, given)
        with OrtSession(given) as session:
            assert session.inputs[0].shape is None

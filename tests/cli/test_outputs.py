"""No command writes over a file that it was given to read."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

from sn_deploy.summary import sizes
from tests.cli.command import run
from tests.switch_norm_file import model, node


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    onnx.save(model([node("n1", "x", "y", (0.5, 0.25), (0.25, 0.25), bn=(0.25, 0.5), layer="sn")]), "net.onnx")
    np.save("x.npy", np.zeros((2, 4, 8, 8), np.float32))
    for name in ("best.pth", "nets.py"):
        Path(name).write_bytes(b"weeks of work")
    return tmp_path


_EXPORT = ("export", "--model", "nets.py:Net", "--checkpoint", "best.pth", "--input", "x=x.npy")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((*_EXPORT, "-o", "best.pth"), "--output best.pth: is also what --checkpoint names"),
        ((*_EXPORT, "-o", "other.pth"), "--output other.pth: has no ONNX file's name: it ends in '.pth' (expected"),
        ((*_EXPORT, "-o", "nets.py"), "--output nets.py: is also what --model names"),
        ((*_EXPORT, "-o", "x.npy"), "--output x.npy: is also what --input names"),
        (("fuse", "net.onnx", "-o", "other.safetensors"), "it ends in '.safetensors'"),
        (("check", "net.onnx", "--data", "x.npy", "--json", "other.pth"), "--json other.pth: has a model's name"),
        (("check", "net.onnx", "--data", "x.npy", "--html", "other.plan"), "--html other.plan: has a model's name"),
        (("report", "check.json", "-o", "best.pth"), "best.pth: has a model's name"),
        (("inspect", "net.onnx", "--json", "net.onnx"), "--json net.onnx: is also what MODEL.onnx|CHECKPOINT"),
        (("inspect", "net.onnx", "--json", "a.svg", "--picture", "a.svg"), "is also what"),
        (("diff", "x.npy", "net.onnx", "--json", "./net.onnx"), "--json ./net.onnx: is also what B.onnx names"),
        (("check", "net.onnx", "--json", "net.onnx"), "--json net.onnx: is also what FILES names"),
        (("check", "a.onnx", "--backend", "b=ort:net.onnx", "--html", "net.onnx"), "is also what --backend names"),
        (("check", "net.onnx", "--data", "x.npy", "--json", "x.npy"), "is also what --data names"),
        (("convert-precision", "net.onnx", "--precision", "fp16", "-o", "h.onnx", "--json", "h.onnx"), "is also what"),
        (("calibrate", "--checkpoint", "best.pth", "--data", "x.npy", "-o", "x.npy"), "is also what --data names"),
        (("calibrate", "--checkpoint", "best.pth", "-o", "c.pth", "--json", "best.pth"), "what --checkpoint names"),
        (("merge", "net.onnx", "x.npy", "-o", "x.npy"), "--output x.npy: is also what PARTS names"),
    ],
)
def test_an_output_that_is_an_input_is_refused_and_left(
    arguments: tuple[str, ...], said: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    code, out, err = run(capsys, *arguments)
    assert (code, out) == (2, "")
    assert said in err
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


@pytest.mark.parametrize("command", [("check", "net.onnx", "--html", "check.html"), ("report", "check.json")])
def test_a_script_of_somebody_else_beside_the_report_is_left(
    command: tuple[str, ...], folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "check.reproduce.sh").write_text("#!/bin/sh\nmake paper\n")
    code, out, err = run(capsys, *command)
    assert (code, out) == (2, "")
    assert "check.reproduce.sh: isn't of sn-deploy, and would be overwritten" in err
    assert (folder / "check.reproduce.sh").read_text() == "#!/bin/sh\nmake paper\n"


def test_a_file_may_be_fused_in_place(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = run(capsys, "fuse", "net.onnx", "-o", "net.onnx")
    assert (code, err) == (0, "")
    assert "none to fuse" in out


def test_a_size_is_given_in_the_unit_that_shows_it() -> None:
    assert sizes(18_344) == "  (18.3 kB)"
    assert sizes(999_999, 1_000_000) == "  (1.0 MB, was 1.0)"
    assert sizes(102_500_000, 103_100_000) == "  (102.5 MB, was 103.1)"

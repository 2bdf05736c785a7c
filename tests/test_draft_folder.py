"""Errors of files that are made on the way name the user's file: real ones, of ONNX Runtime at a file it can't run."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from sn_deploy.draft_folder import draft_folder
from sn_deploy.errors import CheckFailedError, SnDeployError
from sn_deploy.runtime.ort import block_size
from tests.cli.command import run_folded
from tests.native.library import library_path
from tests.optimise.nets import Net

NATIVE = pytest.mark.skipif(library_path() is None or block_size() is None, reason="nothing can be optimised here")


def broadcast(path: Path) -> Path:
    """A residual that the functions spread out, and the native operator refuses."""
    net = Net(3)
    residual = net.constant(np.ones((1, 16, 1, 1), np.float32))
    y = net.norm(net.conv("x", 16), relu=True)
    return net.save(path, net.norm(net.conv(y, 16), relu=True, residual=residual))


def resized(path: Path) -> Path:
    """A Resize that ONNX Runtime refuses when it runs."""
    net = Net(3)
    sizes = net.constant(np.array([2, 16, 40, 40]))
    return net.save(path, net.add("Resize", [net.norm(net.conv("x", 16)), "", "", sizes], 16, mode="cubic"))


@pytest.mark.parametrize(
    ("make", "command", "words"),
    [
        pytest.param(broadcast, "optimise --for ort-cpu", "the residual must have X's shape", marks=NATIVE),
        pytest.param(broadcast, "specialise --runtime ort-native", "the residual must have X's shape", marks=NATIVE),
        (resized, "convert-precision --precision fp16 --check-range", "(Resize): "),
        (resized, "quantize --precision int8", "no ranges can be taken on this data: node "),
    ],
)
def test_the_text_names_what_the_user_gave(
    make: Callable[[Path], Path],
    command: str,
    words: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    make(Path("net.onnx"))
    name, *options = command.split()
    code, out, err = run_folded(capfd, name, "net.onnx", "-o", "made.onnx", *options)
    assert (code, out) == (2, "")
    assert err.startswith("error: net.onnx: ")  # ONNX Runtime logs nothing of its own before it
    assert words in err
    assert "/tmp" not in err
    assert ".made-" not in err
    assert [path.name for path in tmp_path.iterdir()] == ["net.onnx"]


@pytest.mark.parametrize("name", ["out.onnx", "an odd, name (1).onnx"])
def test_kind_and_words_stay_and_names_of_drafts_go(name: str, tmp_path: Path) -> None:
    def fail() -> None:
        with draft_folder(tmp_path / name, of="in.onnx") as folder:
            assert folder.parent == tmp_path
            raise CheckFailedError(f"{folder}/calibration/augmented.onnx has no y", where=f"{folder / name}, output y")

    with pytest.raises(CheckFailedError) as raised:
        fail()
    assert raised.value.what == "what was made of it: in.onnx has no y"
    assert raised.value.where == "in.onnx, output y"
    assert list(tmp_path.iterdir()) == []


def test_other_errors_pass_as_they_are(tmp_path: Path) -> None:
    error = SnDeployError("is missing", where="--data")
    folders = []

    def fail() -> None:
        with draft_folder(None, of="in.onnx") as folder:
            folders.append(folder)
            assert folder.is_dir()
            raise error

    with pytest.raises(SnDeployError) as raised:
        fail()
    assert raised.value is error
    assert not folders[0].exists()


@pytest.mark.parametrize(
    "command",
    [
        pytest.param("optimise --for ort-cpu", marks=NATIVE),
        "specialise",
        "convert-precision --precision fp16",
        "quantize --precision int8",
    ],
)
def test_a_source_that_makes_nan_is_told_as_such(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    net = Net(3, ("height", "width"))
    y = net.norm(net.conv("x", 16))
    net.save(Path("net.onnx"), net.conv(net.add("Log", [net.add("Neg", [net.add("Abs", [y], 16)], 16)], 16), 16))
    name, *options = command.split()
    code, out, err = run_folded(capfd, name, "net.onnx", "-o", "made.onnx", "--input", "1x3x64x64", *options)
    assert (code, out) == (2, "")
    assert err.startswith("error: net.onnx")
    assert "finite" in err
    assert "--input" in err


def test_specialise_takes_a_size_that_the_network_runs_at(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    net = Net(3, ("height", "width"))
    y = net.norm(net.conv("x", 16))
    net.save(Path("net.onnx"), net.add("AveragePool", [y], 16, kernel_shape=[100, 100]))
    code, out, _ = run_folded(capsys, "specialise", "net.onnx", "-o", "made.onnx")
    assert code == 0
    assert "forms the same as SwitchNorm" in out


def test_an_output_of_another_shape_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Rounding decides how many different numbers there are."""
    monkeypatch.chdir(tmp_path)
    net = Net(3)
    net.save(Path("net.onnx"), net.add("Unique", [net.norm(net.conv("x", 16))], 16))
    code, _, err = run_folded(capsys, "convert-precision", "net.onnx", "-o", "made.onnx", "--precision", "fp16")
    assert code == 1
    assert err.startswith("error: net.onnx, output unique_")

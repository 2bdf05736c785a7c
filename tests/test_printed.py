"""Reports of the Python functions: a line where they are looked at, the command's own lines where they are printed."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import sn_deploy
from sn_deploy.calibrate import calibrate
from sn_deploy.check import check
from sn_deploy.cli.values import parse_input
from sn_deploy.diff import diff
from sn_deploy.fuse import fuse
from sn_deploy.inline import inline
from sn_deploy.inspection import layers_from_file
from sn_deploy.models.digits import load_pretrained
from sn_deploy.optimise import optimise
from sn_deploy.precision import convert_precision, quantize
from sn_deploy.printed import Printed
from sn_deploy.specialise import specialise
from tests.cli.command import run

# Command -> its arguments behind FILE -o OUTPUT, and the function; timings of the two differ.
CASES: dict[str, tuple[list[str], Callable[[Path, Path], Any]]] = {
    "fuse": ([], lambda source, path: fuse(source, path)),
    "inline": ([], lambda source, path: inline(source, path)),
    "convert-precision": (
        ["--precision", "fp16"],
        lambda source, path: convert_precision(source, path, precision="fp16"),
    ),
    "quantize": (["--precision", "int8"], lambda source, path: quantize(source, path, precision="int8")),
    "optimise": (["--for", "ort-cpu"], lambda source, path: optimise(source, path)),
    "specialise": ([], lambda source, path: specialise(source, path)),
}


@pytest.fixture(scope="module")
def net(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("net") / "net.onnx"
    sn_deploy.export(load_pretrained(), torch.zeros(1, 1, 8, 8), path, dynamic="batch")
    return path


def words(text: str) -> list[str]:
    """Without times and the file's name."""
    return [word for word in text.split() if ".onnx" not in word and not word.replace(".", "").isdigit()]


@pytest.mark.parametrize("command", CASES)
def test_what_is_printed_is_what_the_command_prints(
    command: str, net: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options, call = CASES[command]
    code, out, _ = run(capsys, command, net, "-o", tmp_path / "command.onnx", *options)
    assert code == 0
    report = call(net, tmp_path / "function.onnx")
    assert words(str(report)) == words(out)
    assert len(str(report).splitlines()) > 1
    assert_is_short(report)


def assert_is_short(report: Any) -> None:
    assert isinstance(report, Printed)
    text = repr(report)
    assert text.startswith(f"<{type(report).__name__}: ")
    assert "\n" not in text
    assert len(text) < 250
    shown: list[str] = []
    printer = type("Printer", (), {"text": staticmethod(shown.append)})
    report._repr_pretty_(printer, False)
    assert shown == [str(report)]
    printer.stack = [1, 2]  # type: ignore[attr-defined]
    report._repr_pretty_(printer, False)
    assert shown[1:] == [repr(report)]
    assert str(copy.copy(report)) == str(report)


def test_an_export(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    example = torch.from_numpy(parse_input("1x1x8x8", seed=0).value)  # as the command draws it
    report = sn_deploy.export(load_pretrained(), example, tmp_path / "a.onnx", dynamic="batch")
    assert_is_short(report)
    before = str(report)
    assert "torch's own export" not in before  # which would take seconds, for a look
    assert "nodes_standard" not in vars(report)
    code, out, _ = run(
        capsys, "export", "--model", "sn_deploy.models.digits:load_pretrained", "--input", "1x1x8x8",
        "--dynamic", "batch", "-o", tmp_path / "b.onnx",
    )  # fmt: skip
    assert code == 0
    assert report.nodes_standard == 145
    assert words(str(report)) == words(out)[-len(words(str(report))) :]


def test_a_difference(net: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    other = tmp_path / "other.onnx"
    convert_precision(net, other, precision="fp16")
    found = diff(net, other)
    assert found.different
    assert_is_short(found)
    code, out, _ = run(capsys, "diff", net, other)
    assert code == 1
    assert words(str(found)) == words(out.replace("--all", "in weights"))


def test_statistics_and_results(net: Path) -> None:
    model, samples = load_pretrained(), torch.rand(20, 1, 8, 8)
    calibration = calibrate(model, samples)
    assert_is_short(calibration)
    assert str(calibration).splitlines() == [
        "batch-average of 2 layers over 20 samples in 3 batches",
        "sn2, sn4: no BN branch, nothing to calibrate",
    ]
    result = check(net, model=model, data=samples)
    assert_is_short(result)
    again = pickle.loads(pickle.dumps(result))  # noqa: S301 (our own)
    assert str(again) == str(result)


def test_layers_of_a_file(net: Path, capsys: pytest.CaptureFixture[str]) -> None:
    layers = layers_from_file(net)
    assert isinstance(layers, list)
    assert layers == list(layers)
    assert_is_short(layers)
    assert repr(layers).startswith("<Layers: 4 SN layers")
    code, out, _ = run(capsys, "inspect", net)
    assert code == 0
    assert words(str(layers)) == words(out)


def test_what_fails_is_a_line(net: Path) -> None:
    other = load_pretrained()
    with torch.no_grad():
        other.fc.bias += 1.0
    result = check(net, model=other, data=torch.rand(8, 1, 8, 8))
    assert repr(result.failed[0]).startswith("<fails: ort: linear: rel_l2 ")
    assert {repr(one)[:7] for one in result.assertions if one.passed} == {"<holds:"}


def test_control_characters_of_names_are_shown(tmp_path: Path) -> None:
    path = tmp_path / "a\x1b[2Jb.onnx"
    report = sn_deploy.export(load_pretrained(), torch.zeros(1, 1, 8, 8), path)
    assert "\x1b" not in str(report)
    assert "\\x1b[2J" in str(report)

"""`sn-deploy diff`: tables, JSON and the three exit codes."""

from __future__ import annotations

import json
from pathlib import Path

import onnx
import pytest

from tests.cli.command import exit_code
from tests.diff.test_diff import model


def call(*arguments: str) -> int:
    return exit_code("diff", *arguments)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    onnx.save(model(2.0), "a.onnx")
    onnx.save(model(2.001), "b.onnx")
    onnx.save(model(2.0, shape=("n", 3)), "dynamic.onnx")
    return tmp_path


def test_the_same_is_exit_0(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call("a.onnx", "a.onnx") == 0
    assert "the same, as far as can be seen" in capsys.readouterr().out
    assert call("a.onnx", "b.onnx", "--tolerance", "0.01") == 0
    assert call("a.onnx", "dynamic.onnx") == 0
    assert "input x 2×3 float32 n×3 float32" in " ".join(capsys.readouterr().out.split())


def test_a_difference_is_exit_1_and_told(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call("a.onnx", "b.onnx") == 1
    printed = " ".join(capsys.readouterr().out.split())
    assert "weights: 0 the same, 1 changed" in printed
    assert "w changed values 0.001" in printed
    assert "more: --all" not in printed
    assert "different: output 'y' differs by" in printed
    assert call("a.onnx", "b.onnx", "--no-run") == 1
    assert "different: 1 weights differ" in capsys.readouterr().out


def test_no_tolerance_is_exit_2(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for text in ("nan", "-1"):
        assert call("a.onnx", "a.onnx", "--tolerance", text) == 2
        assert "Invalid value for '--tolerance'" in capsys.readouterr().err


def test_json(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call("a.onnx", "b.onnx", "--json", "-") == 1
    found = json.loads(capsys.readouterr().out)
    assert found["same"] is False
    assert found["numerics"][0]["rel_l2"] > 1e-5
    assert found["weights"]["changed"]["w"]["what"] == "values"
    onnx.save(model(float("inf")), "inf.onnx")
    assert call("a.onnx", "inf.onnx", "--json", "report.json") == 1
    assert json.loads((folder / "report.json").read_text())["weights"]["changed"]["w"]["max_abs"] == "inf"


def test_inputs_have_the_shape_that_is_asked_for(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call("dynamic.onnx", "dynamic.onnx", "--input", "x=9x3") == 0
    assert "run on x 9×3:" in capsys.readouterr().out
    assert call("dynamic.onnx", "dynamic.onnx", "--input", "7x3") == 0
    assert "run on x 7×3:" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["a.onnx", "none.onnx"], "none.onnx: there is no such file"),
        (["a.onnx", "b.onnx", "--input", "2x3", "--input", "2x3"], "more often than there are inputs (expected x)"),
        (["a.onnx", "b.onnx", "--input", "z=2x3"], "is no input of the files (expected x)"),
        (["a.onnx", "b.onnx", "--input", "x=2x9"], "input x has shape (2, 9)"),
        (["a.onnx"], "Missing argument 'B.onnx'"),
    ],
)
def test_trouble_is_exit_2(
    folder: Path, arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(*arguments) == 2
    assert message in capsys.readouterr().err


def test_sizes_that_are_long_expressions_are_cut(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    onnx.save(model(2.0, shape=("n * (" + " + ".join(["height"] * 40) + ")", 3)), "long.onnx")
    assert call("a.onnx", "long.onnx") == 0
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) < 150
    assert any("n * (height + " in line and "…" in line and "×3 float32" in line for line in lines)

"""`sn-deploy inline`: what is printed, written and returned."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest

from tests.cli.command import exit_code
from tests.fuse.test_files import net


@pytest.fixture
def fused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Path:
    monkeypatch.chdir(tmp_path)
    onnx.save(net(opset=18), "in.onnx")
    assert exit_code("fuse", "in.onnx", "-o", "fused.onnx") == 0
    capsys.readouterr()
    return tmp_path / "fused.onnx"


def test_the_summary_says_what_became_of_the_file(fused: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_code("inline", "fused.onnx", "-o", "out.onnx", "--opset", "17") == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert "opset 17, was 18" in printed
    assert "1 SwitchNorm nodes became standard operators" in printed
    assert "(at most 2.0e-05) from its source, both run on x 2×6×5×4" in printed
    assert exit_code("fuse", "out.onnx", "-o", "again.onnx") == 0


def test_nothing_is_compared_where_it_is_not_asked_for(fused: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_code("inline", "fused.onnx", "-o", "out.onnx", "--no-run") == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert "compare them by hand: sn-deploy diff fused.onnx out.onnx" in printed
    assert exit_code("inline", "fused.onnx", "-o", "out.onnx", "--no-run", "--input", "2x6x5x4") == 2


def test_bad_input_is_2(fused: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_code("inline", "in.onnx", "-o", "out.onnx") == 2
    assert "has no SwitchNorm node" in capsys.readouterr().err
    assert exit_code("inline", "fused.onnx", "-o", "out.onnx", "--opset", "13") == 2
    assert not Path("out.onnx").exists()

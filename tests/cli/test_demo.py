"""``sn-deploy demo``: the README's first command."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from sn_deploy.cli import demo
from sn_deploy.errors import CheckFailedError


def test_the_demo_exports_compares_and_prints(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    demo.run(Console(width=100), tmp_path / "digits.onnx", calls=10)
    printed = capsys.readouterr().out
    assert "Exported a digit classifier with 4 SN layers" in printed
    for row in ("accuracy", "top-1 agreement", "largest abs. difference", "largest rel. difference", "median"):
        assert row in printed
    assert "100.00%" in printed
    assert "What each SN layer chose" in printed
    assert (tmp_path / "digits.onnx").exists()


def test_the_demo_fails_when_the_backends_differ(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    honest = demo.compare
    monkeypatch.setattr(demo, "compare", lambda reference, candidate: honest(reference, np.roll(candidate, 1)))
    with pytest.raises(CheckFailedError, match="differs from PyTorch by a relative L2 of"):
        demo.run(Console(width=100), tmp_path / "digits.onnx", calls=10)

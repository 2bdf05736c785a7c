"""``sn-deploy quantize`` as a user calls it, and what ``sn-deploy check`` says of its result."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from tests.cli.command import run_folded
from tests.precision.nets import residual_net


@pytest.fixture
def source(tmp_path: Path) -> Path:
    np.save(tmp_path / "x.npy", np.random.default_rng(5).normal(size=(16, 3, 8, 8)).astype(np.float32))
    return residual_net(tmp_path / "net.onnx")


def test_from_calibration_to_check(capsys: pytest.CaptureFixture[str], source: Path) -> None:
    int8, data = source.with_name("int8.onnx"), source.with_name("x.npy")
    code, out, err = run_folded(
        capsys, "quantize", source, "-o", int8, "--precision", "int8", "--data", data, "--keep-first"
    )
    assert (code, err) == (0, "")
    assert out.startswith("file /")  # nothing that the calibrator prints
    assert "2 of 3 convolutions and classifiers, int8 as before node_conv_" in out
    assert "percentile of 16 samples of" in out
    # The same figure, on the same data, from the other command; and without a limit of the user's it asks for one.
    check = ["check", source, "--backend", f"int8=ort:{int8}", "--data", data, "--no-latency"]
    code, _, err = run_folded(capsys, *check)
    assert code == 2
    assert "there is no default tolerance for int8" in err
    assert run_folded(capsys, *check, "--max-rel-l2", "0.05")[0] == 0
    assert run_folded(capsys, *check, "--max-rel-l2", "1e-4")[0] == 1


def test_the_report_as_json(capsys: pytest.CaptureFixture[str], source: Path) -> None:
    fp8, data = source.with_name("fp8.onnx"), source.with_name("x.npy")
    options = ["--precision", "fp8", "--float-type", "bf16", "--half-io-types", "--data", data, "--json", "-"]
    code, out, _ = run_folded(capsys, "quantize", source, "-o", fp8, *options)
    assert code == 0
    report = json.loads(out)
    assert (report["method"], report["opset"]) == ("minmax", {"before": 20, "after": 22})
    assert len(report["ranges"]) == len(report["quantized"]) == 3
    (figures,) = report["proof"]["outputs"].values()
    assert 1e-2 < figures["rel_l2"] < 0.15


@pytest.mark.parametrize(
    ("options", "code", "reason"),
    [
        ([], 2, "Missing option '--precision'"),
        (["--precision", "int8", "--method", "kl"], 2, "Invalid value for '--method'"),
        (["--precision", "int8", "--data", "nowhere"], 2, "there is no such file or folder"),
        (["--precision", "int8", "--keep", "node_conv_99*"], 2, "--keep node_conv_99*: no node"),
        (["--precision", "int8", "--max-rel-l2", "1e-6"], 1, "(expected at most 1.00e-06)"),
    ],
)
def test_what_goes_wrong_is_said(
    capsys: pytest.CaptureFixture[str], source: Path, options: list[str], code: int, reason: str
) -> None:
    output = source.with_name("q.onnx")
    got, _, err = run_folded(capsys, "quantize", source, "-o", output, *options)
    assert got == code, err
    assert reason in err
    assert not output.exists()

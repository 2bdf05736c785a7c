"""examples/ray_evaluate.py on a real Ray: stateful actors give the numbers of one `sn-deploy check`."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np

from sn_deploy.runtime.ort import OrtSession
from tests.serve.conftest import need

EXAMPLE = Path(__file__).parents[2] / "examples" / "ray_evaluate.py"

pytestmark = need("ray")


def run(*arguments: str | Path, scratch: Path) -> subprocess.CompletedProcess[str]:
    # Ray's processes end with the script that started them. Its sockets' paths have to be short.
    places = [str(EXAMPLE.parents[1]), os.environ.get("PYTHONPATH", "")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(places), "RAY_DEDUP_LOGS": "0"}
    command = [sys.executable, str(EXAMPLE), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, env=environment, cwd=scratch, timeout=300)


def test_actors_give_the_same_numbers(digits: Path, tmp_path: Path) -> None:
    found = run(
        digits / "digits.onnx", digits / "digits.npz", "--batch-size", "50", "--json", "ray.json", scratch=tmp_path
    )
    assert found.returncode == 0, found.stderr[-3000:]
    by_ray = json.loads((tmp_path / "ray.json").read_text())
    command = [
        sys.executable,
        "-m",
        "sn_deploy",
        "check",
        str(digits / "digits.onnx"),
        "--data",
        str(digits / "digits.npz"),
    ]
    command += ["--backend", f"again=ort:{digits / 'digits.onnx'}", "--no-latency", "--json", "check.json"]
    subprocess.run(command, check=True, cwd=tmp_path, capture_output=True)
    checked = json.loads((tmp_path / "check.json").read_text())
    (accuracy,) = [row for row in checked["metrics"] if row["name"] == "top1_accuracy" and row["backend"] == "ort"]
    assert by_ray["samples"] == checked["samples"] == 445
    assert (by_ray["accuracy"], by_ray["low"], by_ray["high"]) == (accuracy["value"], accuracy["low"], accuracy["high"])
    with np.load(digits / "digits.npz") as data, OrtSession(digits / "digits.onnx", threads=1) as session:
        predicted = session.run({"x": data["x"]})["linear"].argmax(1)
        assert by_ray["wrong"] == np.flatnonzero(predicted != data["labels"]).tolist()
    assert by_ray["wrong"]
    assert f"of {by_ray['samples']} samples" in found.stdout


def test_data_that_doesnt_fit_is_refused(digits: Path, tmp_path: Path) -> None:
    with np.load(digits / "digits.npz") as data:
        np.savez(tmp_path / "part.npz", x=data["x"])
    found = run(digits / "digits.onnx", "part.npz", scratch=tmp_path)
    assert found.returncode == 2
    assert "error: part.npz: has no labels (expected x and labels)" in found.stderr

"""The GPU benchmarks where no GPU is: they say so; and every step of them over the host's stand-in for one."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tests.gpu.device import library_of

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


def run(*arguments: str | Path, script: str = "gpu_kernels.py") -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(BENCHMARKS / script), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
@pytest.mark.parametrize("script", ["gpu_kernels.py", "gpu_engines.py"])
def test_without_a_gpu_nothing_is_measured(tmp_path: Path, script: str) -> None:
    done = run("--output", tmp_path / "figures.json", script=script)
    assert (done.returncode, done.stderr) == (2, "no GPU: not measured\n")
    assert not (tmp_path / "figures.json").exists()


def test_a_rehearsal_takes_every_step(tmp_path: Path) -> None:
    library = library_of("host")
    if library is None:
        pytest.skip("the kernels' stand-in on the host was not built (see SN_PLUGIN_BUILD)")
    output = tmp_path / "figures.json"
    done = run("--rehearse", "--no-compile", "--library", library, "--output", output)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("A rehearsal")
    figures = json.loads(output.read_text())
    assert figures["rehearsal"]
    assert figures["complete"]
    layouts = figures["tactics"]["1"]
    assert all(len(layouts[layout]) == 4 for layout in ("linear", "channels last"))
    for net in figures["resnet50"].values():
        assert {"best tactics, linear", "two kernels, channels last", "torch eager"} <= set(net["1"]["us"])


def test_a_spent_budget_is_said(tmp_path: Path) -> None:
    library = library_of("host")
    if library is None:
        pytest.skip("the kernels' stand-in on the host was not built (see SN_PLUGIN_BUILD)")
    output = tmp_path / "figures.json"
    assert run("--rehearse", "--library", library, "--output", output, "--budget", "0").returncode == 0
    assert not json.loads(output.read_text())["complete"]

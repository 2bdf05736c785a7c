"""The GPU benchmarks where no GPU is: they say so; and every step of them over the host's stand-in for one."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import onnx
import pytest
import torch
from onnx import numpy_helper

from tests.gpu.device import library_of

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


def run(*arguments: str | Path, script: str = "gpu_kernels.py") -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(BENCHMARKS / script), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
@pytest.mark.parametrize("script", ["gpu_kernels.py", "gpu_engines.py", "gpu_tactics.py"])
def test_without_a_gpu_nothing_is_measured(tmp_path: Path, script: str) -> None:
    done = run("--output", tmp_path / "figures.json", script=script)
    assert (done.returncode, done.stderr) == (2, "no GPU: not measured\n")
    assert not (tmp_path / "figures.json").exists()


def test_a_rehearsal_takes_every_step_and_goes_on_where_it_was_ended(tmp_path: Path) -> None:
    library = library_of("host")
    if library is None:
        pytest.skip("the kernels' stand-in on the host was not built (see SN_PLUGIN_BUILD)")
    output = tmp_path / "figures.json"
    arguments = ["--rehearse", "--no-compile", "--library", library, "--output", output]
    done = run(*arguments, "--budget", "0")
    assert (done.returncode, done.stderr) == (3, "to be continued: call again\n")
    assert not json.loads(output.read_text())["complete"]
    done = run(*arguments)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("A rehearsal")
    figures = json.loads(output.read_text())
    assert figures["rehearsal"]
    assert figures["complete"]
    layouts = figures["tactics"]["1"]
    assert all(len(layouts[layout]) == 4 for layout in ("linear", "channels last"))
    for net in figures["resnet50"].values():
        assert {"best tactics, linear", "two kernels, channels last", "torch eager"} <= set(net["1"]["us"])
    # What is there isn't measured again.
    assert run(*arguments, "--budget", "0").returncode == 0
    again = json.loads(output.read_text())
    assert all(again[key] == figures[key] for key in ("large", "tactics", "resnet50"))


@pytest.fixture
def rehearse(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Callable[..., int]]:
    """Rehearses the engines' benchmark in this process, which has torch already; gives the exit code."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    module = importlib.import_module("gpu_engines")
    threads = torch.get_num_threads()

    def call(*arguments: str) -> int:
        given = [
            "--rehearse",
            "--nets",
            "digits",
            "--batches",
            "128",
            "--rounds",
            "1",
            "--files",
            str(tmp_path / "files"),
        ]
        return int(module.main([*given, "--output", str(tmp_path / "figures.json"), *arguments]))

    yield call
    torch.set_num_threads(threads)


def test_a_rehearsal_of_engines_goes_on_where_it_was_ended(
    rehearse: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "figures.json"
    precisions = ["--precisions", "fp16", "int8"]
    assert rehearse(*precisions, "--budget", "0") == 3
    assert "call again" in capsys.readouterr().err
    assert json.loads(output.read_text())["nets"] == {}
    assert rehearse(*precisions) == 0
    figures = json.loads(output.read_text())
    assert figures["complete"]
    assert figures["machine"]["rehearsal"]
    for precision, error in {"fp16": 2e-3, "int8": 5e-2}.items():
        for shapes in ("static", "dynamic"):
            row = figures["nets"]["digits"][precision][shapes]["128"]
            assert {"plugin", "floor", *(["torch eager"] if shapes == "static" else [])} == set(row["us"])
            assert 0 < row["engines"]["plugin"]["relative_l2"] < error
        assert row["engines"]["plugin"]["images"] == 1000
        assert row["engines"]["plugin"]["top1_agreement"] >= 0.995  # measured: 1 in fp16, 0.999 in int8
    # What is there isn't measured again, and so isn't late either.
    before = figures["nets"]
    assert rehearse(*precisions, "--budget", "0") == 0
    assert json.loads(output.read_text())["nets"] == before

    # The planted fault: a file with other weights than the model's.
    path = tmp_path / "files" / "digits.plugin.fp16.onnx"
    model = onnx.load(path)
    weights = next(tensor for tensor in model.graph.initializer if len(tensor.dims) == 4)
    weights.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(weights)[::-1].copy(), weights.name))
    onnx.save(model, path)
    output.unlink()
    assert rehearse("--precisions", "fp16") == 1
    assert "2 of 2 don't agree with torch, digits/fp16/dynamic/128 first" in capsys.readouterr().err
    row = json.loads(output.read_text())["nets"]["digits"]["fp16"]["static"]["128"]
    assert "relative L2 to torch is" in row["failed"]


def test_engines_begin_with_the_timings_of_the_same_version_and_gpu(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    engines = importlib.import_module("gpu_engines")
    known = tmp_path / "known"
    known.mkdir()
    (known / "10.6-GPU_1").write_bytes(b"timings")
    timings = tmp_path / "results/timings"
    engines.take_known(timings, "10.7", "GPU 1", known)
    assert not timings.exists()
    engines.take_known(timings, "10.6", "GPU 1", known)
    assert timings.read_bytes() == b"timings"
    timings.write_bytes(b"newer")
    engines.take_known(timings, "10.6", "GPU 1", known)
    assert timings.read_bytes() == b"newer"

"""Engines up to the builder, with the real libraries of both versions and without a GPU."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import onnx
import pytest

from sn_deploy.engine.model_file import inlined, without_functions
from tests.check.small_net import folded, write_net
from tests.single_node import single_node_model
from tests.tensorrt.conftest import Release

ROOT = Path(__file__).parent.parent.parent


def environment(release: Release, **more: str) -> dict[str, str]:
    """Finds this version's modules, the project's own plugins nowhere but where a test says."""
    known = release.environment()
    path = os.pathsep.join([known["PYTHONPATH"], str(ROOT)])
    return {**known, "PYTHONPATH": path, "SN_PLUGIN_BUILD": str(release.build), "OMP_NUM_THREADS": "1", **more}


@pytest.mark.parametrize("file", ["inside_build.py", "inside_run.py", "inside_callbacks.py", "inside_benchmark.py"])
def test_over_stand_ins_for_what_needs_a_gpu(release: Release, file: str) -> None:
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-x",
        "-p",
        "no:cacheprovider",
        str(Path(__file__).with_name(file)),
    ]
    done = subprocess.run(
        command, env=environment(release), cwd=ROOT, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]


def build(release: Release, *arguments: str | Path, **more: str) -> tuple[int, str, str]:
    """The command in a process of its own."""
    command = [sys.executable, "-m", "sn_deploy", "build", *map(str, arguments)]
    done = subprocess.run(
        command, env=environment(release, **more), cwd=ROOT, capture_output=True, text=True, timeout=300, check=False
    )
    return done.returncode, done.stdout, done.stderr


def without_gpu(release: Release) -> None:
    """Skips where there is a GPU: these tests are of machines without."""
    probe = "from sn_deploy.runtime.gpu import find_gpu; print(type(find_gpu()).__name__)"
    done = subprocess.run(
        [sys.executable, "-c", probe], env=environment(release), cwd=ROOT, capture_output=True, text=True, check=True
    )
    if done.stdout.strip() != "str":
        pytest.skip("there is a GPU here")


def test_without_a_gpu_it_ends_with_one_line(release: Release, tmp_path: Path) -> None:
    without_gpu(release)
    model, engine = write_net(tmp_path / "net.onnx"), tmp_path / "net.engine"
    for options in (["--plugin", "embed", "--plugin-library", release.plugin], ["--plugin", "none"]):
        code, out, err = build(release, model, "-o", engine, *options)
        assert (code, out) == (2, ""), err
        (line,) = err.strip().splitlines()
        assert line.startswith("error: TensorRT: building an engine needs an NVIDIA GPU, and ")
    assert [path.name for path in tmp_path.iterdir()] == ["net.onnx"]


def test_a_library_that_tensorrt_refuses(release: Release, tmp_path: Path) -> None:
    # In a process that has no other plugin: one that is there already would do.
    model, wrong = write_net(tmp_path / "net.onnx"), tmp_path / "wrong.so"
    wrong.write_bytes((release.build / "cuda" / "libsn_deploy_cuda.so").read_bytes() + named(release.major))
    code, _, err = build(release, model, "-o", tmp_path / "net.engine", "--plugin-library", wrong)
    assert code == 2
    assert f"{wrong}: TensorRT {release.major}." in err
    assert "refuses it" in err


def named(major: int) -> bytes:
    """What makes a file look like a plugin for that version."""
    return f"libnvinfer.so.{major}".encode()


def test_inlined_files_have_no_plugin_layer_even_where_the_plugin_is_loaded(release: Release, tmp_path: Path) -> None:
    # What `--plugin none` gives to the real parser; the file of `export` becomes plugins there: test_parser.py. The
    # fake network has no other layers than plugins and constants, so the parse itself may fail.
    onnx.save(single_node_model(folded("sn1"), (2, 6, 5, 4), "float32"), tmp_path / "layer.onnx")
    (tmp_path / "inlined.onnx").write_bytes(inlined(tmp_path / "layer.onnx"))
    whole = release.parse(tmp_path / "layer.onnx", as_it_is=True)["plugins"]
    assert len(whole) == (0 if release.prefers_functions else 1)
    # And what it gets with the plugin, from which all versions make one.
    (tmp_path / "bare.onnx").write_bytes(without_functions(tmp_path / "layer.onnx"))
    assert onnx.load(tmp_path / "bare.onnx").functions == []
    bare = release.parse(tmp_path / "bare.onnx")["plugins"]
    assert len(bare) == 1
    assert whole in ([], bare)
    assert release.parse(tmp_path / "inlined.onnx")["plugins"] == []

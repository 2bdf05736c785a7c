"""``sn-deploy build`` where TensorRT isn't installed, and up to there. With TensorRT: tests/tensorrt."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import onnx
import pytest

import sn_deploy
from sn_deploy.errors import SnDeployError
from tests.check.small_net import write_net
from tests.cli import command
from tests.engine.made_sidecar import made_sidecar, write_sidecar


def run(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> tuple[int, str, str]:
    return command.run(capsys, "build", *arguments)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return write_net(tmp_path / "net.onnx")


def test_without_tensorrt_it_ends_with_one_line(
    model: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    if importlib.util.find_spec("tensorrt") is not None:
        monkeypatch.setitem(sys.modules, "tensorrt", None)
    code, out, err = run(capsys, model, "-o", model.with_suffix(".engine"))
    assert (code, out) == (2, "")
    assert err.splitlines() == [
        "error: TensorRT: it isn't installed; install it with: pip install 'sn-deploy[tensorrt]'"
    ]
    assert [path.name for path in model.parent.iterdir()] == ["net.onnx"]


def test_neither_build_nor_inspect_needs_torch(tmp_path: Path) -> None:
    write_net(tmp_path / "net.onnx")
    (tmp_path / "net.engine").write_bytes(b"ftrt")
    write_sidecar(made_sidecar(), tmp_path / "net.engine")
    for arguments in (["build", "net.onnx", "-o", "new.engine"], ["inspect", "net.engine"]):
        code = f"import sys; sys.modules['torch'] = None; from sn_deploy.cli import main; main({arguments})"
        command = [sys.executable, "-c", code]
        done = subprocess.run(command, cwd=tmp_path, env=environment(), capture_output=True, text=True, check=False)
        assert "Traceback" not in done.stderr
        assert "torch" not in done.stderr.lower()


def environment() -> dict[str, str]:
    """Finds the modules that this process finds."""
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--opt", "3x3"], "--opt image=3x3: is no shape of this input"),
        (["--opt", "picture=1x3x8x8"], "there is no input 'picture' (expected image)"),
        (["--opt", "99999999999999999999x3x8x8"], "a size is too large (expected 2147483647 at most)"),
        (["--min", "9x3x8x8", "--max", "4x3x8x8"], "ascending sizes"),
        (["--exclude-lean-runtime"], "--exclude-lean-runtime: is for version-compatible engines; ask for"),
        (["--plugin", "none", "--plugin-library", "x.so"], "--plugin-library: is given, and --plugin none takes none"),
        (["--timing-cache", "x", "--no-timing-cache"], "say opposite things"),
        (["--plugin", "maybe"], "'maybe' is not one of"),
        (["--optimization-level", "9"], "9 is not in the range"),
    ],
)
def test_options_are_checked_before_tensorrt_is_looked_for(
    model: Path, capsys: pytest.CaptureFixture[str], options: list[str], message: str
) -> None:
    code, _, err = run(capsys, model, "-o", model.with_suffix(".engine"), *options)
    assert code == 2
    assert message in err


def test_files_are_checked_before_tensorrt_is_looked_for(
    model: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert "there is no such file" in run(capsys, tmp_path / "no.onnx", "-o", tmp_path / "a.engine")[2]
    assert "its folder doesn't exist" in run(capsys, model, "-o", tmp_path / "no" / "a.engine")[2]
    (tmp_path / "no.onnx").write_bytes(b"\x08\x07garbage")
    assert "cut off, damaged or no ONNX file" in run(capsys, tmp_path / "no.onnx", "-o", tmp_path / "a.engine")[2]
    for name in ("a.onnx", "a"):
        assert "expected a name that ends in .engine, .plan or .trt" in run(capsys, model, "-o", tmp_path / name)[2]
    (tmp_path / "net.plan").write_bytes(model.read_bytes())
    assert "is the ONNX file itself" in run(capsys, tmp_path / "net.plan", "-o", tmp_path / "net.plan")[2]
    untyped = onnx.load(model)
    untyped.graph.output[0].type.tensor_type.ClearField("elem_type")
    onnx.save(untyped, tmp_path / "no.onnx")
    assert "logits is of the type 0" in run(capsys, tmp_path / "no.onnx", "-o", tmp_path / "a.engine")[2]
    (tmp_path / "a.engine.json").mkdir()
    assert "is a folder" in run(capsys, model, "-o", tmp_path / "a.engine")[2]


def test_files_for_onnx_runtime_alone_are_refused(
    model: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    made = onnx.load(model)
    stamp = {"target": "ort-cpu", "onnxruntime": "1.32", "block_size": "8", "processor": "x", "source": "net.onnx"}
    for key, value in {**stamp, "source_sha256": "0"}.items():
        made.metadata_props.add(key=f"sn_deploy.optimised.{key}", value=value)
    onnx.save(made, tmp_path / "here.onnx")
    code, _, err = run(capsys, tmp_path / "here.onnx", "-o", tmp_path / "a.engine")
    assert code == 2
    assert "was made for ONNX Runtime on one kind of processor" in err


@pytest.mark.parametrize(
    ("profiles", "message"),
    [
        ({"image": (1, 3, 8, 8)}, "profiles: is a dict .expected a list with a dict for each profile"),
        (8, "profiles: is 8 .expected a list"),
        ([(1, 3, 8, 8)], "profiles: holds a tuple .expected a list"),
        ([{"image": {"best": (1, 3, 8, 8)}}], "profile of image: has best .expected some of min, opt, max."),
        ([{"image": {}}], "profile of image: has no shape"),
        ([{"image": ((1, 3, 8, 8), (2, 3, 8, 8))}], "has 2 shapes .expected one, or three: min, opt and max."),
        ([{"image": 8}], "profile of image: is 8 .expected a shape such as"),
        ([{"image": {"opt": 8}}], "profile of image, opt: is 8 .expected a shape such as"),
        ([{"image": "1x3x8x8"}], "profile of image: is '1x3x8x8' .expected a shape such as"),
        ([{"image": ["1", "3", "8", "8"]}], "profile of image: has the size '1' .expected whole numbers"),
        ([{"image": (1.0, 3, 8, 8)}], "profile of image: has the size 1.0 .expected whole numbers"),
        ([{"image": ((1, 3, 8, 8), (2.5, 3, 8, 8), (4, 3, 8, 8))}], "profile of image, opt: has the size 2.5"),
        ([{"image": {"max": (2.5, 3, 8, 8)}}], "profile of image, max: has the size 2.5"),
        ([{"image": (10**20, 3, 8, 8)}], "a size is too large"),
        ([{"image": (2**31, 3, 8, 8)}], "a size is too large"),
        ([{"image": (-1, 3, 8, 8)}], "a size is too small"),
    ],
)
def test_profiles_in_python_are_checked(model: Path, profiles: object, message: str) -> None:
    with pytest.raises(SnDeployError, match=message):
        sn_deploy.build(model, model.with_suffix(".engine"), profiles=profiles)  # type: ignore[arg-type]


def test_options_in_python_are_checked(model: Path) -> None:
    for options, message in (
        ({"plugin": "maybe"}, "plugin: there is no 'maybe' .expected auto, embed, none."),
        ({"hardware_compatibility": "all"}, "hardware_compatibility: there is no 'all'"),
        ({"optimization_level": 6}, "optimization_level: is 6 .expected a whole number from 0 to 5."),
        ({"optimization_level": 2.5}, "optimization_level: is 2.5 .expected a whole number from 0 to 5."),
        ({"workspace_mib": 0}, "workspace_mib: is 0 .expected a whole number from 1 to"),
        ({"workspace_mib": "4"}, "workspace_mib: is '4' .expected a whole number from 1 to"),
        ({"workspace_mib": 10**20}, "workspace_mib: is 10"),
    ):
        with pytest.raises(SnDeployError, match=message):
            sn_deploy.build(model, model.with_suffix(".engine"), **options)  # type: ignore[arg-type]

"""``sn-deploy inspect`` of an engine without a GPU: what the sidecar says, and what that leaves out."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from sn_deploy.runtime.gpu import find_gpu
from sn_deploy.runtime.trt.sidecar import Sidecar, sidecar_path
from tests.cli.test_inspect_command import run
from tests.engine.made_sidecar import made_sidecar, write_sidecar

CONTENT = b"ftrt"
pytestmark = pytest.mark.skipif(not isinstance(find_gpu(), str), reason="there is a GPU, which would be used")


@pytest.fixture
def engine(tmp_path: Path) -> Path:
    path = tmp_path / "net.engine"
    path.write_bytes(CONTENT)
    write_sidecar(sidecar(), path)
    return path


def sidecar(**changes: Any) -> Sidecar:
    return made_sidecar(engine={"sha256": hashlib.sha256(CONTENT).hexdigest(), "bytes": 51_000_000}, **changes)


def test_the_sidecar_is_shown_with_what_is_missing(capsys: pytest.CaptureFixture[str], engine: Path) -> None:
    code, out, err = run(capsys, "inspect", engine)
    assert (code, err) == (0, "")
    lines = [" ".join(line.split()) for line in out.splitlines()]
    for line in (
        "TensorRT 10.15.1.29",
        "GPU NVIDIA H200 (compute capability 9.0)",
        "of net.onnx, 1 SN layers",
        "precision float16",
        "plugin libsn_deploy_trt10.so, loaded beside the engine",
        "input image: float16 (batch, 3, 8, 8)",
        "profile 0 image 1x3x8x8 to 32x3x8x8, fastest at 8x3x8x8",
        "settings workspace mib 512",
        "conv1 CaskConvolution sm90_xmma float16 Half",
        "copy Reformat float16 Half Half next to an SN plugin",
        "3 layers, 1 of them SN plugins; 1 reformats, 1 of them next to an SN plugin",
    ):
        assert line in lines, out
    assert lines[-1].startswith("layers are the sidecar's, without times: TensorRT: ")


@pytest.mark.parametrize("name", ["net.plan", "net.trt", "NET.TRT"])
def test_other_names_of_engines(capsys: pytest.CaptureFixture[str], engine: Path, name: str) -> None:
    other = engine.rename(engine.with_name(name))
    sidecar_path(engine).rename(sidecar_path(other))
    code, out, err = run(capsys, "inspect", other)
    assert (code, err) == (0, "")
    assert "of net.onnx, 1 SN layers" in " ".join(out.split())


def test_embedded_plugins_and_host_code_are_said(capsys: pytest.CaptureFixture[str], engine: Path) -> None:
    write_sidecar(sidecar(plugin={"use": "embedded", "library": "x.so"}, layers=None), engine)
    _, out, _ = run(capsys, "inspect", engine)
    assert "inside the engine (x.so)" in out
    assert "it is loaded with --allow-host-code only" in out
    assert "layers can't be shown: TensorRT: " in out


def test_json(capsys: pytest.CaptureFixture[str], engine: Path, tmp_path: Path) -> None:
    code, out, _ = run(capsys, "inspect", engine, "--json", "-")
    document = json.loads(out)
    assert code == 0
    assert document["counts"] == {"layers": 3, "plugins": 1, "reformats": 1, "reformats_beside_plugins": 1}
    assert document["sidecar"]["gpu"]["name"] == "NVIDIA H200"
    assert [layer["beside_plugin"] for layer in document["layers"]] == [False, True, False]
    run(capsys, "inspect", engine, "--json", tmp_path / "out.json")
    assert json.loads((tmp_path / "out.json").read_text()) == document


def test_an_engine_whose_layers_nobody_could_list(capsys: pytest.CaptureFixture[str], engine: Path) -> None:
    write_sidecar(sidecar(layers=None), engine)
    code, out, _ = run(capsys, "inspect", engine, "--json", "-")
    document = json.loads(out)
    assert (code, document["layers"], document["counts"]) == (0, None, None)
    assert "layers can't be shown: " in run(capsys, "inspect", engine)[1]


def test_nothing_has_to_be_loaded(capsys: pytest.CaptureFixture[str], engine: Path) -> None:
    code, out, err = run(capsys, "inspect", engine, "--no-run")
    assert (code, err) == (0, "")
    assert out.splitlines()[-1] == "layers are the sidecar's, without times: the engine isn't loaded, with --no-run"
    sidecar_path(engine).unlink()
    code, out, err = run(capsys, "inspect", engine, "--no-run")
    assert (code, out) == (2, "")
    assert "there is no net.engine.json beside it, and the engine isn't loaded, with --no-run" in err


def test_the_sidecar_of_another_engine_tells_nothing(capsys: pytest.CaptureFixture[str], engine: Path) -> None:
    engine.write_bytes(CONTENT[:-1])
    for more in ([], ["--no-run"]):
        code, out, err = run(capsys, "inspect", engine, *more)
        assert (code, out) == (2, "")
        assert "net.engine: isn't the engine that net.engine.json describes" in err


def test_without_a_sidecar_there_is_nothing_to_show(capsys: pytest.CaptureFixture[str], engine: Path) -> None:
    sidecar_path(engine).unlink()
    code, out, err = run(capsys, "inspect", engine)
    assert (code, out) == (2, "")
    assert "there is no net.engine.json beside it, and TensorRT: " in err


def test_options_of_other_files_are_refused(capsys: pytest.CaptureFixture[str], engine: Path, tmp_path: Path) -> None:
    assert "not for engines" in run(capsys, "inspect", engine, "--picture", tmp_path / "a.svg")[2]
    for options in (["--allow-host-code"], ["--no-run"], ["--plugin-library", engine], ["--lean-runtime", engine]):
        assert f"{options[0]} is for engines" in run(capsys, "inspect", tmp_path / "a.onnx", *options)[2]
    code, _, err = run(capsys, "inspect", tmp_path / "none.engine")
    assert (code, "there is no such file" in err) == (2, True)

"""``sn-deploy serve`` as a user calls it, and what works without tritonclient."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import onnx
import pytest

from sn_deploy.errors import SnDeployError
from sn_deploy.runtime.tensors import TensorInfo
from sn_deploy.serve.interface import interface_from_onnx, interface_of
from tests.check.small_net import CLASSES, write_net
from tests.cli.command import exit_code
from tests.serve.conftest import need


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    write_net(tmp_path / "net.onnx")
    return tmp_path


@need("tritonclient")
def test_what_a_user_types_and_sees(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "a=b.txt").write_text("".join(f"{index}\n" for index in range(CLASSES)))
    options = ["--max-batch", "64", "--preferred-batch", "8,32", "--max-queue-delay", "500us", "--instances", "2"]
    more = ["--labels", "logits=a=b.txt", "--device", "cpu", "--threads", "2", "--server-path", "/srv/models/"]
    assert exit_code("serve", "triton", "net.onnx", "-o", "repository", "--name", "net", *options, *more) == 0
    seen = capsys.readouterr().out
    assert "repository/net, version 1" in seen
    assert "up to 64 samples" in seen
    assert "a batch of 3 differs from its samples alone by" in seen
    assert "repository/net-1.kubernetes.yaml" in seen
    assert "serve it with:\n  tritonserver --model-repository=/srv/models\n" in seen
    assert (folder / "repository" / "net" / "logits.labels.txt").is_file()
    config = (folder / "repository" / "net" / "config.pbtxt").read_text()
    assert "count: 2" in config
    assert "max_queue_delay_microseconds: 500" in config
    write_net(folder / "open.onnx", size="size")
    assert exit_code("serve", "triton", "open.onnx", "-o", "repository", "--name", "open", "--input", "1x3x12x12") == 0
    assert (
        exit_code("serve", "triton", "open.onnx", "-o", "repository", "--name", "two", "--input", "image=1x3x9x9") == 0
    )


@need("tritonclient")
@pytest.mark.parametrize(
    ("options", "code", "words"),
    [
        (["--name", "net", "--max-batch", "x"], 2, "--max-batch"),
        (["--name", "n t"], 2, "error: --name: 'n t' is no name for a model"),
        ([], 2, "--name"),
        (["--name", "net", "--preferred-batch", "8,x"], 2, "error: --preferred-batch 8,x: can't be read"),
        (["--name", "net", "--queue-target", "0"], 2, "error: --queue-target: 0us"),
        (["--name", "net", "--labels", "gone.txt"], 2, "error: --labels gone.txt: can't be read"),
        (["--name", "net", "--labels", "net.onnx", "--labels", "net.onnx"], 2, "is given twice"),
        (["--name", "net", "--input", "image=1x3x8x8", "--input", "image=1x3x8x8"], 2, "--input image: is given twice"),
        (["--name", "net", "--image", "My Image"], 2, "error: --image: 'My Image' is no image"),
    ],
)
def test_wrong_usage(
    options: list[str], code: int, words: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert exit_code("serve", "triton", "net.onnx", "-o", "repository", *options) == code
    assert words in capsys.readouterr().err
    assert not (folder / "repository").exists()


def test_without_tritonclient_it_is_said_and_nothing_written(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == "tritonclient"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "tritonclient", None)
    assert exit_code("serve", "triton", "--help") == 0
    assert exit_code("serve", "triton", "net.onnx", "-o", "repository", "--name", "net") == 2
    assert exit_code("check", "net.onnx", "--triton", "grpc://127.0.0.1:1/net") == 2
    errors = capsys.readouterr().err
    assert errors.count("install it with: pip install 'sn-deploy[triton]'") == 2
    assert not (folder / "repository").exists()


def test_a_tritonclient_without_the_protocol_is_said(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As ``pip install tritonclient`` leaves it: what is imported raises a RuntimeError."""
    for name in [name for name in sys.modules if name.partition(".")[0] == "tritonclient"]:
        monkeypatch.delitem(sys.modules, name)
    (folder / "site" / "tritonclient" / "grpc").mkdir(parents=True)
    (folder / "site" / "tritonclient" / "__init__.py").touch()
    (folder / "site" / "tritonclient" / "grpc" / "__init__.py").write_text("raise RuntimeError('no grpc support')\n")
    monkeypatch.syspath_prepend(folder / "site")
    try:
        assert exit_code("serve", "triton", "net.onnx", "-o", "repository", "--name", "net") == 2
        assert exit_code("check", "net.onnx", "--triton", "grpc://127.0.0.1:1/net") == 2
    finally:  # this one isn't for other tests
        for name in [name for name in sys.modules if name.partition(".")[0] == "tritonclient"]:
            del sys.modules[name]
    errors = capsys.readouterr().err
    assert errors.count("can't be imported: no grpc support; install it with: pip install 'sn-deploy[triton]'") == 2


def _info(name: str, *shape: int | str | None) -> TensorInfo:
    return TensorInfo(name, shape, np.dtype(np.float32))


@pytest.mark.parametrize(
    ("inputs", "outputs", "why"),
    [
        ([_info("x", "N", 3)], [_info("y", "N", 10)], None),
        ([_info("x", "N", 3), _info("m", "N")], [_info("y", None, 10)], None),
        ([_info("x", 1, 3)], [_info("y", 1, 10)], "the first axis of input x is fixed to 1"),
        ([_info("x", "N", 3), _info("m", 1)], [_info("y", "N", 10)], "the first axis of input m is fixed to 1"),
        ([_info("x", "N", 3)], [_info("y", "N"), _info("loss")], "output loss has no axes"),
        ([_info("x", "N", 3)], [_info("y", "M", 10)], "the first axes have different names: M, N"),
    ],
)
def test_what_shapes_say_of_batches(inputs: list[TensorInfo], outputs: list[TensorInfo], why: str | None) -> None:
    found = interface_of(inputs, outputs)
    assert found.why_not_batched == why
    assert found.batched is (why is None)


def test_what_is_no_model(tmp_path: Path) -> None:
    net = write_net(tmp_path / "net.onnx")
    assert [str(info) for info in interface_from_onnx(net).inputs] == ["image: float32 (batch, 3, 8, 8)"]
    (tmp_path / "cut.onnx").write_bytes(net.read_bytes()[:-40])
    (tmp_path / "none.onnx").write_bytes(b"\x08\x0a")
    onnx.save(onnx.helper.make_model(onnx.helper.make_graph([], "empty", [], [])), tmp_path / "empty.onnx")
    wrong = {"cut": "is cut off, damaged", "none": "is no ONNX file", "empty": "has no inputs or no outputs"}
    for name, words in wrong.items():
        with pytest.raises(SnDeployError, match=words):
            interface_from_onnx(tmp_path / f"{name}.onnx")

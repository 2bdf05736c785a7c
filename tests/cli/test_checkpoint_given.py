"""A checkpoint where a command reads a model: it is said what the file is, and which command takes it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch

from sn_deploy.errors import SnDeployError
from sn_deploy.input_file import begins_as_checkpoint, begins_as_onnx
from sn_deploy.output_file import check_onnx_output
from tests.check.small_net import write_net
from tests.cli.command import run

_STATE = {"conv.weight": torch.zeros(3, 2), "sn.mean_weight": torch.ones(3)}


def _old_format(path: Path) -> None:
    torch.save(_STATE, path, _use_new_zipfile_serialization=False)


_WRITERS: dict[str, Callable[[Path], None]] = {
    "best.pth": lambda path: torch.save(_STATE, path),
    "old.pth": _old_format,
    "best.safetensors": lambda path: safetensors.torch.save_file(_STATE, path),
    "misnamed.onnx": lambda path: torch.save(_STATE, path),
}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    write_net(tmp_path / "net.onnx")
    return tmp_path


_COMMANDS = [
    ("fuse", "FILE", "-o", "out.onnx"),
    ("build", "FILE", "-o", "out.engine"),
    ("build", "FILE", "-o", "out.engine", "--opt", "1x3x8x8"),
    ("check", "FILE", "net.onnx"),
    ("check", "net.onnx", "--backend", "other=ort:FILE"),
    ("diff", "FILE", "net.onnx"),
    ("diff", "net.onnx", "FILE"),
    ("optimise", "FILE", "--for", "ort-cpu", "-o", "out.onnx"),
    ("quantize", "FILE", "--precision", "int8", "-o", "out.onnx"),
    ("specialise", "FILE", "-o", "out.onnx"),
    ("convert-precision", "FILE", "--precision", "fp16", "-o", "out.onnx"),
    ("refit", "FILE", "net.onnx", "-o", "out.engine"),
]


@pytest.mark.parametrize("command", _COMMANDS, ids=" ".join)
def test_a_checkpoint_is_called_one(command: tuple[str, ...], folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _WRITERS["best.pth"](folder / "best.pth")
    code, out, err = run(capsys, *(word.replace("FILE", "best.pth") for word in command))
    assert (code, out) == (2, "")
    assert "best.pth: is a PyTorch checkpoint (expected" in err
    assert "sn-deploy export --model PACKAGE.MODULE:CALLABLE --checkpoint best.pth" in err
    assert sorted(path.name for path in folder.iterdir()) == ["best.pth", "net.onnx"]


@pytest.mark.parametrize("name", _WRITERS)
def test_whatever_wrote_it(name: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _WRITERS[name](folder / name)
    for command in (("fuse", name, "-o", "out.onnx"), ("check", name, "net.onnx")):
        code, _, err = run(capsys, *command)
        assert code == 2
        assert f"{name}: is a PyTorch checkpoint (expected" in err


def test_what_is_none_is_not_called_one(folder: Path) -> None:
    np.savez("data.npz", data=np.zeros(3))
    for name in ("net.onnx", "data.npz"):
        assert not begins_as_checkpoint((folder / name).read_bytes()[:512])
    assert begins_as_onnx((folder / "net.onnx").read_bytes()[:512])


def test_a_checkpoint_that_begins_as_an_onnx_file_does(folder: Path) -> None:
    # safetensors' first byte is the lowest of its header's length.
    for padding in range(256):
        safetensors.torch.save_file({"x" * (padding + 1): torch.zeros(1)}, "best", metadata=None)
        if Path("best").read_bytes()[:1] == b"\x08":
            break
    else:
        pytest.fail("no header of that length")
    with pytest.raises(SnDeployError, match="would be overwritten"):
        check_onnx_output("best")

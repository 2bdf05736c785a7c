"""What writes an ONNX file, or a document, never puts it where another kind of file is."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import sn_deploy
from sn_deploy.cli.json_output import write_json
from sn_deploy.errors import SnDeployError
from sn_deploy.fuse import fuse
from sn_deploy.nn import SwitchNorm2d
from sn_deploy.optimise import optimise
from sn_deploy.output_file import check_onnx_output, check_text_name
from sn_deploy.precision import convert_precision, quantize
from sn_deploy.specialise import specialise
from tests.check.small_net import write_net

_WRITERS: dict[str, Callable[[Path, Path], Any]] = {
    "export": lambda _, path: sn_deploy.export(SwitchNorm2d(4), torch.zeros(1, 4, 4, 4), path),
    "fuse": lambda net, path: fuse(net, path),
    "specialise": lambda net, path: specialise(net, path),
    "optimise": lambda net, path: optimise(net, path),
    "convert_precision": lambda net, path: convert_precision(net, path, precision="fp16"),
    "quantize": lambda net, path: quantize(net, path, precision="int8"),
    "build": lambda net, path: sn_deploy.build(net, path),
}


@pytest.mark.parametrize("name", ["best.pth", "best.safetensors", "data.npz", "notes"])
@pytest.mark.parametrize("writer", _WRITERS)
def test_no_function_writes_over_a_file_of_another_kind(writer: str, name: str, tmp_path: Path) -> None:
    net, path = write_net(tmp_path / "net.onnx"), tmp_path / name
    path.write_bytes(b"weeks of work")
    with pytest.raises(SnDeployError, match=r"has no (ONNX file|engine)'s name|is a file, and no ONNX file"):
        _WRITERS[writer](net, path)
    assert path.read_bytes() == b"weeks of work"
    assert sorted(one.name for one in tmp_path.iterdir()) == sorted(["net.onnx", name])


@pytest.mark.parametrize("name", ["net.onnx", "NET.ONNX", "net", "empty"])
def test_names_that_may_be_written(name: str, tmp_path: Path) -> None:
    check_onnx_output(tmp_path / name)
    write_net(tmp_path / "net.onnx").rename(tmp_path / "net")
    (tmp_path / "empty").touch()
    check_onnx_output(tmp_path / name)


def test_a_damaged_file_of_the_right_name_may_be_replaced(tmp_path: Path) -> None:
    (tmp_path / "net.onnx").write_bytes(b"version https://git-lfs")
    check_onnx_output(tmp_path / "net.onnx")


@pytest.mark.parametrize("name", ["best.pth", "BEST.PT", "a.onnx", "a.engine"])
def test_no_document_takes_a_models_name(name: str, tmp_path: Path) -> None:
    with pytest.raises(SnDeployError, match="has a model's name"):
        write_json({}, str(tmp_path / name))
    assert list(tmp_path.iterdir()) == []
    check_text_name(tmp_path / "a.json")
    check_text_name(tmp_path / "a")

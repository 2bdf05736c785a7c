"""What is given to `sn_deploy.export` and `sn_deploy.build` by mistake: one line says what, where and what instead."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import sn_deploy
from sn_deploy.errors import SnDeployError
from sn_deploy.nn import SwitchNorm2d
from sn_deploy.runtime.ort import OrtSession
from tests.randomise import randomise_

X = torch.randn(2, 3, 6, 5, generator=torch.Generator().manual_seed(0))


@dataclasses.dataclass
class Batch:
    image: torch.Tensor


@dataclasses.dataclass
class KnownBatch(Batch):
    pass


class OfBatches(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.sn = SwitchNorm2d(3)

    def forward(self, batch: Batch) -> torch.Tensor:
        return self.sn(batch.image)


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.sn = SwitchNorm2d(3)

    def forward(self, image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        y = self.sn(image)
        return y, y.mean((2, 3))


def make() -> nn.Module:
    return randomise_(Net(), 1)


def refused(tmp_path: Path, match: str, *args: Any, **options: Any) -> None:
    with pytest.raises(SnDeployError, match=match):
        sn_deploy.export(*args, **options)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("given", "match"),
    [
        (X.numpy(), r"are a ndarray \(expected a tensor, .*; make a tensor of each array: torch.from_numpy"),
        ((X.numpy(),), "^there are NumPy arrays among .*torch.from_numpy"),
        ({"image": X.numpy()}, "^there are NumPy arrays among .*torch.from_numpy"),
        ((2, 3, 6, 5), r"there is no tensor .*for a shape give a tensor of it: torch.zeros\(2, 3, 6, 5\)"),
        (X.shape, r"there is no tensor .*for a shape give a tensor of it: torch.zeros\(2, 3, 6, 5\)"),
        (X.tolist(), "there is no tensor among the example inputs"),
        ("2x3x6x5", "example inputs are a str"),
        (Path("x.npy"), "example inputs are a PosixPath"),
        (None, "example inputs are a NoneType"),
        (Batch(X), r"example inputs are a Batch .*; register the class, torch.export.register_dataclass\(Batch\)"),
        ((Batch(X),), r"there is no tensor .*; register the class, torch.export.register_dataclass\(Batch\)"),
        ((), r"^Net.forward.*missing a required argument: 'image'"),
        ({}, r"^Net.forward.*missing a required argument: 'image'"),
        ({"x": X}, r"^Net.forward.*missing a required argument: 'image'"),
        ({0: X}, "^Net.forward.*keywords must be strings"),
        ({"": X}, r"have a Tensor under '' \(expected a tuple of arguments"),
        (X.to("meta"), "^example input 'image': is on the meta device, without data"),
        (X.to_sparse(), "^example input 'image': is torch.sparse_coo"),
        (X.to(torch.complex64), "^example input 'image': is torch.strided of torch.complex64"),
        (X.to(torch.int32), r"^layer 'sn': input is torch.int32 \(expected a floating point dtype"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_example_inputs(given: Any, match: str, tmp_path: Path) -> None:
    refused(tmp_path, match, make(), given, tmp_path / "net.onnx")


@pytest.mark.parametrize(
    ("given", "match"),
    [
        ("best.pth", r"is a str \(expected a torch.nn.Module\); .*load_state_dict"),
        (Path("best.pth"), r"is a PosixPath \(expected a torch.nn.Module\); .*load_state_dict"),
        (make().state_dict(), r"is a OrderedDict \(expected a torch.nn.Module\); .*load_state_dict"),
        (Net, r"is a type \(expected a torch.nn.Module\); give an instance of it: Net\("),
        (make().forward, r"is a method \(expected a torch.nn.Module\)$"),
        (None, "is a NoneType"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_models(given: Any, match: str, tmp_path: Path) -> None:
    refused(tmp_path, f"^the model {match}", given, X, tmp_path / "net.onnx")


@pytest.mark.parametrize("path", [X, None, 3, b"net.onnx"], ids=lambda value: type(value).__name__)
def test_paths(path: Any, tmp_path: Path) -> None:
    kind = type(path).__name__
    refused(tmp_path, rf"^the file to write: is a {kind} \(expected a path", make(), X, path)
    with pytest.raises(SnDeployError, match=rf"^the model: is a {kind} \(expected a path"):
        sn_deploy.build(path, tmp_path / "net.engine")
    with pytest.raises(SnDeployError, match=rf"^the engine to write: is a {kind} \(expected a path"):
        sn_deploy.build(tmp_path / "net.onnx", path)


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"dynamic": 0}, "dynamic: is a int"),
        ({"dynamic": None}, "dynamic: is a NoneType"),
        ({"dynamic": [0]}, "dynamic: holds a int"),
        ({"dynamic": ({0: "batch"},)}, "dynamic: holds a dict"),
        ({"dynamic": {"image": [0]}}, r"dynamic: gives input 'image' a list \(expected words"),
        ({"dynamic": {"image": "batch"}}, "dynamic: gives input 'image' a str"),
        ({"dynamic": {"image": {"0": "batch"}}}, "dynamic: input 'image' has no axis '0'"),
        ({"dynamic": {"image": {0: None}}}, "dynamic: None is no name for an axis"),
        ({"opset": "20"}, r"opset: opset '20' can't be exported \(expected 18 to 23"),
        ({"opset": 20.0}, "opset: opset 20.0 can't be exported"),
        ({"precision": torch.float16}, r"precision: torch.float16 is no precision \(expected fp32 or fp16 or bf16"),
        ({"precision": ["fp16"]}, "precision: "),
        ({"input_names": 3}, "input_names: is a int"),
        ({"input_names": [3]}, r"input_names: is \[3\] \(expected names"),
        ({"input_names": ["a", "b"]}, r"input names are \['a', 'b'\] \(expected 1 different"),
        ({"output_names": ["y"]}, r"output_names: has 1 names \(expected 2, one for each output"),
        ({"output_names": ["y", "y"]}, r"output_names: is \['y', 'y'\]"),
        ({"output_names": ["y", ""]}, r"output_names: is \['y', ''\]"),
        ({"output_names": ["y", "image"]}, "output_names: 'image' is an input's name"),
        ({"finalize_batch_average": "5"}, r"the number of batches is '5' \(expected a positive integer"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_options(options: dict[str, Any], match: str, tmp_path: Path) -> None:
    refused(tmp_path, match, make(), X, tmp_path / "net.onnx", **options)


def test_a_dataclass_that_torch_knows_is_taken_apart(tmp_path: Path) -> None:
    torch.export.register_dataclass(KnownBatch)
    model, path = randomise_(OfBatches(), 1), tmp_path / "net.onnx"
    report = sn_deploy.export(model, (KnownBatch(X),), path, dynamic="batch")
    assert report.inputs == {"batch_image": "batch×3×6×5 float32"}
    with OrtSession(path) as session:
        (found,) = session.run({"batch_image": X.numpy()}).values()
    with torch.no_grad():
        y = model.double().eval()(Batch(X.double()))
    np.testing.assert_allclose(found, y.numpy(), atol=1e-5)


def test_what_is_meant_is_taken(tmp_path: Path) -> None:
    """One name alone, and NumPy's integers."""
    path = tmp_path / "net.onnx"
    dynamic: Any = {"picture": {np.int64(0): "batch"}}
    opset: Any = np.int64(19)
    report = sn_deploy.export(
        make(), X, str(path), dynamic=dynamic, opset=opset, input_names="picture", output_names=["y", "mean"]
    )
    assert report.inputs == {"picture": "batch×3×6×5 float32"}
    assert list(report.outputs) == ["y", "mean"]
    with OrtSession(path) as session:
        found = session.run({"picture": X.numpy()})
    with torch.no_grad():
        y, mean = make().double().eval()(X.double())
    np.testing.assert_allclose(found["y"], y.numpy(), atol=1e-5)
    np.testing.assert_allclose(found["mean"], mean.numpy(), atol=1e-5)

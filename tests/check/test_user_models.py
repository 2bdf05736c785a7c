"""Models as training leaves them, and calls from within what training has around them: the same figures."""

from __future__ import annotations

import contextlib
import threading
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import sn_deploy
from sn_deploy.calibrate import calibrate
from sn_deploy.capture.private_copy import private_copy
from sn_deploy.check import DataOptions, check
from sn_deploy.check.data.open import open_data
from sn_deploy.errors import SnDeployError
from sn_deploy.nn import SwitchNorm2d, convert
from sn_deploy.runtime.tensors import TensorInfo
from tests.randomise import randomise_


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.sn = nn.Conv2d(3, 4, 3), SwitchNorm2d(4)
        randomise_(self, seed=0)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return torch.relu(self.sn(self.conv(image)))


class InPlace(Net):
    """It normalises its input as much published code does, in place."""

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return super().forward(image.sub_(0.5).mul_(4.0))


class WithGain(Net):
    """A number that all samples share is its second input."""

    def forward(self, image: torch.Tensor, gain: torch.Tensor) -> torch.Tensor:
        return super().forward(image) * gain


class KeepsFeatures(Net):
    """It holds on to what a layer gave, with its graph, as whoever looks at features does."""

    def __init__(self) -> None:
        super().__init__()
        self.features: dict[str, list[torch.Tensor]] = {"conv": []}

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        self.features["conv"].append(self.conv(image))
        return super().forward(image)


@pytest.fixture
def images() -> torch.Tensor:
    return torch.randn(6, 3, 9, 9, generator=torch.Generator().manual_seed(1))


def test_a_model_may_write_to_its_input(images: torch.Tensor, tmp_path: Path) -> None:
    model, before = InPlace().eval(), images.clone()
    sn_deploy.export(model, images, tmp_path / "net.onnx", dynamic="batch")
    assert torch.equal(images, before)
    assert check(tmp_path / "net.onnx", model=model, data=images, layers=True).passed
    assert torch.equal(images, before)
    array = images.numpy()
    assert check(tmp_path / "net.onnx", model=model, data={"image": array}, batch_size=1).passed
    assert np.array_equal(array, before.numpy())
    source = open_data(DataOptions(images), [TensorInfo("image", ("N", 3, 9, 9), np.dtype(np.float32))])
    calibrate(model, source)
    assert torch.equal(images, before)


def test_layers_of_a_model_with_a_number_as_input(images: torch.Tensor, tmp_path: Path) -> None:
    model, gain = WithGain().eval(), torch.tensor(2.0)
    sn_deploy.export(model, (images, gain), tmp_path / "net.onnx", dynamic="batch")
    result = check(tmp_path / "net.onnx", model=model, data={"image": images, "gain": gain}, layers=True)
    assert result.passed
    assert [row.layer for row in result.layers[0].layers] == ["sn"]


def test_a_model_that_keeps_what_its_layers_gave(images: torch.Tensor, tmp_path: Path) -> None:
    model = KeepsFeatures()
    model(images).sum().backward()
    held = list(model.features["conv"])
    sn_deploy.export(model, images, tmp_path / "net.onnx", dynamic="batch")
    assert check(tmp_path / "net.onnx", model=model, data=images).passed
    assert all(one is other for one, other in zip(model.features["conv"], held, strict=True))


def test_what_cannot_be_copied_is_named() -> None:
    model = nn.Sequential(Net())
    model[0].lock = threading.Lock()
    with pytest.raises(SnDeployError, match=r"^Sequential, attribute '0.lock': the model can't be copied: TypeError"):
        private_copy(model)


def test_a_model_that_holds_a_dict_in_itself() -> None:
    """torch can't export it; a copy of it can run."""
    model = Net()
    model.registry = {"forwards": [model.conv.forward]}
    model.registry["itself"] = model.registry
    copied = private_copy(model)
    assert copied.registry["itself"] is copied.registry is not model.registry
    assert copied.registry["forwards"][0].__self__ is copied.conv


@contextlib.contextmanager
def default_device(device: str) -> Iterator[None]:
    torch.set_default_device(device)
    try:
        yield
    finally:
        torch.set_default_device(None)


SURROUNDINGS: dict[str, Callable[[], AbstractContextManager[object]]] = {
    "autocast": lambda: torch.autocast("cpu", dtype=torch.bfloat16),
    "inference mode": torch.inference_mode,
    "another device by default": lambda: default_device("meta"),
    "a device for a block": lambda: torch.device("meta"),
}


@pytest.mark.parametrize("name", SURROUNDINGS)
def test_what_a_program_has_around_a_call_is_not_the_models(name: str, images: torch.Tensor, tmp_path: Path) -> None:
    model = Net().eval()
    source = open_data(DataOptions(images), [TensorInfo("image", ("N", 3, 9, 9), np.dtype(np.float32))])

    def figures(path: Path) -> tuple[object, ...]:
        sn_deploy.export(model, images, path, dynamic="batch")
        result = check(path, model=model, data=images, layers=True)
        statistics = calibrate(model, source).layers[0]
        return path.read_bytes(), result.parity, result.layers, statistics.mean.tolist(), statistics.var.tolist()

    expected = figures(tmp_path / "plain.onnx")
    with SURROUNDINGS[name]():
        assert figures(tmp_path / "inside.onnx") == expected


class MakesTensors(Net):
    """Part of what it adds is of the type that new tensors have by default."""

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        y = super().forward(image)
        return y + torch.linspace(0, 1, y.shape[-1]) + torch.zeros(y.shape)


def test_float64_by_default(images: torch.Tensor, tmp_path: Path) -> None:
    model = MakesTensors().eval()
    sn_deploy.export(model, images, tmp_path / "plain.onnx", dynamic="batch")
    torch.set_default_dtype(torch.float64)
    try:
        sn_deploy.export(model, images, tmp_path / "net.onnx", dynamic="batch")
        assert check(tmp_path / "net.onnx", model=model, data=images, layers=True).passed
        assert torch.get_default_dtype() == torch.float64
    finally:
        torch.set_default_dtype(torch.float32)
    assert (tmp_path / "net.onnx").read_bytes() == (tmp_path / "plain.onnx").read_bytes()


class OfList(Net):
    def forward(self, images: list[torch.Tensor]) -> torch.Tensor:
        return super().forward(images[0]) + images[1].mean()


class OfDict(Net):
    def forward(self, batch: dict[str, torch.Tensor], gain: torch.Tensor) -> torch.Tensor:
        return super().forward(batch["image"] - batch["mean_image"]) * gain


class OfOne(Net):
    def forward(self, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        return super().forward(batch["image"])


class OfKeywords(Net):
    def forward(self, **batch: torch.Tensor) -> torch.Tensor:
        return super().forward(batch["image"])


@pytest.mark.parametrize(
    ("model", "example", "data"),
    [
        (OfList, lambda x: ([x, x],), lambda x: {"images_0": x, "images_1": x}),
        (
            OfDict,
            lambda x: ({"image": x, "mean_image": 0.1 * x}, torch.ones(len(x), 1, 1, 1)),
            lambda x: {"image": x, "mean_image": 0.1 * x, "gain": torch.ones(len(x), 1, 1, 1)},
        ),
        (OfOne, lambda x: ({"image": x},), lambda x: x),
        (OfOne, lambda x: ({"image": x},), lambda x: {"image": x}),
        (OfKeywords, lambda x: {"image": x}, lambda x: x),
    ],
)
def test_a_parameter_that_holds_several_inputs(
    model: type[Net], example: Callable[..., Any], data: Callable[..., Any], images: torch.Tensor, tmp_path: Path
) -> None:
    net = model()
    sn_deploy.export(net, example(images), tmp_path / "net.onnx", dynamic="batch")
    result = check(tmp_path / "net.onnx", model=net, data=data(images), layers=True)
    assert result.passed, result.failed
    assert result.samples == len(images)
    assert all(report.layers for report in result.layers)


class OfDeep(Net):
    def forward(self, batch: dict[str, Any]) -> torch.Tensor:
        return super().forward(batch["image"]["rgb"]) * batch["gains"][1]


def test_data_that_are_the_dict_itself(images: torch.Tensor, tmp_path: Path) -> None:
    """A dict within a dict, and a list in it: names alone don't tell how what a parameter holds is nested."""
    net, gain = OfDeep(), torch.rand(len(images), 1, 1, 1)
    data = [{"batch": {"image": {"rgb": images}, "gains": [0 * gain, gain]}}]
    sn_deploy.export(net, data[0], tmp_path / "net.onnx", dynamic="batch")
    result = check(tmp_path / "net.onnx", model=net, data=data)
    assert result.passed, result.failed


class OfAnchors(Net):
    def forward(self, images: torch.Tensor, anchors: torch.Tensor) -> torch.Tensor:
        return anchors * super().forward(images).mean()


def test_a_constant_beside_the_samples_is_to_be_a_part_of_the_model(images: torch.Tensor, tmp_path: Path) -> None:
    net, anchors = OfAnchors(), torch.rand(100, 4)
    sn_deploy.export(net, (images, anchors), tmp_path / "net.onnx")
    with pytest.raises(SnDeployError, match=rf"different sizes: images {len(images)}, anchors 100.*a buffer of the"):
        check(tmp_path / "net.onnx", model=net, data={"images": images, "anchors": anchors})


def test_another_name_for_a_parameter_is_no_part_of_it(images: torch.Tensor, tmp_path: Path) -> None:
    net = Net()
    sn_deploy.export(net, images, tmp_path / "net.onnx", dynamic="batch", input_names=["image_0"])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert check(tmp_path / "net.onnx", model=net, data=images).passed


def test_both_ways_of_a_parameter_are_told_where_neither_works(images: torch.Tensor, tmp_path: Path) -> None:
    class OfAnother(Net):
        def forward(self, batch: dict[str, torch.Tensor]) -> torch.Tensor:
            return super().forward(batch["picture"])

    sn_deploy.export(OfOne(), ({"image": images},), tmp_path / "net.onnx", dynamic="batch")
    with pytest.raises(
        SnDeployError, match=r"fails on batch_image: .*; and where .* a dict or a list: KeyError: 'picture'"
    ):
        check(tmp_path / "net.onnx", model=OfAnother(), data=images)


def test_a_net_is_converted_on_its_own_device() -> None:
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
    with torch.device("meta"):
        assert {value.device.type for value in convert(net, torch.zeros(1, 3, 8, 8, device="cpu")).parameters()} == {
            "cpu"
        }


def test_examples_without_a_sample(images: torch.Tensor, tmp_path: Path) -> None:
    with pytest.raises(SnDeployError, match=r"the example inputs are empty: image .0, 3, 9, 9. .expected at least"):
        sn_deploy.export(Net(), images[:0], tmp_path / "net.onnx")


def test_exports_in_several_threads(images: torch.Tensor, tmp_path: Path) -> None:
    model = Net()
    with ThreadPoolExecutor(3) as pool:
        paths = [tmp_path / f"{index}.onnx" for index in range(6)]
        reports = list(pool.map(lambda path: sn_deploy.export(model, images, path), paths))
    assert [report.nodes for report in reports] == [2] * 6
    assert len({path.read_bytes() for path in paths}) == 1


def test_figures_beside_exports_in_another_thread_are_the_same(images: torch.Tensor, tmp_path: Path) -> None:
    """torch.export turns oneDNN off for the whole process while it traces, and other kernels round otherwise."""
    model = nn.Sequential(Net(), nn.Conv2d(4, 16, 3), nn.ReLU(), nn.Conv2d(16, 16, 3))
    sn_deploy.export(model, images, tmp_path / "net.onnx", dynamic="batch")

    def figures() -> tuple[object, list[list[float]]]:
        statistics = calibrate(model, images).layers[0]
        return check(tmp_path / "net.onnx", model=model, data=images).parity, [[*statistics.mean], [*statistics.var]]

    alone = figures()
    with ThreadPoolExecutor(1) as pool:
        exports = [pool.submit(sn_deploy.export, model, images, tmp_path / f"{index}.onnx") for index in range(4)]
        while not exports[-1].done():
            assert figures() == alone
    assert {export.result().nodes for export in exports} == {5}

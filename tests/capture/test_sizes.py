"""Files with dynamic axes are right at other sizes than the example's, or there is no file."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import nn

import sn_deploy
from sn_deploy.capture import capture, sizes
from sn_deploy.errors import SnDeployError
from sn_deploy.nn import SwitchNorm2d, SwitchNorm3d, SwitchNormSequence
from sn_deploy.runtime.ort import OrtSession
from tests.conftest import OLD_LIBRARIES
from tests.randomise import randomise_
from tests.tolerances import TOLERANCES


def net(pooling: nn.Module, rank: int = 2) -> nn.Module:
    """A convolution to half the size, SN, the pooling."""
    torch.manual_seed(0)
    convolution = (nn.Conv1d, nn.Conv2d, nn.Conv3d)[rank - 1](3, 4, 3, padding=1, stride=2)
    norm = (SwitchNormSequence, SwitchNorm2d, SwitchNorm3d)[rank - 1](4)
    return randomise_(nn.Sequential(convolution, norm, pooling), seed=0).eval()


class Interpolated(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + F.interpolate(F.max_pool2d(x, 2), size=x.shape[2:], mode="bilinear")


class Rounded(nn.Module):
    """As the authors' CityScapes model computes its output's size: int() of a quotient takes the example's."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.interpolate(x, size=(int((x.shape[2] - 1) / 2 + 1), x.shape[3]))


class Patches(nn.Module):
    """Takes sizes of which halves are multiples of 4 alone."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        n, c, height, width = x.shape
        return x.view(n, c, height // 4, 4, width // 4, 4).mean((3, 5))


class Tiled(nn.Module):
    """Two inputs of one batch, the second written over a map of a fixed size, as generators take attributes."""

    def __init__(self) -> None:
        super().__init__()
        self.sn = SwitchNorm2d(5)

    def forward(self, x: torch.Tensor, attributes: torch.Tensor) -> torch.Tensor:
        tiles = attributes[:, :, None, None].repeat(1, 1, 6, 8)
        return self.sn(torch.cat([F.max_pool2d(x, 4), tiles], dim=1))


class Weighted(nn.Module):
    """RDPNet's tail: two images beside each other, SN, a weight for each channel, a 1 x 1 convolution."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.sn, self.last = nn.Conv2d(6, 8, 3), SwitchNorm2d(8), nn.Conv2d(8, 2, 1)
        self.weight = nn.Parameter(torch.rand(1, 8, 1, 1))

    def forward(self, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        return self.last(self.sn(self.stem(torch.cat([a, b], 1))) * self.weight)


def distance(path: Path, model: nn.Module, x: torch.Tensor) -> float:
    """Relative L2 of ONNX Runtime to the model in float64; infinite for another shape."""
    with torch.no_grad():
        wanted = model.double()(x.double()).numpy()
    model.float()
    with OrtSession(path) as session:
        (found,) = session.run({session.inputs[0].name: x.numpy()}).values()
    if found.shape != wanted.shape:
        return float("inf")
    return float(np.linalg.norm(found - wanted) / np.linalg.norm(wanted))


@pytest.mark.parametrize(
    ("cells", "size"), [(1, (24, 36)), (2, (24, 36)), (5, (25, 31)), ((3, None), (24, 36)), ((1, 4), (25, 31))]
)
def test_adaptive_average_pooling_at_any_size(cells: Any, size: tuple[int, int], tmp_path: Path) -> None:
    model = net(nn.AdaptiveAvgPool2d(cells))
    sn_deploy.export(model, torch.randn(1, 3, *size), tmp_path / "net.onnx", dynamic=("batch", "spatial"))
    for batch, height, width in ((1, *size), (2, 24, 36), (3, 33, 47), (1, 48, 72), (1, 7, 90)):
        x = torch.randn(batch, 3, height, width)
        assert distance(tmp_path / "net.onnx", model, x) < TOLERANCES["float32"].rel_l2


@pytest.mark.parametrize("rank", [1, 3])
def test_in_one_and_three_dimensions(rank: int, tmp_path: Path) -> None:
    pooling = (nn.AdaptiveAvgPool1d(3), None, nn.AdaptiveAvgPool3d((2, 1, 3)))[rank - 1]
    assert pooling is not None
    model = net(pooling, rank)
    path = tmp_path / "net.onnx"
    axes = {"input": {0: "batch", **{2 + i: f"side{i}" for i in range(rank)}}}
    sn_deploy.export(model, torch.randn(1, 3, *(12, 18, 24)[:rank]), path, dynamic=axes)
    for sides in ((12, 18, 24), (13, 8, 26)):
        assert distance(path, model, torch.randn(2, 3, *sides[:rank])) < TOLERANCES["float32"].rel_l2


def test_static_axes_are_left_to_torch(tmp_path: Path) -> None:
    report = sn_deploy.export(
        net(nn.AdaptiveAvgPool2d(2)), torch.randn(1, 3, 24, 36), tmp_path / "net.onnx", dynamic="batch"
    )
    assert report.op_counts == {"Conv": 1, "SwitchNorm": 1, "AveragePool": 1}


def test_a_file_for_one_size_alone_is_refused(tmp_path: Path) -> None:
    model, x = net(nn.AdaptiveMaxPool2d(2)), torch.randn(1, 3, 24, 36)
    with pytest.raises(SnDeployError, match=r"(height|width).*adaptive_max_pool2d for the example's size alone"):
        sn_deploy.export(model, x, tmp_path / "net.onnx", dynamic=("batch", "spatial"))
    assert not list(tmp_path.iterdir())
    sn_deploy.export(model, x, tmp_path / "net.onnx")


def test_a_model_that_takes_the_example_s_size_is_refused(tmp_path: Path) -> None:
    model, x = net(Rounded()), torch.randn(1, 3, 25, 36)
    with pytest.raises(SnDeployError, match=r"input 'input': the model fixes axis 2 \(height\) to 25 "):
        sn_deploy.export(model, x, tmp_path / "net.onnx", dynamic=("batch", "spatial"))
    assert not list(tmp_path.iterdir())
    sn_deploy.export(model, x, tmp_path / "net.onnx", dynamic="input:0=batch,3=width")
    assert distance(tmp_path / "net.onnx", model, torch.randn(2, 3, 25, 44)) < TOLERANCES["float32"].rel_l2


@pytest.mark.skipif(
    OLD_LIBRARIES,
    reason="the oldest torch.export doesn't ask it: the file is right, and ends with an error at other sizes",
)
def test_the_axis_at_fault_is_named_where_inputs_share_a_batch(tmp_path: Path) -> None:
    model, inputs = randomise_(Tiled(), seed=0).eval(), (torch.randn(2, 3, 24, 32), torch.randn(2, 2))
    with pytest.raises(SnDeployError, match=r"input 'x': the model fixes axis 2 \(height\) to 24 "):
        sn_deploy.export(model, inputs, tmp_path / "net.onnx", dynamic=("batch", "spatial"))
    assert not list(tmp_path.iterdir())
    sn_deploy.export(model, inputs, tmp_path / "net.onnx", dynamic="batch")


def test_multiples_of_a_size_are_not_refused(tmp_path: Path) -> None:
    model = net(Patches())
    sn_deploy.export(model, torch.randn(1, 3, 24, 40), tmp_path / "net.onnx", dynamic=("batch", "spatial"))
    assert distance(tmp_path / "net.onnx", model, torch.randn(2, 3, 48, 32)) < TOLERANCES["float32"].rel_l2


def test_without_the_matrices_average_pooling_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(capture, "AnySizePooling", contextlib.nullcontext)
    model, x = net(nn.AdaptiveAvgPool2d(5)), torch.randn(1, 3, 24, 36)
    with pytest.raises(SnDeployError, match=r"adaptive_avg_pool2d for the example's size alone"):
        sn_deploy.export(model, x, tmp_path / "net.onnx", dynamic=("batch", "spatial"))


OVERHANGING = pytest.param(
    nn.AvgPool2d(3, ceil_mode=True),
    (7, 9),
    marks=pytest.mark.skipif(
        OLD_LIBRARIES,
        reason="ONNX Runtime 1.18 divides by all of a window that hangs over; newer ones run the file right",
    ),
)


@pytest.mark.parametrize(("tail", "size"), [(nn.Flatten(), (24, 36)), OVERHANGING, (Interpolated(), (24, 36))])
def test_what_takes_any_size_is_not_refused(tail: nn.Module, size: tuple[int, int], tmp_path: Path) -> None:
    model = net(tail)
    sn_deploy.export(model, torch.randn(1, 3, *size), tmp_path / "net.onnx", dynamic=("batch", "spatial"))
    assert distance(tmp_path / "net.onnx", model, torch.randn(2, 3, 29, 22)) < TOLERANCES["float32"].rel_l2


@pytest.fixture
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.mark.usefixtures("one_thread")
def test_torch_s_choice_of_a_kernel_is_not_refused(tmp_path: Path) -> None:
    # On one thread torch asks whether the batch is below 16, and takes another kernel from there on.
    model = randomise_(Weighted(), seed=0).eval()
    images = (torch.randn(1, 3, 40, 40), torch.randn(1, 3, 40, 40))
    sn_deploy.export(model, images, tmp_path / "net.onnx", dynamic=("batch", "spatial"))
    with OrtSession(tmp_path / "net.onnx") as session:
        for size in ((1, 3, 40, 40), (17, 3, 19, 64)):
            a, b = torch.randn(size), torch.randn(size)
            with torch.no_grad():
                wanted = copy.deepcopy(model).double()(a.double(), b.double()).numpy()
            (found,) = session.run({"a": a.numpy(), "b": b.numpy()}).values()
            assert np.linalg.norm(found - wanted) / np.linalg.norm(wanted) < TOLERANCES["float32"].rel_l2


@pytest.mark.usefixtures("one_thread")
def test_the_operator_that_asks_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sizes, "_chooses_a_kernel", lambda guard: False)
    images = (torch.randn(1, 3, 40, 40), torch.randn(1, 3, 40, 40))
    with pytest.raises(SnDeployError, match=r"dynamic axis batch: torch exports conv for the example's size alone"):
        sn_deploy.export(
            randomise_(Weighted(), seed=0).eval(), images, tmp_path / "net.onnx", dynamic=("batch", "spatial")
        )

"""What a check takes a PyTorch model to compute in: its tolerance goes by that."""

from __future__ import annotations

import copy
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from torch import nn

from sn_deploy.calibrate import calibrate
from sn_deploy.check.backends.torch_model import TorchRunner, precision_of
from sn_deploy.check.batch import Batch
from sn_deploy.compare.parity import compare
from sn_deploy.nn import SwitchNorm2d
from sn_deploy.runtime.tensors import TensorInfo
from tests.randomise import randomise_
from tests.tolerances import TOLERANCES


class Mixed(nn.Module):
    """A convolution and an SN layer, each in a type of its own, with casts between them."""

    def __init__(self, conv: torch.dtype, norm: torch.dtype) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 16, 3).to(conv)
        self.norm = SwitchNorm2d(16).to(norm)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = self.norm(self.conv(x).to(self.norm.weight.dtype))
        return y.float()


@pytest.mark.parametrize("half", [torch.float16, torch.bfloat16])
def test_a_part_in_half_precision_costs_what_a_whole_does(half: torch.dtype) -> None:
    name = str(half).removeprefix("torch.")
    assert precision_of(Mixed(half, torch.float32)) == name
    few = Mixed(torch.float32, half).eval()  # most elements are the convolution's
    runner = TorchRunner(few, [TensorInfo("x", None, np.dtype("float32"))])
    assert (runner.precision, runner.inputs[0].dtype) == (name, np.dtype("float32"))
    y = runner.run({"x": np.ones((1, 3, 8, 8), np.float32)})["output_0"]
    assert np.isfinite(y).all()


class Stem(nn.Module):
    """A stem of one type before a body of another, with more weights."""

    def __init__(self, stem: torch.dtype, body: torch.dtype) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 4, 1), SwitchNorm2d(4)).to(stem)
        self.body = nn.Sequential(nn.Conv2d(4, 64, 3), SwitchNorm2d(64)).to(body)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = self.body(self.stem(x).to(self.body[0].weight.dtype))
        return y


@pytest.mark.parametrize(
    ("stem", "body"),
    [(torch.float32, torch.bfloat16), (torch.bfloat16, torch.float32), (torch.float64, torch.float32)],
)
def test_the_input_has_the_type_of_what_it_meets_first(stem: torch.dtype, body: torch.dtype) -> None:
    torch.manual_seed(0)
    model = randomise_(Stem(stem, body).eval(), 1)
    runner = TorchRunner(model, [TensorInfo("x", None, np.dtype("float32"))])
    assert runner.inputs[0].dtype == np.dtype(str(stem).removeprefix("torch."))
    x = np.random.default_rng(0).standard_normal((2, 3, 8, 8)).astype(np.float32)
    y = runner.run({"x": x.astype(runner.inputs[0].dtype)})["output_0"]
    with torch.no_grad():
        expected = copy.deepcopy(model).double()(torch.from_numpy(x).double())
    assert compare(expected.numpy(), y).rel_l2 < TOLERANCES[runner.precision].rel_l2

    class Data:
        batches = 1

        def __iter__(self) -> Iterator[Batch]:
            yield Batch(0, 0, {"x": x})

    (first, _) = calibrate(model, Data()).layers  # type: ignore[arg-type]
    with torch.no_grad():
        met = copy.deepcopy(model).double().stem[0](torch.from_numpy(x).double())
    np.testing.assert_allclose(first.mean, met.mean((0, 2, 3)).numpy(), rtol=1e-5, atol=1e-5)


def test_an_embedding_in_bfloat16_counts() -> None:
    assert precision_of(nn.Sequential(nn.Embedding(4, 2).bfloat16(), nn.Linear(2, 64))) == "bfloat16"


def test_float64_integers_and_booleans_loosen_nothing() -> None:
    model = nn.Sequential(nn.Linear(2, 2))
    model.register_buffer("anchors", torch.zeros(1000, dtype=torch.float64))
    model.register_buffer("places", torch.zeros(1000, dtype=torch.int8))
    model.register_buffer("mask", torch.zeros(1000, dtype=torch.bool))
    assert precision_of(model) == "float32"
    assert precision_of(nn.Linear(2, 2).double()) == "float64"
    assert precision_of(nn.ReLU()) == "float32"

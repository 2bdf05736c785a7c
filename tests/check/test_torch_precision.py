"""What a check takes a PyTorch model to compute in: its tolerance goes by that."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from sn_deploy.check.backends.torch_model import TorchRunner, precision_of
from sn_deploy.nn import SwitchNorm2d
from sn_deploy.runtime.tensors import TensorInfo


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

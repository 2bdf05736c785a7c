"""A net of expanding 1 x 1 convolutions with SN layers behind them, for the trial that makes one node of both."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from types import ModuleType

import onnx
import torch

from sn_deploy.nn import SwitchNorm2d
from sn_deploy.onnx_export import export

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"
SHAPES = ((2, 64, 6, 7), (2, 128, 3, 4))  # of X and the residual


class Block(torch.nn.Module):
    """A convolution with a stride and its layer; behind them the residual, or nothing."""

    def __init__(self, adds: bool) -> None:
        super().__init__()
        self.conv = torch.nn.Conv2d(64, 128, 1, stride=2, bias=False)
        self.norm = SwitchNorm2d(128)
        self.adds = adds

    def forward(self, x: torch.Tensor, residual: torch.Tensor) -> torch.Tensor:
        y = self.norm(self.conv(x))
        return (y + residual).relu() if self.adds else y


def fused_convolutions() -> ModuleType:
    """The rewriting, of the benchmarks."""
    sys.path.insert(0, str(BENCHMARKS))
    try:
        return importlib.import_module("fused_convolutions")
    finally:
        sys.path.remove(str(BENCHMARKS))


def exported(adds: bool, path: Path) -> tuple[onnx.ModelProto, list[torch.Tensor]]:
    """The block's file in float16 as it is exported, and inputs for it."""
    torch.manual_seed(3)
    block = Block(adds).eval()
    for name, tensor in block.state_dict().items():
        if name.startswith("norm"):
            tensor.copy_(torch.rand_like(tensor) + 0.5)
    inputs = [torch.randn(shape) for shape in SHAPES]
    export(block, tuple(inputs), path, precision="fp16")
    return onnx.load(path), inputs

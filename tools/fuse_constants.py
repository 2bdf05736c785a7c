"""What the constants of a fused file cost, beside the rounding of float32 arithmetic: ResNet-50, the authors' code.

    python -m tools.fuse_constants FOLDER [--model resnetv2sn50] [--statistics random|initial|measured]

FOLDER holds a clone of the public repository ``Switchable-Normalization`` under its own name. The net is exported by
torch's TorchScript exporter, which folds products of the layers' weights in float32, and fused; and exported directly.
Compared by relative L2 on four images with the net in float64:

- both files in ONNX Runtime, in float32;
- the net in float64 with the constants of both files, so that nothing but these is rounded;
- the direct export with its recorded means and variances moved by one unit in the last place, up or down at random: in
  the first layer, in the last, in all.
"""

from __future__ import annotations

import argparse
import copy
import importlib
import logging
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import torch
from onnx import numpy_helper

from sn_deploy.folded import FoldedSwitchNorm
from sn_deploy.fuse import fuse
from sn_deploy.graph.layers import folded_from_node, switch_norm_nodes
from sn_deploy.onnx_export import export
from tools.fuse_ways import Way, write
from tools.fuse_zoo import LAYERS, STATISTICS, network, outputs, rel_l2

Layers = Mapping[str, FoldedSwitchNorm]


class Constants(torch.nn.Module):
    """A layer that computes with the constants of a file, in float64; X is (N, C, H, W)."""

    def __init__(self, folded: FoldedSwitchNorm) -> None:
        super().__init__()
        self.folded = folded
        arrays = (folded.scale, folded.bias, folded.mean_offset, folded.var_offset)
        self.arrays = [torch.tensor(array).reshape(1, -1, 1, 1) for array in arrays]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        scale, bias, mean_offset, var_offset = self.arrays
        mean_in, var_in = x.mean((2, 3), keepdim=True), x.var((2, 3), keepdim=True, correction=self.folded.ddof)
        mean_ln = mean_in.mean(1, keepdim=True)
        var_ln = var_in.mean(1, keepdim=True) + ((mean_in - mean_ln) ** 2).mean(1, keepdim=True)
        mean = self.folded.mean_in * mean_in + self.folded.mean_ln * mean_ln + mean_offset
        var = self.folded.var_in * var_in + self.folded.var_ln * var_ln + var_offset
        return (x - mean) / var.sqrt() * scale + bias


def layers_of(path: Path) -> dict[str, FoldedSwitchNorm]:
    nodes = switch_norm_nodes(ir.load(path))
    return {str(node.name): folded_from_node(node, str(node.name)) for node in nodes}


@torch.no_grad()
def by_constants(model: torch.nn.Module, layers: Layers, x: np.ndarray) -> np.ndarray:
    """The net in float64 with these constants in its layers."""
    model = copy.deepcopy(model).double()
    for name, folded in layers.items():
        parent, _, own = name.rpartition(".")
        setattr(model.get_submodule(parent), own, Constants(folded))
    return np.asarray(model(torch.from_numpy(x).double()).numpy())


def moved(source: Path, names: Sequence[str], path: Path) -> Path:
    """The file with the offsets of these layers moved by one unit in the last place."""
    model, draw = onnx.load(source), np.random.default_rng(0)
    weights = {tensor.name: tensor for tensor in model.graph.initializer}
    for node in model.graph.node:
        for name in node.input[3:5] if node.name in names else ():
            array = numpy_helper.to_array(weights[name])
            ends = np.where(draw.random(array.shape) < 0.5, np.float32(np.inf), np.float32(-np.inf))
            weights[name].CopyFrom(numpy_helper.from_array(np.nextafter(array, ends), name))
    onnx.save(model, path)
    return path


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", type=Path, help="holds a clone of Switchable-Normalization")
    parser.add_argument("--model", choices=list(LAYERS), default="resnetv2sn50")
    parser.add_argument("--statistics", choices=STATISTICS, default="random", help="what the network's layers hold")
    arguments = parser.parse_args()
    logging.disable(logging.WARNING)
    sys.path.insert(0, str(arguments.folder / "Switchable-Normalization" / "imagenet"))
    model, x = network(getattr(importlib.import_module("models"), arguments.model), arguments.statistics)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        direct, fused = folder / "direct.onnx", folder / "fused.onnx"
        export(model, {"x": torch.zeros(1, 3, 224, 224)}, direct)
        write(model, Way(False, 18), folder / "torch.onnx")
        fuse(folder / "torch.onnx", fused)
        with torch.no_grad():
            exact = copy.deepcopy(model).double()(torch.from_numpy(x).double()).numpy()
        layers = layers_of(direct)
        results = {path: outputs(path, x) for path in (direct, fused)}
        widened = {path: by_constants(model, layers_of(path), x) for path in (direct, fused)}
        for what, found in (("in float32", results), ("the constants alone", widened)):
            errors = ", ".join(f"{path.stem} {rel_l2(exact, y):.2e} from float64" for path, y in found.items())
            print(f"{what}: {errors}; {rel_l2(found[direct], found[fused]):.2e} apart", flush=True)
        names = list(layers)
        for what, some in (("first layer", names[:1]), ("last layer", names[-1:]), ("all layers", names)):
            y = outputs(moved(direct, some, folder / "moved.onnx"), x)
            print(
                f"one unit in the last place, {what}: {rel_l2(results[direct], y):.2e} from the direct export, "
                f"{rel_l2(exact, y):.2e} from float64",
                flush=True,
            )


if __name__ == "__main__":
    main()

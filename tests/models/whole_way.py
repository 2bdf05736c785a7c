"""One model through export, ONNX Runtime by the function and by the native operator, and fuse of torch's own export."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import torch
from torch import nn

from sn_deploy.capture.inputs import DynamicAxes
from sn_deploy.fuse import fuse
from sn_deploy.onnx_export import export
from tests.tolerances import TOLERANCES
from tools.rows.measure import Array, Sample, export_by_torch, onnxruntime_outputs, relative_l2, torch_outputs

Outputs = Sequence[Sequence[Array]]


def through_everything(
    model: nn.Module,
    samples: Sequence[Sample],
    folder: Path,
    dynamic: DynamicAxes,
    *,
    layers: int,
    exporter: Literal["dynamo", "torchscript"] | None = "torchscript",
) -> tuple[Outputs, dict[str, Outputs]]:
    """Asserts that all agree with PyTorch in float64, and that no layer is lost on the way.

    Args:
        model: in evaluation mode, with the look of a trained one.
        samples: batches; the first is exported with, the others have other sizes along the dynamic axes.
        layers: how many SwitchNorm nodes there must be.
        exporter: which of torch's exporters writes what is fused (the older one is the faster); None for neither.

    Returns:
        The outputs of PyTorch in float64, and those of each way.
    """
    expected = torch_outputs(copy.deepcopy(model).double(), samples)
    example = {name: torch.from_numpy(value[:1]) for name, value in samples[0].items()}
    report = export(model, {"": tuple(example.values())}, folder / "exported.onnx", dynamic=dynamic)
    assert sum(report.forms.values()) == layers
    found = {
        "function": onnxruntime_outputs(folder / "exported.onnx", samples, native=False),
        "native": onnxruntime_outputs(folder / "exported.onnx", samples, native=True),
    }
    if exporter is not None:
        export_by_torch(model, example, folder / "naive.onnx", dynamic, exporter)
        fused = fuse(folder / "naive.onnx", folder / "fused.onnx", strict=True)
        assert len(fused.layers) == layers
        found["fused"] = onnxruntime_outputs(folder / "fused.onnx", samples, native=False)
    for way, outputs in found.items():
        assert relative_l2(expected, outputs) <= TOLERANCES["float32"].rel_l2, way
    return expected, found

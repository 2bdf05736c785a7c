"""What half precision, OpenVINO and the size of a batch do to a model; for the README."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from sn_deploy.onnx_export import export
from tools.rows.measure import Sample, onnxruntime_outputs, relative_l2, torch_outputs
from tools.rows.row import Figures, Place

Array = np.ndarray[Any, Any]


def precisions(model: torch.nn.Module, x: Array, place: Place) -> Figures:
    """Relative L2 to PyTorch in float64: ``ort_fp16``, ``torch_fp16``, ``openvino``; and ``batch_dependence``.

    The last is the largest change of an output when its image runs alone and in the batch, in ONNX Runtime.
    """
    files = {name: place.scratch / f"precision_{name}.onnx" for name in ("fp32", "fp16", "inline")}
    example = torch.from_numpy(x[:1])
    export(model, example, files["fp32"], dynamic="batch", trust_statistics=True)
    export(model, example, files["fp16"], dynamic="batch", trust_statistics=True, precision="fp16")
    export(model, example, files["inline"], dynamic="batch", trust_statistics=True, inline=True)
    batch, alone = [{"x": x}], [{"x": x[i : i + 1]} for i in range(len(x))]
    half = [{"x": x.astype(np.float16)}]
    expected = torch_outputs(copy.deepcopy(model).double(), batch)
    together, apart = (onnxruntime_outputs(files["fp32"], each, native=False) for each in (batch, alone))
    openvino = openvino_outputs(files["inline"], batch)
    return {
        "ort_fp16": relative_l2(expected, onnxruntime_outputs(files["fp16"], half, native=False)),
        "torch_fp16": relative_l2(expected, torch_outputs(copy.deepcopy(model).half(), batch)),
        "openvino": None if openvino is None else relative_l2(expected, openvino),
        "batch_dependence": float(np.abs(together[0][0] - np.concatenate([each[0] for each in apart])).max()),
    }


def openvino_outputs(path: Path, samples: Sequence[Sample]) -> list[list[Array]] | None:
    """What OpenVINO gives in float32 for each batch of one input; None where it isn't installed."""
    try:
        import openvino
    except ImportError:
        return None
    # Its CPU plugin computes in bfloat16 on processors that have it, unless told not to.
    model = openvino.compile_model(openvino.Core().read_model(path), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    return [[model(next(iter(sample.values())))[0].copy()] for sample in samples]

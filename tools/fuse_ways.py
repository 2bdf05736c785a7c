"""The ways in which files with decomposed SN layers come about: exporter, opset, dynamic axes, what ran after it."""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx
import onnxruntime
import torch

# What ran after the export; the first is nothing.
AFTERS = ("", "onnxsim", "ort basic", "ort extended")


@dataclass(frozen=True)
class Way:
    """How a file came about: exporter, opset, dynamic axes, constant folding, and what ran after it."""

    dynamo: bool
    opset: int
    dynamic: tuple[int, ...] = ()
    folding: bool = True
    after: str = ""

    def __str__(self) -> str:
        return f"{self.exported_as}{f' + {self.after}' if self.after else ''}"

    @property
    def exported_as(self) -> str:
        """Before anything ran after it."""
        parts = ["dynamo" if self.dynamo else "TorchScript", str(self.opset)]
        parts += ["dynamic " + ",".join(map(str, self.dynamic))] if self.dynamic else []
        parts += [] if self.folding else ["unfolded"]
        return " ".join(parts)


def ways() -> Iterator[Way]:
    """Every combination that differs."""
    for opset, after in itertools.product((11, 13, 17, 18, 20, 23), AFTERS):
        yield Way(False, opset, after=after)
    for opset in (13, 18):
        yield Way(False, opset, folding=False)
    for opset, after in itertools.product((18, 20, 23), AFTERS):
        yield Way(True, opset, after=after)
    for dynamo, dynamic, after in itertools.product((False, True), ((0,), (0, 2, 3)), AFTERS[:3]):
        yield Way(dynamo, 18, dynamic, after=after)


def write(model: torch.nn.Module, way: Way, path: Path) -> None:
    """torch's own export."""
    x = torch.zeros(2 if way.dynamic else 1, 3, 224, 224)
    options: dict[str, Any] = {"external_data": False} if way.dynamo else {"do_constant_folding": way.folding}
    if way.dynamic and way.dynamo:
        options["dynamic_shapes"] = (dict.fromkeys(way.dynamic, torch.export.Dim.AUTO),)
    elif way.dynamic:
        options["dynamic_axes"] = {"x": {axis: f"axis{axis}" for axis in way.dynamic}}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            model, (x,), path, dynamo=way.dynamo, opset_version=way.opset, input_names=["x"], verbose=False, **options
        )


def optimise(source: Path, after: str, path: Path) -> Path | None:
    """What ran after the export; None where it isn't installed."""
    if not after:
        return source
    if after == "onnxsim":
        try:
            import onnxsim
        except ImportError:
            return None
        simplified, _ = onnxsim.simplify(onnx.load(source))
        onnx.save(simplified, path)
        return path
    options = onnxruntime.SessionOptions()
    level = after.split()[1].upper()
    options.graph_optimization_level = getattr(onnxruntime.GraphOptimizationLevel, f"ORT_ENABLE_{level}")
    options.optimized_model_filepath = str(path)
    options.log_severity_level = 4
    onnxruntime.InferenceSession(str(source), options, providers=["CPUExecutionProvider"])
    return path

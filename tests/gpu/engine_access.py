"""TensorRT as the tests of this folder have it: the builder, the plugin's library, and arrays in and out."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import pytest
import torch

from sn_deploy.runtime.native import find_library
from tests.cases import DTYPES
from tests.gpu.device import built

if TYPE_CHECKING:
    from types import ModuleType

    from tests.gpu.engines import Engine

Arrays = dict[str, np.ndarray]


@dataclass(frozen=True)
class TensorRT:
    """What the tests build and run with, and the plugin's library."""

    api: ModuleType  # tests.gpu.engines
    trt: ModuleType
    library: Path

    def engine(self, model: onnx.ModelProto, **recipe: Any) -> Engine:
        """Built and read back."""
        made: Engine = self.api.Engine(self.api.build(model, self.api.Recipe(**recipe)).plan)
        return made

    def run(self, engine: Engine, inputs: Arrays) -> Arrays:
        """One run, from and to arrays."""
        outputs = engine.run({name: tensor_from_array(array).cuda() for name, array in inputs.items()})
        return {name: array_from_tensor(tensor) for name, tensor in outputs.items()}


def open_tensorrt() -> TensorRT:
    """TensorRT with the plugin registered; skips, with the reason, where engines can't be built."""
    trt = pytest.importorskip("tensorrt", reason="TensorRT's Python module is not installed")
    from tests.gpu import engines

    name = f"libsn_deploy_trt{engines.MAJOR}.so"
    library = built(f"tensorrt/{name}") or find_library(name)
    if library is None:
        pytest.skip(f"{name} was not found: set SN_PLUGIN_BUILD, or build with SN_WITH_TENSORRT=ON")
    try:
        engines.need_builder()
    except engines.EngineError as error:
        pytest.skip(str(error))
    engines.load_plugin(library)
    return TensorRT(engines, trt, library)


def tensor_from_array(array: np.ndarray) -> torch.Tensor:
    if array.dtype == DTYPES["bfloat16"]:
        return torch.from_numpy(array.view(np.int16)).view(torch.bfloat16)
    return torch.from_numpy(array)


def array_from_tensor(tensor: torch.Tensor) -> np.ndarray:
    if tensor.dtype == torch.bfloat16:
        return tensor.cpu().view(torch.int16).numpy().view(DTYPES["bfloat16"])
    return tensor.cpu().numpy()

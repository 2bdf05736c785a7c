"""ResNet-50 with SN as each CPU runtime can run it.

In two steps, so that a process of its own can hold just one of them: `write_models` makes the files, `open_backend`
opens one.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

# Idle OpenMP threads would spin into the next one's turn; read when torch is imported.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import numpy as np
import onnx
import torch
from function_body import OPSET, look_trained_, publish_, torch_export
from native_op import FLOOR, with_folded_norms

import sn_deploy
from sn_deploy.models import resnetv1sn50
from sn_deploy.optimise import optimise
from sn_deploy.runtime.ort import OrtSession

EXTENT: Final = 224
INPUT: Final = "x"

OPTIMISED: Final = "custom op on blocks, sn-deploy optimise"
FUSED: Final = "custom op, fused, sn-deploy export"
EAGER: Final = "torch eager"


@dataclass(frozen=True)
class Runner:
    """Gives the logits of {INPUT: (N, 3, EXTENT, EXTENT)}."""

    call: Callable[[np.ndarray], np.ndarray]

    def run(self, inputs: Mapping[str, np.ndarray]) -> np.ndarray:
        """One call."""
        return self.call(inputs[INPUT])


@dataclass(frozen=True)
class Backend:
    """How one is opened.

    Attributes:
        file: of `write_models`, without its suffix; empty where there is none.
        open: gets the file's path and the number of threads.
        library: that runs it.
    """

    file: str
    open: Callable[[Path, int], Callable[[np.ndarray], np.ndarray]]
    library: str


def with_operators(path: Path, threads: int) -> Callable[[np.ndarray], np.ndarray]:
    """ONNX Runtime with the project's custom operators."""
    return _onnxruntime(path, threads, native=True)


def stock(path: Path, threads: int) -> Callable[[np.ndarray], np.ndarray]:
    """ONNX Runtime as it is."""
    return _onnxruntime(path, threads, native=False)


def _onnxruntime(path: Path, threads: int, *, native: bool) -> Callable[[np.ndarray], np.ndarray]:
    session = OrtSession(path, threads=threads, native=native, spinning=False)
    name = session.inputs[0].name
    return lambda x: next(iter(session.run({name: x}).values()))


def openvino(path: Path, threads: int) -> Callable[[np.ndarray], np.ndarray]:
    """OpenVINO, in float32 as all others."""
    import openvino as ov

    settings = {
        "INFERENCE_NUM_THREADS": threads,
        "NUM_STREAMS": 1,
        "INFERENCE_PRECISION_HINT": "f32",
        "PERFORMANCE_HINT": "LATENCY",
    }
    compiled = ov.Core().compile_model(str(path), "CPU", settings)
    return lambda x: np.array(compiled([x])[0])


def eager(path: Path, threads: int) -> Callable[[np.ndarray], np.ndarray]:
    """The published steps in PyTorch."""
    return _torch(publish_(trained_net()), threads)


def compiled(path: Path, threads: int) -> Callable[[np.ndarray], np.ndarray]:
    """The published steps through torch.compile."""
    return _torch(torch.compile(publish_(trained_net())), threads)


def _torch(model: Callable[[torch.Tensor], torch.Tensor], threads: int) -> Callable[[np.ndarray], np.ndarray]:
    torch.set_num_threads(threads)

    def call(x: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            return model(torch.from_numpy(x)).numpy()

    return call


BACKENDS: Final[Mapping[str, Backend]] = {
    FLOOR: Backend("floor", stock, "onnxruntime"),
    OPTIMISED: Backend("optimised", with_operators, "onnxruntime"),
    FUSED: Backend("exported", with_operators, "onnxruntime"),
    "custom op, not fused": Backend("unfused", with_operators, "onnxruntime"),
    "function body, fused": Backend("exported", stock, "onnxruntime"),
    "function body, not fused": Backend("unfused", stock, "onnxruntime"),
    "torch's export of the published formula": Backend("published", stock, "onnxruntime"),
    "OpenVINO on the inlined file": Backend("inlined", openvino, "openvino"),
    "OpenVINO on torch's export": Backend("published", openvino, "openvino"),
    EAGER: Backend("", eager, "torch"),
    "torch.compile": Backend("", compiled, "torch._inductor.compile_fx"),
}


def open_backend(name: str, folder: Path, threads: int) -> Runner:
    """One of `BACKENDS`, on the files in ``folder``."""
    backend = BACKENDS[name]
    return Runner(backend.open(folder / f"{backend.file}.onnx", threads))


def trained_net() -> torch.nn.Module:
    """The same net each time, as if it had been trained."""
    torch.manual_seed(0)
    return look_trained_(resnetv1sn50())


def images(batch: int) -> np.ndarray:
    """The input."""
    return np.random.default_rng(0).standard_normal((batch, 3, EXTENT, EXTENT), dtype=np.float32)


def write_models(folder: Path, batch: int) -> None:
    """Writes every file that `BACKENDS` names, for one batch size."""
    model, x = trained_net(), torch.from_numpy(images(batch))
    settings: dict[str, Any] = {"opset": OPSET}
    sn_deploy.export(model, x, folder / "exported.onnx", **settings)
    sn_deploy.export(model, x, folder / "unfused.onnx", fuse=False, **settings)
    sn_deploy.export(model, x, folder / "inlined.onnx", inline=True, **settings)
    onnx.save(with_folded_norms(onnx.load(folder / "unfused.onnx")), folder / "floor.onnx")
    optimise(folder / "exported.onnx", folder / "optimised.onnx", target="ort-cpu")
    (folder / "published.onnx").write_bytes(torch_export(publish_(model), x))

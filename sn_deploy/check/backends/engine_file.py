"""A TensorRT engine as a runner."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sn_deploy.compare.tolerances import TOLERANCES
from sn_deploy.runtime.tensors import Array
from sn_deploy.runtime.trt import Engine
from sn_deploy.runtime.trt.access import Access
from sn_deploy.runtime.trt.library import tensorrt


class EngineRunner:
    """An engine and one session of it.

    Args:
        file: the engine; what it was built of comes from its sidecar.
        cuda_graphs: launch it as CUDA graphs.
        access: what it may be loaded with.

    Raises:
        SnDeployError: it can't be loaded here.
    """

    def __init__(self, file: Path, *, cuda_graphs: bool, access: Access) -> None:
        self._engine = Engine(file, **vars(access))
        self._session = self._engine.session(cuda_graphs=cuda_graphs)
        self.inputs, self.outputs = self._engine.inputs, self._engine.outputs
        self.settings = {"cuda_graphs": self._session.cuda_graphs, **_settings(self._engine)}

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """See `Session.run`."""
        return self._session.run(inputs)

    def device_time_ms(self, inputs: Mapping[str, Array]) -> float:
        """See `Session.device_time_ms`."""
        return self._session.device_time_ms(inputs)

    def layer_times_ms(self, inputs: Mapping[str, Array]) -> dict[str, float]:
        """See `Engine.layer_times_ms`."""
        return self._engine.layer_times_ms(inputs)

    def close(self) -> None:
        """Frees the engine."""
        self._engine.close()


def tensorrt_version() -> str:
    """Of the installed one."""
    return str(tensorrt().__version__)


def _settings(engine: Engine) -> dict[str, Any]:
    """What the result and the speed depend on."""
    sidecar = engine.sidecar
    if sidecar is None:
        # The coarser of what goes in and out; inside it may be anything.
        known = [str(info.dtype) for info in (*engine.inputs, *engine.outputs) if str(info.dtype) in TOLERANCES]
        return {"precision": max(known, key=lambda name: TOLERANCES[name].roundoff, default="float32")}
    return {
        # What float32 may be computed in is what its tolerance has to be.
        "precision": "tf32" if sidecar.tf32 and sidecar.precision == "float32" else sidecar.precision,
        "tf32": sidecar.tf32,
        "plugin": sidecar.plugin["use"],
        "plugin_sha256": sidecar.plugin.get("sha256"),
        "onnx_sha256": sidecar.onnx.get("sha256"),
    }

"""What TensorRT's inspector tells of an engine."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from sn_deploy.errors import SnDeployError
from sn_deploy.runtime.trt.library import MESSAGES, logger, need_gpu, tensorrt
from sn_deploy.runtime.trt.plugin import CREATORS


def is_switch_norm(layer: Mapping[str, Any]) -> bool:
    """Whether a layer, as the inspector gives it, is an SN plugin's. A plugin that isn't named is taken for one."""
    names = [str(layer[key]) for key in ("PluginType", "PluginName") if key in layer]
    ours = not names or any(creator in name for creator in CREATORS for name in names)
    return ours and "plugin" in str(layer.get("LayerType", "")).lower()


def layers_of(engine: Any) -> list[dict[str, Any]]:
    """The layers of an ICudaEngine in the order in which they run, as the inspector's JSON has them.

    Raises:
        SnDeployError: TensorRT tells none: not all version-compatible engines can be looked into.
    """
    trt = tensorrt()
    MESSAGES.clear()
    inspector = engine.create_engine_inspector()
    text = "" if inspector is None else inspector.get_engine_information(trt.LayerInformationFormat.JSON)
    try:
        said = json.loads(text)
    except ValueError as error:
        raise SnDeployError(f"TensorRT's inspector tells no layers: {MESSAGES.reason()}", where="the engine") from error
    # With less verbosity than `build` asks for, layers are plain names.
    return [layer if isinstance(layer, dict) else {"Name": str(layer)} for layer in said.get("Layers", [])]


def layers_from_plan(plan: bytes, *, allow_host_code: bool) -> list[dict[str, Any]]:
    """The layers of an engine's bytes; loads the engine.

    Raises:
        SnDeployError: TensorRT can't read it.
    """
    trt = tensorrt()
    need_gpu("reading an engine")
    MESSAGES.clear()
    runtime = trt.Runtime(logger())
    runtime.engine_host_code_allowed = allow_host_code
    engine = runtime.deserialize_cuda_engine(plan)
    if engine is None:
        raise SnDeployError(f"TensorRT {trt.__version__} can't read it: {MESSAGES.reason()}", where="the engine")
    try:
        return layers_of(engine)
    finally:
        del engine  # before its runtime

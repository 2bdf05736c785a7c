"""What TensorRT's inspector tells of an engine."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from sn_deploy.errors import SnDeployError
from sn_deploy.runtime.trt.contexts import MAKING, make_context
from sn_deploy.runtime.trt.library import MESSAGES, need_gpu, tensorrt
from sn_deploy.runtime.trt.plugin import CREATORS
from sn_deploy.runtime.trt.reader import make_runtime, read_plan


def is_switch_norm(layer: Mapping[str, Any]) -> bool:
    """Whether a layer, as the inspector gives it, is an SN plugin's. A plugin that isn't named is taken for one."""
    names = [str(layer[key]) for key in ("PluginType", "PluginName") if key in layer]
    ours = not names or any(creator in name for creator in CREATORS for name in names)
    return ours and "plugin" in str(layer.get("LayerType", "")).lower()


def layers_of(engine: Any) -> list[dict[str, Any]]:
    """The layers of an ICudaEngine in the order in which they run, as the inspector's JSON has them.

    What depends on open axes is told at the shapes that the first profile is made fastest for. Makes a context of the
    engine for that, on the current GPU.

    Raises:
        SnDeployError: TensorRT tells none: not all version-compatible engines can be looked into.
    """
    MESSAGES.clear()
    with MAKING:  # until the context is free again
        said = _told(engine, _context_with_shapes(engine))
    # With less verbosity than `build` asks for, layers are plain names.
    return [layer if isinstance(layer, dict) else {"Name": str(layer)} for layer in said.get("Layers", [])]


def _context_with_shapes(engine: Any) -> Any:
    """Without it the inspector gives open axes as -1, and may give no formats. None where TensorRT makes none."""
    trt = tensorrt()
    try:
        context = make_context(engine, "the engine")
    except SnDeployError:
        return None
    for name in (engine.get_tensor_name(index) for index in range(engine.num_io_tensors)):
        is_input = engine.get_tensor_mode(name) == trt.TensorIOMode.INPUT
        # A profile has values, not shapes, of an input that decides about shapes.
        if is_input and not engine.is_shape_inference_io(name):
            context.set_input_shape(name, tuple(engine.get_tensor_profile_shape(name, 0)[1]))
    return context


def _told(engine: Any, context: Any) -> dict[str, Any]:
    """The inspector goes before the context, which it holds without keeping it."""
    inspector = engine.create_engine_inspector()
    text = ""
    if inspector is not None:
        if context is not None:
            inspector.execution_context = context
        text = inspector.get_engine_information(tensorrt().LayerInformationFormat.JSON)
    try:
        said: dict[str, Any] = json.loads(text)
    except ValueError as error:
        raise SnDeployError(f"TensorRT's inspector tells no layers: {MESSAGES.reason()}", where="the engine") from error
    return said


def layers_from_plan(plan: bytes, *, allow_host_code: bool) -> list[dict[str, Any]]:
    """The layers of an engine's bytes; loads the engine.

    Raises:
        SnDeployError: TensorRT can't read it.
    """
    need_gpu("reading an engine")
    runtime = make_runtime(allow_host_code=allow_host_code)
    engine, _ = read_plan(runtime, plan)
    if engine is None:
        version = tensorrt().__version__
        raise SnDeployError(f"TensorRT {version} can't read it: {MESSAGES.reason()}", where="the engine")
    try:
        return layers_of(engine)
    finally:
        del engine  # before its runtime

"""Takes steps on TensorRT's real plugin registry and prints what came of them as JSON; run by `Release.probe`.

    python probe.py PLUGIN.so '[["load"], ["create", "SwitchNorm", {…fields}]]'

Neither a Builder nor a Runtime is made: both need a GPU, and an unused Runtime takes the process down with it.
"""

from __future__ import annotations

import ctypes
import json
import os
import sys
from typing import Any

import numpy as np
import tensorrt as trt

TYPES = {
    "float32": (np.float32, trt.PluginFieldType.FLOAT32),
    "float64": (np.float64, trt.PluginFieldType.FLOAT64),
    "int32": (np.int32, trt.PluginFieldType.INT32),
}
NAMES = ("SwitchNorm", "SwitchNormRelu", "SwitchNormAddRelu")


def field(name: str, value: Any) -> trt.PluginField:
    """A field from a value, or from (type, list of values)."""
    kind, values = value if isinstance(value, list) else ("int32" if name == "ddof" else "float32", [value])
    dtype, plugin_type = TYPES[kind]
    return trt.PluginField(name, np.array(values, dtype), plugin_type)


def take(registry: Any, library: str, step: list[Any]) -> Any:
    """One step: load, dlopen, unload, names, or create NAME FIELDS."""
    action, *rest = step
    if action == "load":
        handle = registry.load_library(library)
        take.handle = handle  # type: ignore[attr-defined]
        return handle is not None
    if action == "dlopen":
        # As Triton does it.
        ctypes.CDLL(library, mode=os.RTLD_NOW | os.RTLD_LOCAL)
        return True
    if action == "unload":
        registry.deregister_library(take.handle)  # type: ignore[attr-defined]
        return True
    if action == "names":
        found = [registry.get_creator(name, "1", "") for name in NAMES]
        return [one.name for one in found if one is not None]
    name, fields = rest
    creator = registry.get_creator(name, "1", "")
    collection = trt.PluginFieldCollection([field(key, value) for key, value in fields.items()])
    plugin = creator.create_plugin("layer", collection, trt.TensorRTPhase.BUILD)
    return None if plugin is None else name


def main() -> None:
    """Takes the steps of the command line."""
    library, steps = sys.argv[1], json.loads(sys.argv[2])
    trt.init_libnvinfer_plugins(trt.Logger(trt.Logger.ERROR), "")
    registry = trt.get_plugin_registry()
    answers = [take(registry, library, step) for step in steps]
    print(json.dumps({"version": trt.__version__, "answers": answers}))
    sys.stdout.flush()


if __name__ == "__main__":
    main()

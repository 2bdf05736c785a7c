"""torch's table of its operators' ONNX forms, made once a process: two thirds of what exporting a small net takes.

torch.onnx.export makes it anew each time, from the source of 500 functions. Here each call gets a copy: what an export
adds of its own (``custom_translation_table``) is in no other one.
"""

from __future__ import annotations

import copy
import importlib
import sys
from typing import Any


def keep_torchlib() -> None:
    """Has torch's table kept from the first export on, where this torch makes it as we know it."""
    try:
        registry: Any = importlib.import_module("torch.onnx._internal.exporter._registration").ONNXRegistry
        make = registry.from_torchlib
    except (ImportError, AttributeError):
        return
    if hasattr(make, "kept"):
        return
    kept: dict[object, Any] = {}

    def from_torchlib(*args: Any, **kwargs: Any) -> Any:
        # Operators of torchvision are in the table where that has been imported.
        key = (args, tuple(sorted(kwargs.items())), "torchvision" in sys.modules)
        if key not in kept:
            kept[key] = make(*args, **kwargs)
        made = copy.copy(kept[key])
        made.functions = {target: list(metas) for target, metas in kept[key].functions.items()}
        return made

    from_torchlib.kept = kept  # type: ignore[attr-defined]
    from_torchlib.make = make  # type: ignore[attr-defined]
    registry.from_torchlib = staticmethod(from_torchlib)  # torch calls it of an instance, too

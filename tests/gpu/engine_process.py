"""Builds or reads an engine, and runs it, in a process of its own; run by `test_tensorrt.py`.

    python -m tests.gpu.engine_process '{"plugin": …, "by": …, "model": …, "plan": …, "inputs": …, "outputs": …}'

A plugin library stays in a process for good, so what must be seen without one, or with one that came another way, has
to be seen elsewhere. The answer is one line of JSON: the types of the engine's layers, or why there is no engine.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch

from tests.gpu.engines import Engine, EngineError, Recipe, build, load_plugin


def work(request: dict[str, Any]) -> dict[str, Any]:
    """Does what is asked for.

    Raises:
        EngineError: TensorRT refused.
    """
    if request.get("plugin"):
        load_plugin(Path(request["plugin"]), request.get("by", "load_library"))
    plan = Path(request["plan"])
    if request.get("model"):
        embed = Path(request["embed"]) if request.get("embed") else None
        plan.write_bytes(build(onnx.load(request["model"]), Recipe(embed=embed)).plan)
    engine = Engine(plan.read_bytes(), host_code=bool(request.get("host_code")))
    with np.load(request["inputs"]) as arrays:
        inputs = {name: torch.from_numpy(arrays[name]).cuda() for name in arrays.files}
    outputs = engine.run(inputs)
    np.savez(request["outputs"], **{name: tensor.cpu().numpy() for name, tensor in outputs.items()})
    try:
        layers = engine.layers()
    except EngineError:  # not every version-compatible engine can be looked into
        layers = []
    return {"layers": [layer["LayerType"] for layer in layers]}


def main() -> None:
    """Command line."""
    try:
        answer = work(json.loads(sys.argv[1]))
    except EngineError as error:
        answer = {"refused": str(error)}
    print(json.dumps(answer))
    sys.stdout.flush()


if __name__ == "__main__":
    main()

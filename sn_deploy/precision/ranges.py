"""How large what a net computes gets on data: fp16 ends at 65504."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import onnx_ir as ir

from sn_deploy.check.batch import Batch
from sn_deploy.draft_folder import draft_folder
from sn_deploy.graph.inference import infer_shapes
from sn_deploy.graph.portable_file import load_portable
from sn_deploy.runtime.ort import OrtSession

# The largest number of the type.
LARGEST: Final = {"fp16": 65504.0, "bf16": float(np.finfo(np.float32).max)}

_PREFIX: Final = "sn_deploy.largest."


@dataclass(frozen=True)
class Range:
    """The largest absolute value of what one node writes."""

    node: str
    largest: float


def largest_values(source: Path, batches: Iterable[Batch], nodes: Collection[str]) -> list[Range]:
    """The largest absolute value of each node's float outputs over the data, the largest first.

    The maxima are taken within the graph, so that no activation leaves it.

    Args:
        source: the float32 file.
        nodes: names of the nodes to look at.
    """
    model = load_portable(source)
    infer_shapes(model, str(source))
    graph = model.graph
    kept = list(graph.outputs)
    graph.outputs.clear()
    watched: dict[str, str] = {}
    for node in list(graph):
        if (node.name or node.op_type) not in nodes:
            continue
        for value in node.outputs:
            if value.dtype == ir.DataType.FLOAT:
                name = f"{_PREFIX}{len(watched)}"
                watched[name] = node.name or node.op_type
                graph.outputs.append(_largest(graph, node, value, name))
    if not watched:
        graph.outputs.extend(kept)
        return []
    worst = dict.fromkeys(watched.values(), 0.0)
    with draft_folder(None, of=str(source)) as folder:
        path = folder / "ranges.onnx"
        ir.save(model, path, external_data="ranges.data")
        with OrtSession(path, native=False) as session:
            for batch in batches:
                for name, largest in session.run(batch.inputs).items():
                    # NaN is beyond every range.
                    found = float(largest) if np.isfinite(largest) else float("inf")
                    worst[watched[name]] = max(worst[watched[name]], found)
    return sorted((Range(*item) for item in worst.items()), key=lambda one: -one.largest)


def _largest(graph: ir.Graph, node: ir.Node, value: ir.Value, name: str) -> ir.Value:
    size = ir.node("Abs", [value], name=f"{name}.abs")
    largest = ir.node("ReduceMax", [size.outputs[0]], {"keepdims": 0}, name=name)
    result = largest.outputs[0]
    result.name, result.shape, result.type = name, ir.Shape([]), ir.TensorType(ir.DataType.FLOAT)
    graph.insert_after(node, [size, largest])
    return result

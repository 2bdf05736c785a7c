"""New constants of a graph."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir


def new_weight(graph: ir.Graph | ir.Function | None, array: npt.NDArray[Any], name: str) -> ir.Value:
    """An initializer of the graph under ``name``, or that and a number where it is taken."""
    assert isinstance(graph, ir.Graph)
    unique, count = name, 1
    while unique in graph.initializers:
        count += 1
        unique = f"{name}_{count}"
    tensor = ir.tensor(np.asarray(array, order="C"), name=unique)  # ascontiguousarray makes a vector of a number
    value = ir.Value(name=unique, shape=ir.Shape(array.shape), type=ir.TensorType(tensor.dtype), const_value=tensor)
    graph.register_initializer(value)
    return value

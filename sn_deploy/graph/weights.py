"""New constants of a graph."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from sn_deploy.graph.names import unused


def new_weight(graph: ir.Graph | ir.Function | None, array: npt.NDArray[Any], name: str, taken: set[str]) -> ir.Value:
    """An initializer of the graph.

    Args:
        name: of it; that and a number where it is taken.
        taken: `sn_deploy.graph.names.taken_names` of the model; its own is one of them from now on.
    """
    assert isinstance(graph, ir.Graph)
    unique = unused(name, taken)
    tensor = ir.tensor(np.asarray(array, order="C"), name=unique)  # ascontiguousarray makes a vector of a number
    value = ir.Value(name=unique, shape=ir.Shape(array.shape), type=ir.TensorType(tensor.dtype), const_value=tensor)
    graph.register_initializer(value)
    return value

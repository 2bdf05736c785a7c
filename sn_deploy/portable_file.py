"""The portable ONNX file that another is to be made of: opened, and refused where nothing sound can come of it."""

from __future__ import annotations

from pathlib import Path

import onnx_ir as ir

from sn_deploy.errors import SnDeployError
from sn_deploy.graph.layers import check_nodes
from sn_deploy.graph.order import check_order
from sn_deploy.graph.random_nodes import refuse_random
from sn_deploy.onnx_file import read_model


def load_portable(source: Path) -> ir.Model:
    """The model of an ONNX file; weights outside it are read when they are needed.

    Raises:
        SnDeployError: it is no valid ONNX file, imports no standard operators, has nodes out of order or an SN layer
            without its inputs, or is random.
    """
    model, where = read_model(source), str(source)
    if "" not in model.opset_imports:
        raise SnDeployError("imports no standard operators", where=where, expected="an ONNX model of a network")
    check_order(model, where)
    check_nodes(model, where)
    refuse_random(model, where)
    return model

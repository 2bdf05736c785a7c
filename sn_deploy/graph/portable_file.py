"""The portable ONNX file that another is to be made of: opened, and refused where nothing sound can come of it."""

from __future__ import annotations

from pathlib import Path

import onnx_ir as ir

from sn_deploy.errors import SnDeployError
from sn_deploy.graph import op
from sn_deploy.graph.calls import settle_calls
from sn_deploy.graph.inference import check_openable
from sn_deploy.graph.layers import check_nodes
from sn_deploy.graph.order import check_order
from sn_deploy.graph.random_nodes import refuse_random
from sn_deploy.onnx_file import model_of, read_proto
from sn_deploy.onnx_sizes import refuse_sparse


def load_portable(source: Path) -> ir.Model:
    """The model of an ONNX file; weights outside it are read when they are needed.

    Raises:
        SnDeployError: it is no valid ONNX file, imports no standard operators, has nodes out of order, an SN layer
            without its inputs or one inside of a function, is random, or would end the process that opens it.
    """
    proto, where = read_proto(source), str(source)
    refuse_sparse(proto, source)
    check_openable(source, proto)
    settle_calls(proto)
    model = model_of(proto, source)
    if "" not in model.opset_imports:
        raise SnDeployError("imports no standard operators", where=where, expected="an ONNX model of a network")
    check_order(model, where)
    check_nodes(model, where)
    refuse_random(model, where)
    for function in model.functions.values():
        # Functions of ours are written anew, for the layers of the graph alone.
        if function.domain != op.DOMAIN and any(node.domain == op.DOMAIN for node in function.all_nodes()):
            raise SnDeployError(
                f"its function {function.domain}::{function.name} holds an SN layer",
                where=where,
                expected="layers in the graph itself",
                mend="put it in the place of its calls with: sn-deploy fuse",
            )
    return model

"""A small net for changes of precision: three layers of every form, a residual, a head; built without torch."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir

from sn_deploy.graph.layers import write_functions
from tests.optimise.nets import Net

OPSET = 20


def residual_net(
    path: Path, *, channels: int = 16, extents: Sequence[int | str] = (8, 8), change: str = "", factor: float = 1.0
) -> Path:
    """Conv, SN and ReLU twice, the second with a residual; Conv and plain SN; a head. 10 classes.

    Args:
        change: an initializer whose first value is multiplied by ``factor``.
    """
    net = Net(3, extents)
    first = net.norm(net.conv("x", channels), relu=True)
    second = net.norm(net.conv(first, channels), relu=True, residual=first)
    third = net.norm(net.conv(second, 10))
    pooled = net.add("GlobalAveragePool", [third], 10)
    logits = net.add("Flatten", [pooled], 10)
    model = net.model(logits)
    for tensor in model.graph.initializer:
        if tensor.name == change:
            array = onnx.numpy_helper.to_array(tensor).copy()
            array.flat[0] *= factor
            tensor.CopyFrom(onnx.numpy_helper.from_array(array, tensor.name))
    graph = ir.from_proto(model)
    graph.opset_imports[""] = OPSET
    write_functions(graph)
    ir.save(graph, path)
    return path


def embedding_net(path: Path) -> Path:
    """A convolution and a layer, and their means as a unit vector of 16."""
    net = Net(3, (8, 8))
    pooled = net.add("GlobalAveragePool", [net.norm(net.conv("x", 16))], 16)
    flat = net.add("Flatten", [pooled], 16)
    graph = ir.from_proto(net.model(net.add("LpNormalization", [flat], 16, axis=1)))
    graph.opset_imports[""] = OPSET
    write_functions(graph)
    ir.save(graph, path)
    return path


def bounded_net(path: Path, *, op_type: str, bound: float) -> Path:
    """Two convolutions and a layer, with a Clip or a Where between them that reads a bound."""
    net = Net(3, (8, 8))
    first = net.conv("x", 16)
    zero, limit = (net.constant(np.array(value, np.float32)) for value in (0, bound))
    if op_type == "Clip":
        # Its input roi is left out.
        larger = net.add("Resize", [first, "", net.constant(np.array([1, 1, 2, 2], np.float32))], 16)
        bounded = net.add("Clip", [larger, zero, limit], 16)
    else:
        bounded = net.add(
            "Softmax", [net.add("Where", [net.add("Greater", [first, zero], 16), first, limit], 16)], 16, axis=1
        )
    graph = ir.from_proto(net.model(net.conv(net.norm(bounded), 4)))
    graph.opset_imports[""] = OPSET
    write_functions(graph)
    ir.save(graph, path)
    return path


def indices_net(path: Path) -> Path:
    """A convolution and a layer, and what ArgMax and NonMaxSuppression, which is of float32 alone, say of it."""
    net = Net(3, (8, 8))
    y = net.norm(net.conv("x", 4))
    boxes = net.add("Reshape", [y, net.constant(np.array([0, -1, 4]))], 4)
    scores = net.add("Reshape", [y, net.constant(np.array([0, 4, 64]))], 4)
    net.add("ArgMax", [y], 1, axis=1)
    net.add("NonMaxSuppression", [boxes, scores, net.constant(np.array([5]))], 1)
    proto = net.model(y)
    for name, shape in ((proto.graph.node[-2].output[0], ["batch", 1, 8, 8]), (proto.graph.node[-1].output[0], None)):
        proto.graph.output.append(onnx.helper.make_tensor_value_info(name, onnx.TensorProto.INT64, shape))
    graph = ir.from_proto(proto)
    graph.opset_imports[""] = OPSET
    write_functions(graph)
    ir.save(graph, path)
    return path


def parallel_net(path: Path, *, values: Sequence[str] = (), names: Sequence[str] = ()) -> Path:
    """A convolution, and behind it two paths of a convolution each, added.

    Args:
        values, names: of the first nodes' outputs and of the first nodes; the other nodes have no names.
    """
    net = Net(3, (8, 8))
    first = net.conv("x", 16)
    paths = [net.conv(net.add(op_type, [first], 16), 4) for op_type in ("Relu", "Neg")]
    proto = net.model(net.add("Add", paths, 4))
    for node, name in itertools.zip_longest(proto.graph.node, names, fillvalue=""):
        node.name = name
    renamed = dict(zip((node.output[0] for node in proto.graph.node), values, strict=False))
    for node in proto.graph.node:
        node.input[:], node.output[:] = ([renamed.get(name, name) for name in one] for one in (node.input, node.output))
    del proto.graph.value_info[:]
    graph = ir.from_proto(proto)
    graph.opset_imports[""] = OPSET
    ir.save(graph, path)
    return path

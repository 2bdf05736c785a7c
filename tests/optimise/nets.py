"""Small nets of every kind of neighbour that a layer can have, as portable files: built node by node, in no time."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
from onnx import TensorProto, helper, numpy_helper

from sn_deploy.graph.layers import write_functions
from sn_deploy.graph.op import (
    DOMAIN,
    METADATA_LAYER,
    PARAMETERS,
    SWITCH_NORM,
    SWITCH_NORM_ADD_RELU,
    SWITCH_NORM_RELU,
    VERSION,
)

# Newer pools and resizes are unknown to the layout pass of older ONNX Runtimes.
OPSET = 17


class Net:
    """A graph that grows; values are names, and each knows its channels.

    Args:
        channels: of the image ``x``, (N, channels, *extents).
        extents: of the image; a str is a dynamic axis.
    """

    def __init__(self, channels: int, extents: Sequence[int | str] = (16, 16), dtype: int = TensorProto.FLOAT) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: list[onnx.TensorProto] = []
        self.channels = {"x": channels}
        self.dtype = dtype
        self.inputs = [helper.make_tensor_value_info("x", dtype, ["batch", channels, *extents])]
        self._random = np.random.default_rng(0)
        self._count = 0

    def add(self, op_type: str, inputs: Sequence[str], channels: int, **attributes: Any) -> str:
        """Any node with one output."""
        name = self._name(op_type.lower())
        self.nodes.append(helper.make_node(op_type, list(inputs), [name], name=f"node_{name}", **attributes))
        self.channels[name] = channels
        return name

    def constant(self, array: np.ndarray[Any, Any]) -> str:
        """An initializer."""
        name = self._name("constant")
        self.initializers.append(numpy_helper.from_array(array, name))
        return name

    def conv(self, x: str, channels: int, kernel: int = 3, stride: int = 1, groups: int = 1, rank: int = 4) -> str:
        """A convolution that keeps the extents, but for its stride."""
        inputs = self.channels[x] // groups
        shape = (channels, inputs, *[kernel] * (rank - 2))
        deviation = (inputs * kernel ** (rank - 2)) ** -0.5
        weight = self.constant(self._values(shape) * np.float32(deviation))
        bias = self.constant(self._values((channels,)))
        pads = [kernel // 2] * 2 * (rank - 2)
        return self.add("Conv", [x, weight, bias], channels, group=groups, pads=pads, strides=[stride] * (rank - 2))

    def norm(self, x: str, *, relu: bool = False, residual: str | None = None, constant: bool = True) -> str:
        """A layer, and the ReLU and the residual that are fused into it."""
        channels = self.channels[x]
        name = self._name("layer")
        values = {
            "scale": self._values((channels,)) * 0.3 + 1,
            "bias": self._values((channels,)) * 0.2,
            "mean_offset": self._values((channels,)) * 0.1,
            "var_offset": np.abs(self._values((channels,))) * 0.2 + 0.05,
        }
        parameters = [self.constant(values[key].astype(np.float32)) for key in PARAMETERS]
        if not constant:
            self.inputs += [
                helper.make_tensor_value_info(parameter, TensorProto.FLOAT, [channels]) for parameter in parameters[:1]
            ]
        op_type = SWITCH_NORM if not relu else SWITCH_NORM_RELU if residual is None else SWITCH_NORM_ADD_RELU
        weights = {"mean_in": 0.5, "mean_ln": 0.3, "var_in": 0.2, "var_ln": 0.6}
        inputs = [x, *parameters] if residual is None else [x, *parameters, residual]
        node = helper.make_node(
            op_type, inputs, [name], name=name, domain=DOMAIN, ddof=1, plugin_namespace="", **weights
        )
        node.metadata_props.add(key=METADATA_LAYER, value=name)
        self.nodes.append(node)
        self.channels[name] = channels
        return name

    def model(self, *outputs: str) -> onnx.ModelProto:
        """The file, with the functions of its layers."""
        values = [helper.make_tensor_value_info(name, self.dtype, None) for name in outputs]
        graph = helper.make_graph(self.nodes, "net", self.inputs, values, self.initializers)
        proto = helper.make_model(
            graph,
            opset_imports=[helper.make_opsetid("", OPSET), helper.make_opsetid(DOMAIN, VERSION)],
            ir_version=10,
        )
        # Its output's shape is what ONNX gives an elementwise operator's: inference needs no function for that.
        stripped = onnx.ModelProto()
        stripped.CopyFrom(proto)
        for node in [node for node in stripped.graph.node if node.domain == DOMAIN]:
            inputs = [node.input[0]]
            node.ClearField("attribute")
            node.domain, node.op_type = "", "Relu"
            node.input[:] = inputs
        known = onnx.shape_inference.infer_shapes(stripped, strict_mode=True)
        proto.graph.value_info.extend(known.graph.value_info)
        for value, inferred in zip(proto.graph.output, known.graph.output, strict=True):
            value.CopyFrom(inferred)
        model = ir.from_proto(proto)
        write_functions(model)
        result = ir.to_proto(model)
        onnx.checker.check_model(result)
        return result

    def save(self, path: Path, *outputs: str) -> Path:
        """Writes the file."""
        onnx.save(self.model(*outputs), path)
        return path

    def _name(self, prefix: str) -> str:
        self._count += 1
        return f"{prefix}_{self._count}"

    def _values(self, shape: tuple[int, ...]) -> np.ndarray[Any, Any]:
        return self._random.normal(size=shape).astype(np.float32)


def plain_chain(path: Path, channels: Sequence[int] = (16, 32)) -> Path:
    """Convolution, layer and ReLU, one after another."""
    net = Net(3)
    value = "x"
    for count in channels:
        value = net.norm(net.conv(value, count), relu=True)
    return net.save(path, value)

"""Small nets with SwitchNorm nodes, and what they compute in float64."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
from onnx import TensorProto, helper, numpy_helper

from sn_deploy.folded import FoldedSwitchNorm
from sn_deploy.graph import op
from sn_deploy.graph.layers import write_functions
from sn_deploy.runtime.ort import OrtSession

IN, LN, BN = (1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0)
MIXED = (0.5, 0.3, 0.2)
Weights = tuple[float, float, float]


class Net:
    """A graph in the making. Values are names; a layer's float64 meaning is kept beside it."""

    def __init__(self, *, opset: int = 20, dtype: int = TensorProto.FLOAT, seed: int = 0) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: list[onnx.TensorProto] = []
        self.layers: dict[str, FoldedSwitchNorm] = {}
        self.opset, self.dtype = opset, dtype
        self.generator = np.random.default_rng(seed)

    @property
    def numpy(self) -> np.dtype[Any]:
        return helper.tensor_dtype_to_np_dtype(self.dtype)

    def constant(self, name: str, *shape: int, scale: float = 1.0) -> str:
        values = scale * self.generator.normal(size=shape)
        self.initializers.append(numpy_helper.from_array(values.astype(self.numpy), name))
        return name

    def add(self, op_type: str, inputs: Sequence[str], output: str, **attributes: Any) -> str:
        self.nodes.append(helper.make_node(op_type, inputs, [output], name=output, **attributes))
        return output

    def conv(self, x: str, name: str, channels: tuple[int, int], *, bias: bool = False, group: int = 1) -> str:
        source, target = channels
        weights = [self.constant(f"{name}.weight", target, source // group, 3, 3, scale=0.2)]
        weights += [self.constant(f"{name}.bias", target)] if bias else []
        return self.add("Conv", [x, *weights], name, pads=[1, 1, 1, 1], group=group)

    def norm(
        self,
        x: str,
        name: str,
        channels: int,
        mean: Weights,
        var: Weights,
        *,
        op_type: str = op.SWITCH_NORM,
        residual: str | None = None,
        ddof: int = 1,
        **changes: Any,
    ) -> str:
        draw = self.generator
        folded = FoldedSwitchNorm(
            name=name,
            scale=draw.uniform(0.5, 1.5, channels) * draw.choice([-1.0, 1.0], channels),
            bias=draw.normal(size=channels),
            mean_offset=mean[2] * draw.normal(size=channels),
            var_offset=var[2] * draw.uniform(0.5, 2.0, channels) + 1e-5,
            mean_in=mean[0],
            mean_ln=mean[1],
            mean_bn=mean[2],
            var_in=var[0],
            var_ln=var[1],
            var_bn=var[2],
            ddof=ddof,
            **changes,
        ).as_float32()
        names = []
        for parameter, values in op.parameters_from_folded(folded).items():
            names.append(f"{name}.{parameter}")
            self.initializers.append(numpy_helper.from_array(values, names[-1]))
        others = [] if residual is None else [residual]
        node = helper.make_node(
            op_type, [x, *names, *others], [name], name=name, domain=op.DOMAIN, **op.attributes_from_folded(folded)
        )
        for key, value in op.metadata_from_folded(folded).items():
            node.metadata_props.add(key=key, value=value)
        self.nodes.append(node)
        self.layers[name] = folded
        return name

    def save(self, path: Path, shape: Sequence[int | str], outputs: Sequence[str]) -> Path:
        """Writes it, with its functions, as a file of `sn_deploy.export`."""
        graph = helper.make_graph(
            self.nodes,
            "net",
            [helper.make_tensor_value_info("x", self.dtype, shape)],
            [helper.make_tensor_value_info(name, self.dtype, None) for name in outputs],
            self.initializers,
        )
        opsets = [helper.make_opsetid("", self.opset), helper.make_opsetid(op.DOMAIN, op.VERSION)]
        proto = onnx.shape_inference.infer_shapes(helper.make_model(graph, opset_imports=opsets, ir_version=10))
        for _ in range(8):  # through a layer only once its function is there
            model = ir.from_proto(proto)
            _shapes_of_layers(model)
            write_functions(model)
            proto = onnx.shape_inference.infer_shapes(ir.to_proto(model))
        onnx.save(proto, path)
        return path


def _shapes_of_layers(model: ir.Model) -> None:
    for node in model.graph.all_nodes():
        if node.domain == op.DOMAIN and node.inputs[0] is not None:
            if node.inputs[0].shape is None:
                node.inputs[0].shape = ir.Shape([None] * 4)
                node.inputs[0].type = ir.TensorType(ir.DataType.FLOAT)
            node.outputs[0].shape, node.outputs[0].type = node.inputs[0].shape, node.inputs[0].type


def run(path: Path, x: np.ndarray, *, native: bool = False) -> dict[str, np.ndarray]:
    with OrtSession(path, threads=1, native=native) as session:
        return session.run({"x": x})


def ops(path: Path) -> Counter[str]:
    """Operators of the graph, a layer with its overload."""
    return Counter(
        f"{node.op_type}:{node.overload}" if node.domain == op.DOMAIN else node.op_type
        for node in onnx.load(path).graph.node
    )


def rel_l2(expected: np.ndarray, actual: np.ndarray) -> float:
    difference = actual.astype(np.float64) - expected.astype(np.float64)
    return float(np.linalg.norm(difference) / np.linalg.norm(expected.astype(np.float64)))


def relu(values: np.ndarray) -> np.ndarray:
    return np.maximum(values, 0)


Finish = Callable[[np.ndarray, np.ndarray], np.ndarray]

# Operator -> from the layer's output and the residual to Y.
FINISH: dict[str, Finish] = {
    op.SWITCH_NORM: lambda y, residual: y,
    op.SWITCH_NORM_RELU: lambda y, residual: relu(y),
    op.SWITCH_NORM_ADD_RELU: lambda y, residual: relu(y + residual),
}

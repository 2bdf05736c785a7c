"""Small files at which ONNX 1.23's shape inference ends the process. Run as a program, it has ONNX infer one:

python -m tests.graph.deadly_shapes NAME
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import onnx
from onnx import NodeProto, TensorProto, ValueInfoProto, helper, numpy_helper

_node = helper.make_node
_WEIGHTS: Final[dict[str, Any]] = {
    "kernel": np.zeros((9, 3, 5, 5), np.float32),  # larger than its input, and than what inference is given of weights
    "pads": np.array([0, 0, 0, 0, 0, 0, -5, -5]),
    "zero": np.array([0]),
    "one": np.array([1]),
    "two": np.array([2]),
    "yes": np.array(True),
}


def _info(name: str, shape: Sequence[int | str] | None) -> ValueInfoProto:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)


def _slice(value: str, result: str) -> NodeProto:
    """The first row."""
    return _node("Slice", [value, "zero", "one", "two"], [result])


def _constants() -> list[NodeProto]:
    """What a Slice takes, as nodes."""
    return [
        _node("Constant", [], [name], value=numpy_helper.from_array(_WEIGHTS[name])) for name in ("zero", "one", "two")
    ]


def _model(
    *nodes: NodeProto, size: int = 3, stated: Sequence[ValueInfoProto] = (), functions: Any = (), opset: int = 18
) -> onnx.ModelProto:
    weights = [numpy_helper.from_array(value, name) for name, value in _WEIGHTS.items()]
    inputs, outputs = [_info("x", ("N", 3, size, size))], [_info(nodes[-1].output[0], None)]
    graph = helper.make_graph(list(nodes), "g", inputs, outputs, weights, value_info=list(stated))
    opsets = [helper.make_opsetid("", opset), helper.make_opsetid("ai.onnx.ml", 3), helper.make_opsetid("f", 1)]
    return helper.make_model(graph, opset_imports=opsets, functions=list(functions), ir_version=10)


def a_convolution() -> onnx.ModelProto:
    """Of 5×5 over 3×3: what it makes is of the size -1."""
    return _model(_node("Conv", ["x", "kernel"], ["a"]), _slice("a", "y"))


def an_old_file() -> onnx.ModelProto:
    """Of an opset that is converted before anything else."""
    return _model(_node("Conv", ["x", "kernel"], ["a"]), _slice("a", "y"), opset=10)


def a_pooling() -> onnx.ModelProto:
    return _model(_node("MaxPool", ["x"], ["a"], kernel_shape=[5, 5]), _slice("a", "y"))


def a_pad() -> onnx.ModelProto:
    return _model(_node("Pad", ["x", "pads"], ["a"]), _slice("a", "y"))


def behind_another_slice() -> onnx.ModelProto:
    """The first one is safe, and makes the second one deadly."""
    return _model(_slice("x", "a"), _node("Conv", ["a", "kernel"], ["b"]), _slice("b", "y"), size=8)


def with_a_name_stated() -> onnx.ModelProto:
    """For the size, which inference puts in its place."""
    nodes = (_node("Conv", ["x", "kernel"], ["a"]), _slice("a", "y"))
    return _model(*nodes, stated=[_info("a", ("N", 9, "h", "w"))])


def in_a_branch() -> onnx.ModelProto:
    branch = helper.make_graph([*_constants(), _slice("a", "b")], "branch", [], [_info("b", None)])
    choice = _node("If", ["yes"], ["y"], then_branch=branch, else_branch=branch)
    return _model(_node("Conv", ["x", "kernel"], ["a"]), choice)


def in_a_function() -> onnx.ModelProto:
    opsets = [helper.make_opsetid("", 18)]
    function = helper.make_function("f", "Cut", ["t"], ["u"], [*_constants(), _slice("t", "u")], opsets)
    return _model(_node("Conv", ["x", "kernel"], ["a"]), _node("Cut", ["a"], ["y"], domain="f"), functions=[function])


def a_split() -> onnx.ModelProto:
    """Into fewer parts than it has outputs."""
    return _model(_node("Split", ["x"], ["a", "y"], axis=1, num_outputs=1))


def a_gather() -> onnx.ModelProto:
    return _model(_node("GatherND", ["x", "zero"], ["y"], batch_dims=-3))


def a_normalization() -> onnx.ModelProto:
    """Over an axis that isn't one in 32 bits."""
    return _model(_node("LayerNormalization", ["x", "zero"], ["a", "b", "y"], axis=2**31))


def an_operator_without_a_type() -> onnx.ModelProto:
    return _model(_node("EyeLike", [""], ["y"], dtype=1))


def an_operator_of_another_domain() -> onnx.ModelProto:
    return _model(_node("DictVectorizer", ["nothing"], ["y"], domain="ai.onnx.ml", int64_vocabulary=[1]))


DEADLY: Final[dict[str, Callable[[], onnx.ModelProto]]] = {
    make.__name__: make
    for make in (
        a_convolution, an_old_file, a_pooling, a_pad, behind_another_slice, with_a_name_stated, in_a_branch,
        in_a_function, a_split, a_gather, a_normalization, an_operator_without_a_type, an_operator_of_another_domain,
    )
}  # fmt: skip


def write(name: str, path: Path) -> Path:
    """Writes one of `DEADLY`."""
    onnx.save(DEADLY[name](), path)
    return path


if __name__ == "__main__":
    with contextlib.suppress(ImportError):
        import resource

        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    onnx.shape_inference.infer_shapes(DEADLY[sys.argv[1]]())

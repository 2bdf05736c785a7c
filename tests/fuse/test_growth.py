"""A file of a kilobyte makes `fuse` take no gigabytes, whatever its nodes would make of its input."""

from __future__ import annotations

import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import helper
from onnx.reference import ReferenceEvaluator

from sn_deploy.errors import SnDeployError
from sn_deploy.fuse import fuse
from sn_deploy.fuse.facts import GraphFacts
from sn_deploy.fuse.growth import most_made
from sn_deploy.fuse.sizes import Sizes
from tests.fuse.graphs import Graph, Layer, published

X = np.arange(2 * 3 * 4, dtype=np.float64).reshape(2, 3, 4)
SHAPE = (1000, 6, 12, 3)


def int64(*numbers: int) -> np.ndarray:
    return np.array(numbers, dtype=np.int64)


@pytest.mark.parametrize(
    ("op_type", "inputs", "attributes"),
    [
        ("Add", [X, np.ones((5, 1, 1, 4))], {}),
        ("Where", [X > 3, np.ones((7, 1, 1, 1)), X], {}),
        ("Expand", [X, int64(5, 1, 3, 4)], {}),
        ("Expand", [np.ones(1), int64(3, 0)], {}),
        ("ConstantOfShape", [int64(20, 30)], {}),
        ("Tile", [X, int64(3, 1, 5)], {}),
        ("Gather", [X, np.zeros((9, 8), dtype=np.int64)], {"axis": -1}),
        ("Gather", [X, np.zeros((9, 8), dtype=np.int64)], {}),
        ("Concat", [X, X, X], {"axis": 1}),
        ("Pad", [X, int64(1, 0, 9, 0, 2, 3)], {}),
        ("Range", [np.float64(3), np.float64(20), np.float64(0.5)], {}),
        ("Range", [np.float64(20), np.float64(3), np.float64(-2)], {}),
        ("MatMul", [X, np.ones((4, 50))], {}),
        ("ReduceMean", [X], {"axes": [1]}),
        ("Reshape", [X, int64(4, -1)], {}),
        ("Split", [X], {"axis": 2}),
    ],
)
def test_no_output_is_larger_than_what_was_told(
    op_type: str, inputs: list[np.ndarray], attributes: dict[str, Any]
) -> None:
    names = [f"i{index}" for index in range(len(inputs))]
    outputs = ["a", "b"] if op_type == "Split" else ["a"]
    node = helper.make_node(op_type, names, outputs, **attributes)
    made = ReferenceEvaluator(node, opsets={"": 17}).run(outputs, dict(zip(names, inputs, strict=True)))
    told = most_made(node, inputs)
    assert max(np.asarray(array).size for array in made) <= told
    # Nor is told so much that a layer could be refused for it: only products and shifted places are counted roughly.
    assert told <= 4 * max(max(np.asarray(array).size for array in made), X.size) or op_type in ("MatMul", "Pad")


def gathers(graph: Graph) -> str:
    """What is looked up by a tensor as long as the batch has three axes more: beside x it becomes N times as large."""
    found = graph("Gather", "x", graph("Cast", graph.mean("x", (1, 2, 3)), to=onnx.TensorProto.INT64))
    squares = graph.reduce("ReduceMean", graph("Mul", found, "x"), (3, 4, 5), keepdims=0)
    return graph.mean(squares, (3,))


def expands(graph: Graph) -> str:
    """The same of many copies."""
    found = graph.reduce(
        "ReduceMean", graph("Expand", "x", graph.constant(int64(100_000, 1, 1, 1, 1))), (0,), keepdims=0
    )
    return graph.mean(graph("Mul", found, found), (1, 2, 3))


@pytest.mark.parametrize("grown", [gathers, expands])
def test_a_layer_that_grows_is_refused_before_it_does(grown: Any, tmp_path: Path) -> None:
    graph, layer = Graph(), Layer()
    mean = graph.mean("x", (2, 3))
    both = graph("Add", graph.var("x", (2, 3), mean), grown(graph))
    std = graph("Sqrt", graph("Add", both, graph.constant([1e-5])))
    scale = graph.constant(np.ones((1, layer.channels, 1, 1)))
    y = graph("Mul", graph("Div", graph("Sub", "x", mean), std), scale)
    onnx.save(graph.model(y, SHAPE), tmp_path / "in.onnx")
    tracemalloc.start()
    try:
        with pytest.raises(SnDeployError, match="would make"):
            fuse(tmp_path / "in.onnx", tmp_path / "out.onnx")
        assert tracemalloc.get_traced_memory()[1] < 200e6
    finally:
        tracemalloc.stop()


def test_memory_for_each_number_of_a_large_input(tmp_path: Path) -> None:
    """One image of 64 x 160 x 160: what the region makes of six inputs would be 336 bytes for each number."""
    graph, layer, shape = Graph(), Layer(channels=64), (1, 64, 160, 160)
    onnx.save(graph.model(published(graph, "x", layer, shape), shape), tmp_path / "in.onnx")
    tracemalloc.start()
    try:
        assert fuse(tmp_path / "in.onnx", tmp_path / "out.onnx", run=False).layers
        assert tracemalloc.get_traced_memory()[1] < 150 * np.prod(shape)
    finally:
        tracemalloc.stop()


def test_sizes_that_grow_stay_unknown() -> None:
    graph = Graph()
    ones = graph("ConstantOfShape", graph("Shape", "x"))
    y = graph("Sub", "x", ones)
    model = ir.from_proto(graph.model(y, ("n", 1 << 14, 1 << 13)))
    tracemalloc.start()
    try:
        Sizes(model, GraphFacts(model.graph), 0)
        assert tracemalloc.get_traced_memory()[1] < 100e6
    finally:
        tracemalloc.stop()

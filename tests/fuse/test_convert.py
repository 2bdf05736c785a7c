"""Old files compute the same in the opset that they are brought to, or are refused."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper

from sn_deploy.errors import CheckFailedError, SnDeployError
from sn_deploy.fuse import convert as module
from sn_deploy.fuse import fuse
from sn_deploy.fuse.convert import converted
from sn_deploy.graph.function_body import MIN_OPSET
from tests.fuse.graphs import SHAPE, Graph, Layer, published

X = np.random.default_rng(1).normal(size=SHAPE).astype(np.float32)
UP, UP_BY_HALF = (1.0, 1.0, 2.0, 3.0), (1.0, 1.0, 1.5, 2.5)
DOWN, DOWN_BY_THIRD = (1.0, 1.0, 0.5, 0.25), (1.0, 1.0, 0.7, 1.0)


def scaled(g: Graph, op_type: str, mode: str, scales: tuple[float, ...]) -> str:
    """Upsample of opset 9, or Resize of 10."""
    return str(g(op_type, "x", g.constant(np.array(scales)), mode=mode))


def model_of(opset: int) -> onnx.ModelProto:
    """Operators that have changed their meaning since, each an output."""
    g = Graph(opset=opset)
    made = [g("Softmax", "x", axis=axis) for axis in (1, 2, 3)] + [g("LogSoftmax", "x"), g("Dropout", "x")]
    if opset < 11:
        made += [
            g("Pad", "x", mode=mode, pads=[0, 0, 1, 2, 0, 0, 1, 0], value=2.5)
            for mode in ("constant", "reflect", "edge")
        ]
        made += [g("Clip", "x", min=-0.5, max=0.3), g("Clip", "x", max=0.3)]
    if opset == 7:
        made += [g("Upsample", "x", mode=mode, scales=UP_BY_HALF) for mode in ("nearest", "linear")]
    if opset == 9:
        made += [scaled(g, "Upsample", mode, scales) for mode in ("nearest", "linear") for scales in (UP, UP_BY_HALF)]
        branch = helper.make_graph(
            [helper.make_node("Upsample", ["x", g.constant(np.array(UP))], ["up"], mode="linear")],
            "branch",
            [],
            [helper.make_tensor_value_info("up", TensorProto.FLOAT, None)],
        )
        other = onnx.GraphProto.FromString(branch.SerializeToString())
        other.node[0].output[0] = other.output[0].name = "up_too"
        made.append(g("If", g.constant(np.array(True)), then_branch=branch, else_branch=other))
    if opset == 10:
        each = (UP, UP_BY_HALF, DOWN, DOWN_BY_THIRD)
        made += [scaled(g, "Resize", mode, scales) for mode in ("nearest", "linear") for scales in each]
    if opset >= 11:
        roi, scales = g.constant(np.zeros(0)), g.constant(np.array(UP_BY_HALF))
        made.append(g("Resize", "x", roi, scales, mode="linear", coordinate_transformation_mode="align_corners"))
    if opset < 13:
        axes: dict[str, Any] = {"axes": [1, 2], "keepdims": 0}
        made += [g("ReduceSum", "x", **axes), g("Unsqueeze", "x", axes=[1]), g("Split", "x", axis=1, split=[6])]
    weights = [numpy_helper.from_array(array, name) for name, array in g.weights.items()]
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        g.nodes, "g", [value("x", TensorProto.FLOAT, SHAPE)], [value(y, TensorProto.FLOAT, None) for y in made], weights
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=4)


def run(model: onnx.ModelProto, inputs: Mapping[str, np.ndarray] = {"x": X}) -> list[np.ndarray]:
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return list(session.run(None, dict(inputs)))


def differing(before: list[np.ndarray], after: list[np.ndarray]) -> list[int]:
    pairs = enumerate(zip(before, after, strict=True))
    return [at for at, (a, b) in pairs if a.shape != b.shape or not np.allclose(a, b, rtol=1e-5, atol=1e-6)]


@pytest.mark.parametrize("opset", [7, 9, 10, 12])
def test_old_operators_keep_their_meaning(opset: int) -> None:
    model = model_of(opset)
    before = run(model)
    after = converted(model, opset, Path("in.onnx"))
    assert after.opset_import[0].version == MIN_OPSET
    assert not differing(before, run(after))


def test_a_meaning_that_is_lost_shows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_keep_meaning", lambda *arguments: None)
    model = model_of(10)
    assert len(differing(run(model), run(converted(model, 10, Path("in.onnx"))))) >= 5


def test_branches_have_constants_of_their_own(tmp_path: Path) -> None:
    def branch(factor: float) -> onnx.GraphProto:
        scales = numpy_helper.from_array(np.array([1, 1, factor, factor], np.float32), "scales")
        nodes = [helper.make_node("Resize", ["x", "scales"], ["sized"], mode="nearest")]
        nodes.append(helper.make_node("GlobalAveragePool", ["sized"], ["mean"]))
        value = helper.make_tensor_value_info("mean", TensorProto.FLOAT, None)
        return helper.make_graph(nodes, "branch", [], [value], [scales])

    choice = helper.make_node("If", ["c"], ["y"], then_branch=branch(0.5), else_branch=branch(2.0))
    value = helper.make_tensor_value_info
    inputs = [value("x", TensorProto.FLOAT, SHAPE), value("c", TensorProto.BOOL, [])]
    graph = helper.make_graph([choice], "g", inputs, [value("y", TensorProto.FLOAT, None)])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 10)], ir_version=4)
    feeds = [{"x": X, "c": np.array(taken)} for taken in (True, False)]
    before = [each for feed in feeds for each in run(model, feed)]
    after = converted(model, 10, tmp_path / "in.onnx")
    assert not differing(before, [each for feed in feeds for each in run(after, feed)])


def with_layer(opset: int, *nodes: onnx.NodeProto) -> onnx.ModelProto:
    """A layer, and nodes from its output ``y`` to ``out``."""
    g = Graph(opset=opset)
    y = published(g, "x", Layer(), SHAPE, softmax=True)
    g.nodes += [helper.make_node("Identity", [y], ["y"]), *nodes]
    g.weights["scales"] = np.array([1.0, 1.0, 0.5, 2.0], np.float32)
    model = g.model("y")
    model.graph.output[0].CopyFrom(helper.make_tensor_value_info("out", TensorProto.FLOAT, None))
    return model


@pytest.mark.parametrize(
    ("opset", "node", "message"),
    [
        (12, helper.make_node("Hardmax", ["y"], ["out"], axis=1), "changes what its Hardmax computes"),
        (10, helper.make_node("Resize", ["y", "scales"], ["out"]), "shrinks one axis and enlarges another"),
    ],
)
def test_what_cannot_keep_its_meaning_is_refused(
    opset: int, node: onnx.NodeProto, message: str, tmp_path: Path
) -> None:
    onnx.save(with_layer(opset, node), tmp_path / "in.onnx")
    with pytest.raises(SnDeployError, match=message) as raised:
        fuse(tmp_path / "in.onnx", tmp_path / "out.onnx")
    assert raised.value.mend == "export it with an opset from 15 to 24"
    assert not (tmp_path / "out.onnx").exists()


def _sized_as_an_input(mode: str) -> onnx.ModelProto:
    """A map brought to the size of another, as torch writes `interpolate(y, size=other.shape[2:])`."""
    node = helper.make_node
    shapes = [node("Shape", [name], [f"{name}_shape"]) for name in ("other", "y")]
    floats = [node("Cast", [f"{name}_shape"], [f"{name}_sizes"], to=TensorProto.FLOAT) for name in ("other", "y")]
    ratio = node("Div", ["other_sizes", "y_sizes"], ["ratio"])
    model = with_layer(10, node("Identity", ["y"], ["same"]))
    model.graph.node.extend([*shapes, *floats, ratio, node("Resize", ["y", "ratio"], ["out"], mode=mode)])
    shape = [*SHAPE[:2], "H", "W"]
    model.graph.input.append(helper.make_tensor_value_info("other", TensorProto.FLOAT, shape))
    return model


@pytest.mark.parametrize("size", [(9, 7), (3, 2), (3, 7)])
@pytest.mark.parametrize("mode", ["linear", "nearest"])
def test_scales_that_are_computed(mode: str, size: tuple[int, int], tmp_path: Path) -> None:
    """The nearest is another where they shrink, which no attribute can tell: then nothing is written."""
    onnx.save(_sized_as_an_input(mode), tmp_path / "in.onnx")
    inputs = {"other": np.zeros((*SHAPE[:2], *size), np.float32)}
    if mode == "nearest" and size[0] < SHAPE[2]:
        with pytest.raises(CheckFailedError, match="the fused graph differs from the source by"):
            fuse(tmp_path / "in.onnx", tmp_path / "out.onnx", inputs=inputs)
        assert not (tmp_path / "out.onnx").exists()
    else:
        whole = fuse(tmp_path / "in.onnx", tmp_path / "out.onnx", inputs=inputs).whole
        assert whole.rel_l2 is not None


def test_linear_scales_shrink_one_axis_and_enlarge_another(tmp_path: Path) -> None:
    onnx.save(with_layer(10, helper.make_node("Resize", ["y", "scales"], ["out"], mode="linear")), tmp_path / "in.onnx")
    assert fuse(tmp_path / "in.onnx", tmp_path / "out.onnx").whole.rel_l2 is not None


def test_functions_of_old_files_are_not_lost(tmp_path: Path) -> None:
    model = with_layer(12, helper.make_node("Identity", ["y"], ["out"]))
    model.graph.node[-1].CopyFrom(helper.make_node("Peak", ["y"], ["out"], domain="someone"))
    model.opset_import.append(helper.make_opsetid("someone", 1))
    peak = helper.make_node("Softmax", ["a"], ["b"], axis=1)
    model.functions.append(helper.make_function("someone", "Peak", ["a"], ["b"], [peak], [helper.make_opsetid("", 12)]))
    model.ir_version = 8
    onnx.save(model, tmp_path / "in.onnx")
    assert len(fuse(tmp_path / "in.onnx", tmp_path / "out.onnx").layers) == 1
    assert not differing(run(model), run(onnx.load(tmp_path / "out.onnx")))

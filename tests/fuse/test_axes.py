"""Dynamic axes behind convolutions: one name only for what is one size."""

from __future__ import annotations

import onnx
import onnx_ir as ir
import pytest
from onnx import TensorProto, helper

from sn_deploy.fuse.axes import name_axes


def shapes(*nodes: onnx.NodeProto, kernel: int = 3, **inputs: tuple[object, ...]) -> dict[str, list[object]]:
    """The shapes of what the nodes make from ``x`` (n, 2, h, w), after ONNX's inference and `name_axes`."""
    value = helper.make_tensor_value_info
    inputs = {"x": ("n", 2, "h", "w"), **inputs}
    weights = {"w": (2, 2, kernel, kernel), "one": (2, 2, 1, 1)}
    last = nodes[-1].output[0]
    graph = helper.make_graph(
        list(nodes),
        "g",
        [value(name, TensorProto.FLOAT, shape) for name, shape in {**inputs, **weights}.items()],
        [value(last, TensorProto.FLOAT, None)],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10)
    loaded = ir.from_proto(onnx.shape_inference.infer_shapes(model, data_prop=True))
    name_axes(loaded)
    return {
        made.name or "": [dim if isinstance(dim, int) else dim.value for dim in made.shape or ()]
        for node in loaded.graph
        for made in node.outputs
    }


def conv(x: str, y: str, w: str = "w", **attributes: object) -> onnx.NodeProto:
    return helper.make_node("Conv", [x, w], [y], **attributes)


def test_padding_that_keeps_the_size_keeps_the_name() -> None:
    found = shapes(conv("x", "a", pads=[1] * 4), conv("a", "b", "one"), helper.make_node("Relu", ["b"], ["c"]),
                   helper.make_node("Neg", ["c"], ["d"]))  # fmt: skip
    assert found["a"] == found["b"] == found["c"] == ["n", 2, "h", "w"]
    assert shapes(conv("x", "a", auto_pad="SAME_UPPER"), conv("a", "b"))["a"] == ["n", 2, "h", "w"]
    dilated = shapes(conv("x", "a", pads=[2] * 4, dilations=[2, 2]), conv("a", "b"))
    assert dilated["a"] == ["n", 2, "h", "w"]


def test_the_two_ways_of_a_residual_block_meet() -> None:
    found = shapes(
        conv("x", "main", pads=[1] * 4, strides=[2, 2]),
        conv("main", "more", pads=[1] * 4),
        conv("x", "short", "one", strides=[2, 2]),
        helper.make_node("Add", ["more", "short"], ["sum"]),
    )
    assert found["more"] == found["short"] == ["n", 2, "floor((h-1)/2)+1", "floor((w-1)/2)+1"]


@pytest.mark.parametrize("other", [{"pads": [0] * 4}, {"pads": [1, 1, 0, 0]}, {"pads": [1] * 4, "strides": [2, 2]}])
def test_other_sizes_have_other_names(other: dict[str, object]) -> None:
    found = shapes(conv("x", "a", pads=[1] * 4), conv("x", "b", **other), conv("b", "c"))
    assert found["b"][2] not in ("h", None)


def test_floor_and_ceil_are_not_mixed_up() -> None:
    pool = {"kernel_shape": [3, 3], "strides": [2, 2]}
    found = shapes(
        helper.make_node("MaxPool", ["x"], ["down"], **pool),
        helper.make_node("MaxPool", ["x"], ["up"], ceil_mode=1, **pool),
        conv("up", "c"),
    )
    assert found["down"][2] == "floor((h-3)/2)+1"
    assert found["up"][2] == "ceil((h-3)/2)+1"


def test_axes_of_two_inputs_are_not_taken_for_one() -> None:
    found = shapes(conv("x", "a", "one"), conv("z", "b", "one"), conv("b", "c"), z=("m", 2, "k", "w"))
    assert found["a"] == ["n", 2, "h", "w"]
    assert found["b"] == ["m", 2, "k", "w"]

"""Nets after `optimise`: which layers are on blocks, that nothing is reordered around them, and the same numbers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from sn_deploy.compare.parity import compare
from sn_deploy.graph.op import BLOCKED_DOMAIN, DOMAIN, METADATA_LAYER
from sn_deploy.optimise import OptimiseReport, optimise
from sn_deploy.runtime.ort import OrtSession, version
from tests.optimise.nets import Net
from tests.tolerances import TOLERANCES


@dataclass(frozen=True)
class Expected:
    """Layers on blocks and others, and the reorders that are left."""

    blocked: int
    kept: int = 0
    reorders_in: int = 0
    reorders_out: int = 1


def odd_channels(net: Net) -> tuple[str, ...]:
    x = net.norm(net.conv("x", 20), relu=True)
    x = net.norm(net.conv(x, 37), relu=True)  # read by a convolution of 37 channels, which has no blocks
    return (net.norm(net.conv(x, 12)),)


def three_channels(net: Net) -> tuple[str, ...]:
    return (net.norm(net.norm(net.conv("x", 3), relu=True)),)


def residual_v1(net: Net) -> tuple[str, ...]:
    x = net.norm(net.conv("x", 16), relu=True)
    for channels, stride in ((16, 1), (32, 2)):
        y = net.norm(net.conv(x, channels, stride=stride), relu=True)
        short = x if stride == 1 else net.norm(net.conv(x, channels, kernel=1, stride=stride))
        x = net.norm(net.conv(y, channels), relu=True, residual=short)
    return (x,)


def residual_v2(net: Net) -> tuple[str, ...]:
    """A layer before each convolution, with two readers where the shortcut begins; unfused sums between."""
    x = net.conv("x", 16)
    for channels, stride in ((16, 1), (32, 2)):
        y = net.norm(x, relu=True)
        short = x if stride == 1 else net.conv(y, channels, kernel=1, stride=stride)
        y = net.conv(net.norm(net.conv(y, channels, stride=stride), relu=True), channels)
        x = net.add("Add", [y, short], channels)
    return (net.norm(x, relu=True),)


def relu_not_fused(net: Net) -> tuple[str, ...]:
    """The layer's own output is needed, so its ReLU stays a node."""
    x = net.norm(net.conv("x", 16))
    y = net.add("Relu", [x], 16)
    z = net.add("Sigmoid", [net.norm(net.conv(y, 16))], 16)
    return (net.conv(net.add("Add", [net.add("Mul", [z, x], 16), y], 16), 16),)


def grouped_and_depthwise(net: Net) -> tuple[str, ...]:
    x = net.norm(net.conv("x", 32), relu=True)
    x = net.norm(net.conv(x, 32, groups=32), relu=True)
    x = net.norm(net.conv(x, 64, groups=2), relu=True)
    return (net.norm(net.conv(x, 32, kernel=1)),)


def concatenated(net: Net) -> tuple[str, ...]:
    x = net.norm(net.conv("x", 32), relu=True)
    y = net.norm(net.conv(x, 16), relu=True)
    both = net.add("Concat", [x, y], 48, axis=1)
    return (net.norm(net.conv(both, 16)),)


def concatenated_ragged(net: Net) -> tuple[str, ...]:
    """A concatenation of 20 and 12 channels is none of blocks."""
    x = net.norm(net.conv("x", 20), relu=True)
    y = net.norm(net.conv(x, 12), relu=True)
    both = net.add("Concat", [x, y], 32, axis=1)
    return (net.norm(net.conv(both, 16)),)


def upsampled(net: Net) -> tuple[str, ...]:
    scales = net.constant(np.array([1, 1, 2, 2], np.float32))
    x = net.norm(net.conv("x", 16, stride=2), relu=True)
    attributes = {"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
    big = net.add("Resize", [x, "", scales], 16, **attributes)
    return (net.norm(net.conv(net.norm(big, relu=True), 16)),)


def pooled(net: Net) -> tuple[str, ...]:
    x = net.norm(net.conv("x", 32), relu=True)
    x = net.add("MaxPool", [x], 32, kernel_shape=[2, 2], strides=[2, 2])
    x = net.norm(net.add("AveragePool", [net.norm(x)], 32, kernel_shape=[2, 2], strides=[2, 2]))
    return (net.add("GlobalAveragePool", [x], 32),)


def several_outputs(net: Net) -> tuple[str, ...]:
    x = net.norm(net.conv("x", 16), relu=True)
    y = net.norm(net.conv(x, 16), relu=True, residual=x)
    return (x, y)


def two_layers_on_one_tensor(net: Net) -> tuple[str, ...]:
    x = net.conv("x", 16)
    return (net.conv(net.add("Concat", [net.norm(x, relu=True), net.norm(x, relu=True)], 32, axis=1), 16),)


def one_tensor_is_its_own_residual(net: Net) -> tuple[str, ...]:
    x = net.conv("x", 16)
    return (net.norm(x, relu=True, residual=x),)


def on_the_image(net: Net) -> tuple[str, ...]:
    """Before the first convolution nothing is blocked, nor is a residual that is an input."""
    x = net.norm("x", relu=True)
    y = net.norm(net.conv(x, 3), relu=True, residual="x")
    return (net.norm(net.conv(y, 16)),)


def transposed(net: Net) -> tuple[str, ...]:
    """Channels last around a layer, which is no elementwise operator and must not be moved across."""
    x = net.norm(net.conv("x", 16), relu=True)
    x = net.add("Transpose", [x], 16, perm=[0, 2, 3, 1])
    x = net.add("Transpose", [x], 16, perm=[0, 3, 1, 2])
    y = net.add("Transpose", [net.add("Relu", ["x"], 3)], 16, perm=[0, 2, 1, 3])
    y = net.add("Transpose", [y], 3, perm=[0, 2, 1, 3])
    return (net.norm(net.conv(x, 16)), net.norm(y))


def other_ranks(net: Net) -> tuple[str, ...]:
    x = net.norm(net.conv("x", 16), relu=True)
    flat = net.add("Reshape", [x, net.constant(np.array([0, 16, -1]))], 16)
    rows = net.norm(net.conv(flat, 8, rank=3), relu=True)
    deep = net.add("Reshape", [x, net.constant(np.array([0, 16, 4, 4, -1]))], 16)
    return (rows, net.norm(net.conv(deep, 4, rank=5)))


def dead_end(net: Net) -> tuple[str, ...]:
    """A layer after what has no blocks: a transposed convolution."""
    x = net.norm(net.conv("x", 16), relu=True)
    weight = net.constant(np.random.default_rng(1).normal(size=(16, 8, 2, 2)).astype(np.float32))
    return (net.norm(net.add("ConvTranspose", [x, weight], 8, strides=[2, 2])),)


NETS: dict[str, tuple[Callable[[Net], tuple[str, ...]], Expected]] = {
    f.__name__: (f, expected)
    for f, expected in (
        (odd_channels, Expected(2, 1)),
        (three_channels, Expected(2)),
        (residual_v1, Expected(6)),
        (residual_v2, Expected(5)),
        (relu_not_fused, Expected(2)),
        (grouped_and_depthwise, Expected(4)),
        (concatenated, Expected(3)),
        (concatenated_ragged, Expected(3, 0, 1, 3)),
        (upsampled, Expected(3)),
        (pooled, Expected(3)),
        (several_outputs, Expected(2, 0, 0, 2)),
        (two_layers_on_one_tensor, Expected(2)),
        (one_tensor_is_its_own_residual, Expected(1)),
        (on_the_image, Expected(1, 2, 0, 2)),
        (transposed, Expected(2, 1)),
        (other_ranks, Expected(1, 2)),
        (dead_end, Expected(1, 1)),
    )
}


def op_counts(path: Path) -> Counter[tuple[str, str]]:
    return Counter((node.domain, node.op_type) for node in onnx.load(path).graph.node)


def rel_l2(source: Path, report: OptimiseReport, x: np.ndarray[Any, Any], threads: int | None = None) -> float:
    """The largest difference of an output from that of the functions in the portable file."""
    with OrtSession(source, native=False) as session:
        expected = session.run({"x": x})
    with OrtSession(report.path, threads=threads) as session:
        assert session.instead is None
        actual = session.run({"x": x})
    assert list(actual) == list(expected)
    return max(compare(expected[name], actual[name]).rel_l2 for name in expected)


STATIC, DYNAMIC = (16, 16), ("height", "width")
CASES = [(name, extents) for name in NETS for extents in (STATIC, DYNAMIC)]
CASES.remove(("other_ranks", DYNAMIC))  # its reshapes are for one size


@pytest.mark.parametrize(("name", "extents"), CASES)
def test_a_net(name: str, extents: tuple[int | str, ...], block: int, tmp_path: Path) -> None:
    build, expected = NETS[name]
    net = Net(3, extents)
    outputs = build(net)
    source = net.save(tmp_path / "net.onnx", *outputs)
    report = optimise(source, tmp_path / "here.onnx")
    ops = op_counts(report.path)
    blocked = sum(count for (domain, _), count in ops.items() if domain == BLOCKED_DOMAIN)
    kept = sum(count for (domain, _), count in ops.items() if domain == DOMAIN)
    if block == 16:
        reorders = (ops["com.microsoft.nchwc", "ReorderInput"], ops["com.microsoft.nchwc", "ReorderOutput"])
        assert (blocked, kept, *reorders) == (
            expected.blocked,
            expected.kept,
            expected.reorders_in,
            expected.reorders_out,
        )
    assert [layer.why_not is None for layer in report.layers].count(True) == blocked
    generator = np.random.default_rng(3)
    for batch, extent in ((1, 16), (5, 16)) if extents == STATIC else ((1, 16), (2, 24)):
        x = generator.normal(size=(batch, 3, extent, extent)).astype(np.float32)
        for threads in (1, 2):
            assert rel_l2(source, report, x, threads) < TOLERANCES["float32"].rel_l2


def test_reasons_are_given(block: int, tmp_path: Path) -> None:
    net = Net(3)
    x = net.norm(net.conv("x", 16), relu=True)
    outputs = (net.norm("x"), net.norm(net.conv(x, 16), constant=False), *other_ranks(net))
    report = optimise(net.save(tmp_path / "net.onnx", x, *outputs), tmp_path / "here.onnx")
    reasons = {layer.why_not for layer in report.layers}
    assert reasons == {
        None,
        "ONNX Runtime doesn't keep what it reads on blocks (made by an input of the graph)",
        "its parameters are no constants",
        "its input is of rank 3, and blocks are of images, (N, C, H, W)",
        "its input is of rank 5, and blocks are of images, (N, C, H, W)",
    }


def test_layers_keep_their_names_and_metadata(block: int, tmp_path: Path) -> None:
    net = Net(3)
    x = net.norm(net.conv("x", 16), relu=True)
    outputs = (x, net.norm("x"))
    model = net.model(*outputs)
    model.metadata_props.add(key="owner", value="me")
    onnx.save(model, tmp_path / "net.onnx")
    report = optimise(tmp_path / "net.onnx", tmp_path / "here.onnx")
    written = onnx.load(report.path)
    layers = [node for node in written.graph.node if node.domain in (DOMAIN, BLOCKED_DOMAIN)]
    assert {node.name for node in layers} == set(outputs)
    for node in layers:
        assert {entry.key: entry.value for entry in node.metadata_props}[METADATA_LAYER] == node.name
    made_with = [entry.s.decode() for node in layers for entry in node.attribute if entry.name == "onnxruntime"]
    assert made_with == [version()]  # of the one on blocks
    assert {entry.key: entry.value for entry in written.metadata_props}["owner"] == "me"
    assert {entry.domain for entry in written.opset_import} == {"", DOMAIN, BLOCKED_DOMAIN, "com.microsoft.nchwc"}


def test_inputs_and_outputs_are_the_sources(block: int, tmp_path: Path) -> None:
    net = Net(3, ("height", 16))
    source = net.save(tmp_path / "net.onnx", *several_outputs(net))
    report = optimise(source, tmp_path / "here.onnx")
    with OrtSession(source) as one, OrtSession(report.path) as other:
        assert other.inputs == one.inputs
        assert [info.name for info in other.outputs] == [info.name for info in one.outputs]
        assert [info.shape for info in other.outputs] == [info.shape for info in one.outputs]


def test_extents_without_a_name_get_one(block: int, tmp_path: Path) -> None:
    """ONNX Runtime writes Y over X only where it knows that they have one shape."""
    net = Net(3, ("height", "width"))
    model = net.model(*residual_v1(net))
    del model.graph.value_info[:]
    for dim in model.graph.input[0].type.tensor_type.shape.dim[2:]:
        dim.Clear()
    onnx.save(model, tmp_path / "net.onnx")
    graph = onnx.load(optimise(tmp_path / "net.onnx", tmp_path / "here.onnx").path).graph
    axes = {value.name: [str(dim) for dim in value.type.tensor_type.shape.dim] for value in graph.value_info}
    for node in (node for node in graph.node if node.domain == BLOCKED_DOMAIN):
        assert "" not in axes[node.input[0]]
        assert node.output[0] not in axes or axes[node.output[0]] == axes[node.input[0]]


def test_nodes_without_names(block: int, tmp_path: Path) -> None:
    net = Net(3)
    model = net.model(*residual_v1(net))
    for node in model.graph.node:
        node.name = ""
    onnx.save(model, tmp_path / "net.onnx")
    report = optimise(tmp_path / "net.onnx", tmp_path / "here.onnx")
    assert all(layer.why_not is None for layer in report.layers)


def test_what_follows_a_layer_is_fused_first(block: int, tmp_path: Path) -> None:
    net = Net(3)
    x = net.norm(net.conv("x", 16))
    x = net.add("Relu", [x], 16)
    y = net.norm(net.conv(x, 16))
    y = net.add("Relu", [net.add("Add", [x, y], 16)], 16)
    report = optimise(net.save(tmp_path / "net.onnx", y), tmp_path / "here.onnx")
    ops = op_counts(report.path)
    assert ops[BLOCKED_DOMAIN, "SwitchNormRelu"] == ops[BLOCKED_DOMAIN, "SwitchNormAddRelu"] == 1
    assert not {"Relu", "Add"} & {op_type for _, op_type in ops}


def with_branches() -> onnx.ModelProto:
    """A layer before an If, and one in a branch of it."""
    net = Net(3)
    net.norm(net.conv("x", 16), relu=True)
    net.nodes[-1].output[0] = "outer"
    net.channels["outer"] = 16
    outer, net.nodes = net.nodes, []
    branches = {"then_branch": net.norm(net.conv("outer", 16), relu=True), "else_branch": net.conv("outer", 16)}
    graphs = {}
    for branch, last in branches.items():
        count = next(i for i, node in enumerate(net.nodes) if node.output[0] == last) + 1
        nodes, net.nodes = net.nodes[:count], net.nodes[count:]
        values = [
            helper.make_tensor_value_info(node.output[0], TensorProto.FLOAT, ["batch", 16, 16, 16]) for node in nodes
        ]
        # ONNX Runtime blocks a convolution only where its weights are the same graph's.
        read = {name for node in nodes for name in node.input}
        weights = [tensor for tensor in net.initializers if tensor.name in read]
        net.initializers = [tensor for tensor in net.initializers if tensor.name not in read]
        graphs[branch] = helper.make_graph(nodes, branch, [], values[-1:], weights, value_info=values[:-1])
    net.inputs.append(helper.make_tensor_value_info("flag", TensorProto.BOOL, []))
    net.nodes = [*outer, helper.make_node("If", ["flag"], ["y"], **graphs)]
    return net.model("y")


def test_a_layer_in_a_subgraph(block: int, tmp_path: Path) -> None:
    source = tmp_path / "net.onnx"
    onnx.save(with_branches(), source)
    report = optimise(source, tmp_path / "here.onnx", inputs={"flag": np.array(True)})
    assert [layer.why_not for layer in report.layers] == [None, None]
    x = np.random.default_rng(0).normal(size=(2, 3, 16, 16)).astype(np.float32)
    with OrtSession(source, native=False) as one, OrtSession(report.path) as other:
        for flag in (True, False):
            given = {"x": x, "flag": np.array(flag)}
            assert compare(one.run(given)["y"], other.run(given)["y"]).rel_l2 < TOLERANCES["float32"].rel_l2

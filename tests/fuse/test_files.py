"""Files as they come: old, large, out of order, with weights as inputs, with functions, with other readers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from sn_deploy.errors import CheckFailedError, SnDeployError
from sn_deploy.runtime.ort import OrtSession
from tests.fuse.graphs import SHAPE, Graph, Layer, affine, column, divided, mix, published, statistics
from tests.fuse.unseen import fuse
from tests.fuse.zoo import DECOYS


def written(folder: Path, model: onnx.ModelProto | None = None, **options: object) -> Path:
    path = folder / "in.onnx"
    onnx.save(net() if model is None else model, path, **options)
    return path


def net(opset: int = 17) -> onnx.ModelProto:
    """One layer between a 1x1 convolution and a ReLU."""
    g = Graph(opset=opset)
    h = g("Conv", "x", g.constant(np.random.default_rng(0).normal(size=(6, 6, 1, 1)), "conv.weight"))
    return g.model(g("Relu", published(g, h, Layer(), SHAPE, softmax=True)))


def run(path: Path, **inputs: np.ndarray) -> dict[str, np.ndarray]:
    with OrtSession(path, native=False) as session:
        return session.run(inputs)


def x(*shape: int) -> np.ndarray:
    return np.random.default_rng(1).normal(size=shape or SHAPE).astype(np.float32)


def op_types(path: Path) -> list[str]:
    return [node.op_type for node in onnx.load(path, load_external_data=False).graph.node]


def test_a_second_run_changes_not_a_byte(tmp_path: Path) -> None:
    first = fuse(written(tmp_path), tmp_path / "once.onnx")
    second = fuse(tmp_path / "once.onnx", tmp_path / "twice.onnx")
    assert (tmp_path / "once.onnx").read_bytes() == (tmp_path / "twice.onnx").read_bytes()
    assert (first.present, len(first.layers)) == (0, 1)
    assert (second.present, len(second.layers)) == (1, 0)


def test_in_place(tmp_path: Path) -> None:
    path = written(tmp_path)
    before = run(path, x=x())
    fuse(path, path)
    assert op_types(path) == ["Conv", "SwitchNormRelu"]
    for name, value in run(path, x=x()).items():
        np.testing.assert_allclose(value, before[name], rtol=1e-5, atol=1e-5)


def test_relu_stays_apart_when_asked(tmp_path: Path) -> None:
    report = fuse(written(tmp_path), tmp_path / "out.onnx", fuse_relu=False)
    assert report.forms == {"SwitchNorm": 1}
    assert op_types(report.path) == ["Conv", "SwitchNorm", "Relu"]


def test_the_layer_has_the_name_of_its_weights(tmp_path: Path) -> None:
    report = fuse(written(tmp_path), tmp_path / "out.onnx")
    assert report.layers[0].folded.name == "sn"
    weights = {tensor.name for tensor in onnx.load(report.path).graph.initializer}
    assert weights == {"conv.weight", "sn.scale", "sn.bias", "sn.mean_offset", "sn.var_offset"}


def test_what_others_wrote_into_the_file_stays(tmp_path: Path) -> None:
    model = net()
    model.producer_name, model.doc_string = "someone", "about it"
    helper.set_model_props(model, {"classes": "cat,dog"})
    fuse(written(tmp_path, model), tmp_path / "out.onnx")
    after = onnx.load(tmp_path / "out.onnx")
    assert (after.producer_name, after.doc_string) == ("someone", "about it")
    assert [(prop.key, prop.value) for prop in after.metadata_props] == [("classes", "cat,dog")]


def test_old_files_are_converted_to_an_opset_that_has_a_body(tmp_path: Path) -> None:
    report = fuse(written(tmp_path, net(opset=11)), tmp_path / "out.onnx")
    assert (report.opset_before, report.opset) == (11, 15)


def with_weights_as_inputs(ir_version: int, opset: int = 17) -> onnx.ModelProto:
    model = net(opset)
    for tensor in model.graph.initializer:
        value = helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims)
        model.graph.input.append(value)
    model.ir_version = ir_version
    return model


@pytest.mark.parametrize("opset", [17, 9])  # the older one is converted, by onnx
def test_weights_that_had_to_be_inputs_are_constants(tmp_path: Path, opset: int) -> None:
    report = fuse(written(tmp_path, with_weights_as_inputs(3, opset)), tmp_path / "out.onnx")
    assert len(report.layers) == 1
    assert [value.name for value in onnx.load(report.path).graph.input] == ["x"]


def test_weights_that_callers_may_give_are_frozen_only_when_asked(tmp_path: Path) -> None:
    path = written(tmp_path, with_weights_as_inputs(8))
    with pytest.raises(CheckFailedError, match="has no SN layer"):
        fuse(path, tmp_path / "out.onnx")
    assert len(fuse(path, tmp_path / "out.onnx", freeze_weights=True).layers) == 1
    assert [value.name for value in onnx.load(tmp_path / "out.onnx").graph.input] == ["x"]


def test_external_data_is_read_and_written(tmp_path: Path) -> None:
    g = Graph()
    weight = g.constant(np.random.default_rng(0).normal(size=(6, 6, 12, 12)), "conv.weight")
    h = g("Conv", "x", weight, pads=[6, 6, 5, 5])
    model = g.model(g("Relu", published(g, h, Layer(), SHAPE)))
    path = written(
        tmp_path,
        model,
        save_as_external_data=True,
        all_tensors_to_one_file=True,
        location="weights.bin",
        size_threshold=1024,
    )
    before = run(path, x=x())
    report = fuse(path, tmp_path / "out.onnx", external_data=True)
    assert report.data_path is not None
    assert report.bytes_before == path.stat().st_size + (tmp_path / "weights.bin").stat().st_size
    after = run(tmp_path / "out.onnx", x=x())
    np.testing.assert_allclose(*(next(iter(values.values())) for values in (after, before)), rtol=1e-4, atol=1e-5)
    assert len(fuse(path, tmp_path / "one.onnx").layers) == 1

    (tmp_path / "weights.bin").unlink()
    with pytest.raises(SnDeployError, match=r"weights.bin is missing; copy it beside the file"):
        fuse(path, tmp_path / "two.onnx")


def test_a_layer_inside_a_branch_with_weights_outside(tmp_path: Path) -> None:
    inner, outer = Graph(), Graph()
    y = published(inner, "x", Layer(), SHAPE)
    outer.weights, outer.made = dict(inner.weights), 1000
    branches = [
        helper.make_graph(nodes, name, [], [helper.make_tensor_value_info(out, TensorProto.FLOAT, SHAPE)])
        for nodes, name, out in (
            (inner.nodes, "with", y),
            ([helper.make_node("Neg", ["x"], ["z"], name="neg")], "without", "z"),
        )
    ]
    large = outer("Greater", outer("ReduceMax", "x", keepdims=0), outer.constant(100.0))
    out = outer("If", large, then_branch=branches[1], else_branch=branches[0])
    path = written(tmp_path, outer.model(out))
    report = fuse(path, tmp_path / "out.onnx")
    assert len(report.layers) == 1
    before, after = run(path, x=x()), run(report.path, x=x())
    np.testing.assert_allclose(after[out], before[out], rtol=1e-5, atol=1e-5)


def test_a_layer_of_the_result_of_one_of_another_layout(tmp_path: Path) -> None:
    g, layer = Graph(), Layer(ddof=0)
    mean, var = statistics(g, "x", layer)
    d = g("Transpose", g("Sub", "x", mean), perm=[0, 2, 3, 1])
    root = g("Transpose", g("Sqrt", g("Add", var, g.constant(layer.eps))), perm=[0, 2, 3, 1])
    first = g("Transpose", affine(g, g("Div", d, root), layer, last=True), perm=[0, 3, 1, 2])
    second = published(g, first, Layer(seed=2, affine=False), SHAPE)
    report = fuse(written(tmp_path, g.model(second)), tmp_path / "out.onnx")
    assert op_types(tmp_path / "out.onnx") == ["SwitchNorm", "SwitchNorm"]
    assert len(report.layers) == 2
    (before,), (after,) = (run(tmp_path / name, x=x()).values() for name in ("in.onnx", "out.onnx"))
    np.testing.assert_allclose(after, before, rtol=1e-4, atol=1e-5)


def test_a_result_of_channels_last_that_a_branch_alone_reads(tmp_path: Path) -> None:
    g, layer = Graph(), Layer(ddof=0)
    mean, var = statistics(g, "x", layer)
    y = g("Transpose", affine(g, divided(g, "x", mean, var, layer.eps), layer), perm=[0, 2, 3, 1])
    other = g("Transpose", "x", perm=[0, 2, 3, 1])
    value = helper.make_tensor_value_info("out", TensorProto.FLOAT, None)
    branches = {
        name: helper.make_graph([helper.make_node("Relu", [given], ["out"])], name, [], [value])
        for name, given in (("then_branch", y), ("else_branch", other))
    }
    model = g.model(y, out_shape=[SHAPE[axis] for axis in (0, 2, 3, 1)])
    model.graph.node.append(helper.make_node("If", ["c"], ["chosen"], **branches))
    model.graph.output[0].CopyFrom(helper.make_tensor_value_info("chosen", TensorProto.FLOAT, None))
    model.graph.input.append(helper.make_tensor_value_info("c", TensorProto.BOOL, []))
    report = fuse(written(tmp_path, model), tmp_path / "out.onnx")
    assert len(report.layers) == 1
    for taken in (True, False):
        before, after = (run(tmp_path / name, x=x(), c=np.array(taken)) for name in ("in.onnx", "out.onnx"))
        np.testing.assert_allclose(after["chosen"], before["chosen"], rtol=1e-5, atol=1e-5)


def test_a_layer_written_as_a_function(tmp_path: Path) -> None:
    g = Graph()
    y = published(g, "x", Layer(), SHAPE)
    constants = [
        helper.make_node("Constant", [], [name], value=onnx.numpy_helper.from_array(np.asarray(value)))
        for name, value in g.weights.items()
    ]
    function = helper.make_function(
        "someone", "Norm", ["x"], [y], [*constants, *g.nodes], [helper.make_opsetid("", 17)]
    )
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        [helper.make_node("Norm", ["x"], ["y"], domain="someone")],
        "g",
        [value("x", TensorProto.FLOAT, SHAPE)],
        [value("y", TensorProto.FLOAT, SHAPE)],
    )
    model = helper.make_model(
        graph, functions=[function], opset_imports=[helper.make_opsetid("", 17), helper.make_opsetid("someone", 1)]
    )
    model.ir_version = 8
    fuse(written(tmp_path, model), tmp_path / "out.onnx")
    assert op_types(tmp_path / "out.onnx") == ["SwitchNorm"]


def test_statistics_that_two_layers_share(tmp_path: Path) -> None:
    g, first, second = Graph(), Layer(ddof=0, seed=1), Layer(ddof=0, seed=2)
    means = {"in": g.mean("x", [2, 3]), "ln": g.mean("x", [1, 2, 3])}
    variances = {"in": g.var("x", [2, 3], means["in"]), "ln": g.var("x", [1, 2, 3], means["ln"])}
    outputs = []
    for layer in (first, second):
        mean = mix(g, layer.w, {**means, "bn": g.constant(column(layer.running_mean))})
        var = mix(g, layer.v, {**variances, "bn": g.constant(column(layer.running_var))})
        outputs.append(affine(g, divided(g, "x", mean, var, layer.eps), layer))
    report = fuse(written(tmp_path, g.model(g("Add", *outputs))), tmp_path / "out.onnx")
    assert op_types(report.path) == ["SwitchNorm", "SwitchNorm", "Add"]


def test_a_statistic_that_something_else_reads_stays(tmp_path: Path) -> None:
    g, layer = Graph(), Layer(ddof=0)
    mean, var = statistics(g, "x", layer)
    y = affine(g, divided(g, "x", mean, var, layer.eps), layer)
    model = g.model(y)
    model.graph.output.append(helper.make_tensor_value_info(mean, TensorProto.FLOAT, (2, 6, 1, 1)))
    path = written(tmp_path, model)
    report = fuse(path, tmp_path / "out.onnx")
    assert len(report.layers) == 1
    before, after = run(path, x=x()), run(report.path, x=x())
    assert list(before) == list(after)
    for name, value in before.items():
        np.testing.assert_allclose(after[name], value, rtol=1e-5, atol=1e-5)


def test_a_normalised_tensor_that_is_read_before_its_affine_part(tmp_path: Path) -> None:
    g, layer = Graph(), Layer(ddof=0)
    mean, var = statistics(g, "x", layer)
    normalised = divided(g, "x", mean, var, layer.eps)
    model = g.model(g("Add", affine(g, normalised, layer), g("Tanh", normalised)))
    path = written(tmp_path, model)
    report = fuse(path, tmp_path / "out.onnx")
    np.testing.assert_allclose(report.layers[0].folded.scale, np.ones(6), rtol=1e-12)
    assert sorted(op_types(report.path)) == ["Add", "Add", "Mul", "SwitchNorm", "Tanh"]


def test_a_sequence_behind_a_layer_stays_one(tmp_path: Path) -> None:
    model = net()
    y = model.graph.output[0].name
    model.graph.node.append(helper.make_node("SequenceConstruct", [y, y], ["sequence"], "sequence"))
    model.graph.node.append(helper.make_node("ConcatFromSequence", ["sequence"], ["both"], "both", axis=0))
    model.graph.output.append(helper.make_tensor_value_info("both", TensorProto.FLOAT, None))
    path = written(tmp_path, model)
    fuse(path, tmp_path / "out.onnx")
    assert op_types(tmp_path / "out.onnx")[-2:] == ["SequenceConstruct", "ConcatFromSequence"]
    found = run(tmp_path / "out.onnx", x=x())
    np.testing.assert_array_equal(found["both"], np.concatenate([found[y]] * 2))
    np.testing.assert_allclose(found["both"], run(path, x=x())["both"], atol=1e-5)


def test_a_layer_added_to_its_own_input(tmp_path: Path) -> None:
    g, layer = Graph(), Layer(ddof=0)
    mean, var = statistics(g, "x", layer)
    y = g("Add", affine(g, divided(g, "x", mean, var, layer.eps), layer), "x")
    report = fuse(written(tmp_path, g.model(g("Relu", y))), tmp_path / "out.onnx")
    assert report.forms == {"SwitchNormAddRelu": 1}


def test_strict_refuses_a_file_with_a_near_miss(tmp_path: Path) -> None:
    path = written(tmp_path, DECOYS["eps_outside_the_root"]())
    with pytest.raises(CheckFailedError, match=r"looks like an SN layer, but n\d+: eps is added outside"):
        fuse(path, tmp_path / "out.onnx", strict=True)
    assert {file.name for file in tmp_path.iterdir()} == {"in.onnx"}


def test_float64_is_no_type_of_the_operator(tmp_path: Path) -> None:
    g, layer = Graph(), Layer(ddof=0)
    wide = g("Sigmoid", g("Cast", "x", to=TensorProto.DOUBLE))
    g.dtype = np.float64
    mean, var = statistics(g, wide, layer)
    y = g("Sigmoid", affine(g, divided(g, wide, mean, var, layer.eps), layer))
    g.dtype = np.float32
    with pytest.raises(CheckFailedError, match="is double, and the operator takes none"):
        fuse(written(tmp_path, g.model(g("Cast", y, to=TensorProto.FLOAT))), tmp_path / "out.onnx")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "the file is empty"),
        (b"\x08\x07 not onnx at all", "is cut off, damaged or no ONNX file"),
        (b"\x18\x00\x00\x00ORTM", "is in ONNX Runtime's own format"),
        (b"version https://git-lfs.github.com/spec/v1\n", "is a git-lfs pointer"),
    ],
)
def test_what_is_no_model_is_told_so(content: bytes, message: str, tmp_path: Path) -> None:
    (tmp_path / "in.onnx").write_bytes(content)
    with pytest.raises(SnDeployError, match=message):
        fuse(tmp_path / "in.onnx", tmp_path / "out.onnx")


def test_an_opset_without_a_body_is_refused(tmp_path: Path) -> None:
    model = net()
    model.opset_import[0].version = 99
    with pytest.raises(SnDeployError, match=r"is of opset 99 \(expected at most 24\)"):
        fuse(written(tmp_path, model), tmp_path / "out.onnx")


def test_nodes_out_of_order_are_refused(tmp_path: Path) -> None:
    model = net()
    nodes = list(model.graph.node)
    del model.graph.node[:]
    model.graph.node.extend([*nodes[1:], nodes[0]])
    with pytest.raises(SnDeployError, match="its nodes are out of order"):
        fuse(written(tmp_path, model), tmp_path / "out.onnx")

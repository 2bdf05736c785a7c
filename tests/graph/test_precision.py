"""float32 graphs in half precision: what changes its type, what doesn't, and that it is what torch's own fp16 gives."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest
import torch

from sn_deploy.errors import SnDeployError
from sn_deploy.graph import keep, op
from sn_deploy.graph.layers import switch_norm_nodes, write_functions
from sn_deploy.graph.precision import HALF_TYPES, convert_precision
from sn_deploy.graph.save import save
from sn_deploy.models.digits import load_pretrained
from sn_deploy.onnx_export import export
from sn_deploy.runtime.ort import OrtSession
from tests.cases import make_case

FLOAT = ir.DataType.FLOAT


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("precision") / "digits.onnx"
    export(load_pretrained(), torch.zeros(2, 1, 8, 8), path, dynamic="batch")
    return path


def checked(model: ir.Model) -> onnx.ModelProto:
    proto = ir.to_proto(model)
    onnx.checker.check_model(proto, full_check=True)
    return proto


def types_of(model: ir.Model, name: str) -> list[ir.DataType | None]:
    """Of the inputs of a node, then of its outputs."""
    (node,) = (node for node in model.graph if node.name == name)
    return [None if value is None else value.dtype for value in (*node.inputs, *node.outputs)]


@pytest.mark.parametrize("keep_io_types", [True, False])
def test_the_result_is_what_torch_makes_of_the_half_model(digits: Path, tmp_path: Path, keep_io_types: bool) -> None:
    model = ir.load(digits)
    convert_precision(model, "fp16", keep_io_types=keep_io_types)
    save(model, tmp_path / "own.onnx")
    export(
        load_pretrained(),
        torch.zeros(2, 1, 8, 8),
        tmp_path / "torch.onnx",
        dynamic="batch",
        precision="fp16",
        keep_io_types=keep_io_types,
    )
    dtype = np.float32 if keep_io_types else np.float16
    x = np.random.default_rng(0).random((5, 1, 8, 8), dtype=np.float32).astype(dtype)
    outputs = []
    for name in ("own.onnx", "torch.onnx"):
        with OrtSession(tmp_path / name, threads=1, native=False) as session:
            (info,) = session.inputs
            outputs.append(session.run({info.name: x}))
    (own,), (expected,) = (list(output.values()) for output in outputs)
    assert own.dtype == dtype
    np.testing.assert_array_equal(own, expected)  # to the bit


@pytest.mark.parametrize("precision", ["fp16", "bf16"])
def test_parameters_of_layers_stay_float32(digits: Path, precision: str) -> None:
    model = ir.load(digits)
    conversion = convert_precision(model, precision)
    half = HALF_TYPES[precision]
    assert conversion.opset == (20 if precision == "fp16" else 22)
    for node in switch_norm_nodes(model):
        inputs = [value.dtype for value in node.inputs if value is not None]
        assert inputs == [half, FLOAT, FLOAT, FLOAT, FLOAT, *[half] * (len(inputs) - 5)]
        assert node.outputs[0].dtype == half
        assert node.metadata_props[op.METADATA_LAYER]  # through the converter of opsets, too
    proto = checked(model)
    assert {function.name for function in proto.functions} == {node.op_type for node in switch_norm_nodes(model)}
    # One Cast behind the input and one before the output, and every weight once.
    assert [node.op_type for node in proto.graph.node].count("Cast") == 2
    assert not conversion.left
    parameters = {name for node in proto.graph.node if node.domain == op.DOMAIN for name in node.input[1:5]}
    assert {tensor.data_type for tensor in proto.graph.initializer if tensor.name in parameters} == {1}
    floats = [tensor for tensor in proto.graph.initializer if tensor.name not in parameters]
    assert {tensor.data_type for tensor in floats if tensor.data_type != onnx.TensorProto.INT64} == {int(half)}


MIXED = """<ir_version: 10, opset_import: ["": 20]>
g (float[N, 8, H, W] x, bool[N, 8, 1, 1] mask) => (float[N, M] y, float[4] sizes) {
    a = Conv (x, w)
    shape = Shape (a)
    lengths = Cast <to = 1> (shape)
    two = Constant <value_float = 2.0> ()
    sizes = Mul (lengths, two)
    ends = Cast <to = 7> (sizes)
    larger = Resize <mode = "nearest"> (a, , , ends)
    zero = Constant <value_float = 0.0> ()
    hidden = Where (mask, larger, zero)
    s = Softmax <axis = 1> (hidden)
    spatial = Constant <value_ints = [2, 3]> ()
    m = ReduceMean <keepdims = 0> (s, spatial)
    y = MatMul (m, v)
}"""


def parsed(text: str, **weights: tuple[int, ...]) -> ir.Model:
    """The graph, its nodes named as what they write, with random weights of these shapes."""
    proto = onnx.parser.parse_model(text)
    generator = np.random.default_rng(1)
    for name, shape in weights.items():
        proto.graph.initializer.append(onnx.numpy_helper.from_array(generator.normal(size=shape).astype("f"), name))
    for node in proto.graph.node:
        node.name = node.output[0]
    return ir.from_proto(proto)


def mixed() -> ir.Model:
    return parsed(MIXED, w=(8, 8, 1, 1), v=(8, 12))


def test_arithmetic_on_shapes_is_none_of_it() -> None:
    model = mixed()
    half = ir.DataType.FLOAT16
    conversion = convert_precision(model, "fp16")
    checked(model)
    assert types_of(model, "sizes") == [FLOAT, FLOAT, FLOAT]
    assert types_of(model, "a") == [half, half, half]
    assert types_of(model, "larger")[0] == half
    assert types_of(model, "hidden") == [ir.DataType.BOOL, half, half, half]
    assert set(conversion.converted) == {"a", "larger", "hidden", "s", "m", "y"}


def test_kept_nodes_compute_in_float32_between_half_ones() -> None:
    model = mixed()
    conversion = convert_precision(model, "fp16", keep=keep.named_nodes(model, ["Softmax", "a"]))
    checked(model)
    assert conversion.kept == ("a", "s")
    assert types_of(model, "a") == [FLOAT, FLOAT, FLOAT]
    assert types_of(model, "s") == [FLOAT, FLOAT]
    assert types_of(model, "m")[0] == ir.DataType.FLOAT16
    (first,) = (node for node in model.graph if node.name == "a")
    assert first.inputs[0] is model.graph.inputs[0]  # not rounded on the way


def test_a_weight_that_both_kinds_read_is_there_in_both_types() -> None:
    model = ir.from_proto(
        onnx.parser.parse_model(
            """<ir_version: 10, opset_import: ["": 20]> g (float[2, 8] x) => (float[2, 8] y)
            <float[8] w = {1, 2, 3, 4, 5, 6, 7, 8}> { a = Mul (x, w)  y = Add (a, w) }"""
        )
    )
    for node in model.graph:
        node.name = node.op_type
    convert_precision(model, "fp16", keep=keep.named_nodes(model, ["Add"]))
    checked(model)
    assert sorted((name, value.dtype.name) for name, value in model.graph.initializers.items() if value.dtype) == [
        ("w", "FLOAT"),
        ("w_half", "FLOAT16"),
    ]


def test_new_names_are_free() -> None:
    text = """<ir_version: 10, opset_import: ["": 20]> g (float[2, 8] x) => (float[2, 8] y, float[2, 8] x_half)
    { x_half = Neg (x)  y = Exp (x_half) }"""
    model = parsed(text)
    convert_precision(model, "fp16")
    checked(model)
    assert [value.name for value in model.graph.outputs] == ["y", "x_half"]


def test_a_name_of_a_branch_is_not_free_either() -> None:
    text = """<ir_version: 10, opset_import: ["": 20]> g (float[2, 8] x, bool c) => (float[2, 8] y) {
        a = Neg (x)
        b = If (c) <then_branch = t () => (float[2, 8] p) { p = Add (a, x_half) },
                    else_branch = e () => (float[2, 8] q) { q = Exp (a) }>
        y = Neg (b) }"""
    proto = onnx.parser.parse_model(text)
    (branch,) = (a.g for a in proto.graph.node[1].attribute if a.name == "then_branch")
    branch.initializer.append(onnx.numpy_helper.from_array(np.ones((2, 8), np.float32), "x_half"))
    model = ir.from_proto(proto)
    convert_precision(model, "fp16")
    checked(model)
    (inner, *_) = model.graph.subgraphs()
    assert "x_half" in inner.initializers
    assert "x_half" not in {value.name for node in model.graph for value in node.outputs}


def test_half_inputs_and_outputs_of_the_source_stay_half() -> None:
    text = """<ir_version: 10, opset_import: ["": 20]>
        g (float[2, 8] x, float16[2, 8] h, float16[2, 8] w) => (float[2, 8] y, float16[2, 8] k) {
        a = Cast <to = 1> (h)  b = Add (x, a)  v = Cast <to = 1> (w)  y = Mul (b, v)  k = Cast <to = 10> (y) }"""
    proto = onnx.parser.parse_model(text)
    proto.graph.initializer.append(onnx.numpy_helper.from_array(np.ones((2, 8), np.float16), "w"))
    model = ir.from_proto(proto)
    convert_precision(model, "fp16")
    checked(model)
    half = ir.DataType.FLOAT16
    assert [value.dtype for value in (*model.graph.inputs, *model.graph.outputs)] == [FLOAT, half, half, FLOAT, half]


def test_weights_that_are_inputs_or_outputs_keep_names_and_types() -> None:
    """Of what is both, the name is an input's, which callers give."""
    text = """<ir_version: 10, opset_import: ["": 20]>
        g (float[2, 8] x, float[8] w) => (float[2, 8] x, float[8] w, float[8] v, float[2, 8] y) {
        a = Mul (x, w)  y = Mul (a, v) }"""
    model = parsed(text, w=(8,), v=(8,))
    convert_precision(model, "fp16", keep_io_types=False)
    checked(model)
    half = ir.DataType.FLOAT16
    assert [(value.name, value.dtype) for value in model.graph.inputs] == [("x", half), ("w", FLOAT)]
    found = [(value.name, value.dtype) for value in model.graph.outputs]
    assert found == [("x", half), ("w", FLOAT), ("v", FLOAT), ("y", half)]


LOOPED = """<ir_version: 10, opset_import: ["": 20, "sn_deploy": 1]>
g (float[2, 8, 5, 6] x, int64 count) => (float[N, M, H, W] y)
<float[8] scale = {1, 2, 3, 4, 5, 6, 7, 8}, float[8] one = {1, 1, 1, 1, 1, 1, 1, 1}, bool on = {1}> {
    a = Conv (x, w)
    h = Loop (count, on, a) <body = b (int64 i, bool c, float[2, 8, 5, 6] g) => (bool d, float[2, 8, 5, 6] t)
        { d = Identity (c)  t = Tanh (g) }>
    s = sn_deploy.SwitchNorm <mean_in = 0.5, mean_ln = 0.2, var_in = 0.3, var_ln = 0.3, ddof = 1>
        (h, scale, one, one, one)
    y = Conv (s, w)
}"""


def test_a_layer_behind_a_loop_needs_no_rank(tmp_path: Path) -> None:
    """What a Loop hands on may be of another rank each time: inference says nothing of it."""
    model = parsed(LOOPED, w=(8, 8, 1, 1))
    wanted = parsed(LOOPED, w=(8, 8, 1, 1))
    (layer,) = (node for node in wanted.graph if node.domain == op.DOMAIN)
    assert layer.inputs[0] is not None
    layer.inputs[0].shape = ir.Shape([2, 8, 5, 6])
    write_functions(wanted)
    conversion = convert_precision(model, "fp16")
    checked(model)
    assert conversion.left == {"h": "it has a graph of its own"}
    assert set(conversion.converted) == {"a", "s", "y"}
    x = np.random.default_rng(0).standard_normal((2, 8, 5, 6)).astype(np.float32)
    results = []
    for each in (wanted, model):
        ir.save(each, tmp_path / "net.onnx")
        with OrtSession(tmp_path / "net.onnx", native=False) as session:
            results.append(session.run({"x": x, "count": np.array(3)})["y"])
    expected, found = results
    assert 0 < np.linalg.norm(found - expected) / np.linalg.norm(expected) < 2e-3


def test_operators_that_take_no_half_are_left_and_named() -> None:
    text = """<ir_version: 10, opset_import: ["": 20]> g (float[2, 8] x) => (float[2, 8] y) {
        a = Neg (x)  b = Hann (a)  y = Neg (b) }"""
    model = ir.from_proto(
        onnx.parser.parse_model(text.replace("Hann", "other.Hann").replace('"": 20', '"": 20, "other": 1'))
    )
    for node in model.graph:
        node.name = node.outputs[0].name
        node.outputs[0].type, node.outputs[0].shape = ir.TensorType(FLOAT), ir.Shape([2, 8])
    conversion = convert_precision(model, "fp16")
    assert conversion.left == {"b": "an operator of other, whose types aren't known"}
    assert types_of(model, "b") == [FLOAT, FLOAT]
    assert types_of(model, "y")[0] == ir.DataType.FLOAT16


TOP = "k = Constant <value_ints = [1]> ()  b, i = TopK (a, k)"
SEQUENCE = "k = Constant <value_int = 1> ()  s = SequenceConstruct (a, a)  b = SequenceAt (s, k)"


@pytest.mark.parametrize(
    ("nodes", "precision", "left"),
    [
        (TOP, "bf16", {"b": "TopK of opset 22 takes no tensor(bfloat16)"}),
        (TOP, "fp16", {}),
        (SEQUENCE, "fp16", {"s": "it reads or writes something that is no tensor"}),
    ],
)
def test_operators_of_float32_stand_between_half_ones(nodes: str, precision: str, left: dict[str, str]) -> None:
    text = f"""<ir_version: 10, opset_import: ["": 22]>
        g (float[2, 8] x) => (float[M, K] y) {{ a = Neg (x)  {nodes}  y = Neg (b) }}"""
    model = parsed(text)
    assert convert_precision(model, precision).left == left
    checked(model)
    half = HALF_TYPES[precision]
    assert types_of(model, "a") == [half, half]
    assert types_of(model, "y")[0] == (FLOAT if "s" in left else half)  # what comes out of a sequence isn't followed
    for name in left:
        assert half not in types_of(model, name)


@pytest.mark.parametrize(
    ("opset", "nodes"),
    [
        (26, "i = BitCast <to = 6> (a)  b = BitCast <to = 1> (i)"),
        (18, "r = Reshape <allowzero = 0> (a, shape)  b = MeanVarianceNormalization <axes = [0, 2, 3]> (r)"),
    ],
)
def test_operators_that_mean_something_else_in_half_stay(opset: int, nodes: str, tmp_path: Path) -> None:
    """Their schemas take half types; the file was no valid one, and sn-deploy said to be at fault."""
    text = f"""<ir_version: 10, opset_import: ["": {opset}]> g (float[2, 8] x) => (float[A, B] y)
        <int64[4] shape = {{2, 2, 2, 2}}, int64[2] flat = {{2, 8}}> {{
            a = Neg (x)  {nodes}  c = Reshape (b, flat)  y = MatMul (c, w) }}"""
    model = parsed(text, w=(8, 3))
    onnx.save(ir.to_proto(model), tmp_path / "in.onnx")
    conversion = convert_precision(model, "fp16")
    onnx.save(checked(model), tmp_path / "out.onnx")
    assert set(conversion.left) <= {"i", "b"}
    assert conversion.left
    x = np.random.default_rng(0).normal(size=(2, 8)).astype(np.float32)
    made = []
    for name in ("in", "out"):
        with OrtSession(tmp_path / f"{name}.onnx") as session:
            made.append(session.run({"x": x})["y"])
    np.testing.assert_allclose(made[1], made[0], rtol=0.02, atol=0.02)


def test_what_is_in_the_other_half_type_stays_in_it() -> None:
    """What quantized weights were made had the one type, and what they are read with the other."""
    text = """<ir_version: 10, opset_import: ["": 22]> g (float[2, 1] x) => (float[2, 3] y)
        <int8[1, 8] q = {1, 2, 3, 4, 5, 6, 7, 8}> {
        one = Constant <value_float = 1.0> ()  scale = Cast <to = 10> (one)  v = DequantizeLinear (q, scale)
        a = Cast <to = 10> (x)  b = MatMul (a, v)  c = Cast <to = 1> (b)  y = MatMul (c, w) }"""
    model = parsed(text, w=(8, 3))
    assert convert_precision(model, "bf16").converted == ("y",)
    checked(model)
    assert types_of(model, "b") == [ir.DataType.FLOAT16] * 3


def test_subgraphs_stay_float32_with_all_that_they_read() -> None:
    proto = onnx.parser.parse_model(
        """<ir_version: 10, opset_import: ["": 20]> g (float[2, 8] x, bool c) => (float[2, 8] y) {
        a = Neg (x)
        b = If (c) <then_branch = t () => (float[2, 8] p) { p = Abs (a) },
                    else_branch = e () => (float[2, 8] q) { q = Exp (a) }>
        y = Neg (b) }"""
    )
    for node in proto.graph.node:
        node.name = node.output[0]
    model = ir.from_proto(proto)
    conversion = convert_precision(model, "fp16")
    assert conversion.left == {"b": "it has a graph of its own"}
    assert set(conversion.converted) == {"a", "y"}, "what a branch makes of data is data"
    checked(model)
    evaluator = onnx.reference.ReferenceEvaluator(ir.to_proto(model))
    x = np.full((2, 8), 0.5, np.float32)
    np.testing.assert_array_equal(evaluator.run(None, {"x": x, "c": np.array(True)})[0], -x)


def test_weights_out_of_range_are_named() -> None:
    model = ir.from_proto(
        onnx.parser.parse_model(
            """<ir_version: 10, opset_import: ["": 20]> g (float[2, 8] x) => (float[2, 8] y)
            <float[8] w = {1, 2, 70000, 4, 1e-9, 6, -1e6, 8}> { y = Mul (x, w) }"""
        )
    )
    next(iter(model.graph)).name = "scaled"
    (lost,) = convert_precision(model, "fp16").rounded
    assert (lost.name, lost.node, lost.largest, lost.too_large, lost.vanished) == ("w", "scaled", 1e6, 2, 1)


def test_layers_and_their_convolutions_are_found(digits: Path) -> None:
    model = ir.load(digits)
    only = keep.named_nodes(model, ["sn1", "sn3"])
    assert [node.name for node in switch_norm_nodes(model) if node in only] == ["sn1", "sn3"]
    both = keep.named_nodes(model, ["sn[13]"], with_convolutions=True)
    assert {node for node in both if node.domain == op.DOMAIN} == only
    assert sorted(node.op_type for node in both if node.domain != op.DOMAIN) == ["Conv", "Conv"]
    conversion = convert_precision(model, "fp16", keep=both)
    checked(model)
    assert len(conversion.kept) == 4
    assert types_of(model, "sn1") == [FLOAT] * 6
    assert types_of(model, "sn2")[0] == ir.DataType.FLOAT16


def test_the_convolution_of_a_layer_is_the_one_before_what_may_stand_between() -> None:
    text = """<ir_version: 10, opset_import: ["": 20, "sn_deploy": 1]> g (float[2, 8, 4, 4] x) => (float[2, 8, 4, 4] y)
    {
        a = Conv (x, w)
        b = Add (a, v)
        c = Cast <to = 1> (b)
        behind_both = sn_deploy.SwitchNorm (c)
        r = Relu (a)
        behind_relu = sn_deploy.SwitchNorm (r)
        first = sn_deploy.SwitchNorm (x)
        y = Sum (behind_both, behind_relu, first)
    }"""
    nodes = {node.name: node for node in parsed(text, w=(8, 8, 1, 1), v=(8, 1, 1)).graph}
    assert keep.convolution_of(nodes["behind_both"]) is nodes["a"]
    assert keep.convolution_of(nodes["behind_relu"]) is None
    assert keep.convolution_of(nodes["first"]) is None


def test_names_that_match_nothing_are_refused(digits: Path) -> None:
    model = ir.load(digits)
    with pytest.raises(SnDeployError, match=r"--keep sn_1.*such as sn1"):
        keep.named_nodes(model, ["sn_1"])


def test_what_cannot_be_converted_is_refused(digits: Path) -> None:
    with pytest.raises(SnDeployError, match="'fp8' is no precision"):
        convert_precision(ir.load(digits), "fp8")
    model = ir.load(digits)
    convert_precision(model, "fp16", keep_io_types=False)
    with pytest.raises(SnDeployError, match="nothing of it can be put into fp16"):
        convert_precision(model, "fp16", keep_io_types=False)
    between = ir.load(digits)
    convert_precision(between, "fp16")
    with pytest.raises(SnDeployError, match="nothing of it"):
        convert_precision(between, "fp16")


def test_an_old_opset_without_bfloat16_is_refused() -> None:
    text = """<ir_version: 10, opset_import: ["": 14]> g (float[1, 8, 4, 4] x) => (float[1, 8, 4, 4] y)
    { y = Conv (x, w) }"""
    with pytest.raises(SnDeployError, match=r"opset 14 doesn't have the type.*--opset 22"):
        convert_precision(parsed(text, w=(8, 8, 1, 1)), "bf16")


def test_any_rank_and_form_stays_valid() -> None:
    # The functions' bodies take each type of X; a 2-d layer and a 4-d one in one graph share one.
    folded = make_case(
        (2, 8, 3, 3), "float32", ddof=1, mean_weights=(0.5, 0.3, 0.2), var_weights=(0.3, 0.5, 0.2), seed=1
    ).folded
    nodes, initializers = [], []
    for index, x in enumerate(("x", "flat")):
        names = [f"{name}{index}" for name in op.PARAMETERS]
        for name, array in zip(names, op.parameters_from_folded(folded).values(), strict=True):
            initializers.append(onnx.numpy_helper.from_array(array, name))
        attributes = op.attributes_from_folded(folded)
        if x == "flat":
            attributes |= {"mean_in": 0.0, "var_in": 0.0}
        nodes.append(
            onnx.helper.make_node(
                op.SWITCH_NORM, [x, *names], [f"y{index}"], f"n{index}", domain=op.DOMAIN, **attributes
            )
        )
    shapes = {"x": (2, 8, 3, 3), "flat": (2, 8)}
    graph = onnx.helper.make_graph(
        nodes,
        "g",
        [onnx.helper.make_tensor_value_info(name, 1, shape) for name, shape in shapes.items()],
        [onnx.helper.make_tensor_value_info(f"y{i}", 1, shape) for i, shape in enumerate(shapes.values())],
        initializers,
    )
    imports = [onnx.helper.make_opsetid("", 20), onnx.helper.make_opsetid(op.DOMAIN, op.VERSION)]
    proto = onnx.helper.make_model(graph, opset_imports=imports, ir_version=10)
    for precision in HALF_TYPES:
        model = ir.from_proto(proto)
        write_functions(model)
        convert_precision(model, precision, keep_io_types=False)
        checked(model)

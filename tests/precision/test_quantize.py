"""Convolutions in int8 and FP8: where Q/DQ nodes stand, what they hold, and that the numbers are those of the types."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import onnx
import onnx.reference
import onnx_ir as ir
import pytest
from onnx import numpy_helper

from sn_deploy.check.data.open import DataOptions
from sn_deploy.errors import CheckFailedError, SnDeployError
from sn_deploy.graph import op
from sn_deploy.graph.quantize import FORMATS, quantize_convolutions
from sn_deploy.inline import inline
from sn_deploy.precision import quantization, quantize
from sn_deploy.precision.samples import SampleOptions
from sn_deploy.runtime.ort import OrtSession
from sn_deploy.specialise import specialise
from tests import switch_norm_file
from tests.optimise.nets import Net
from tests.precision.nets import bounded_net, parallel_net, residual_net

FLOAT_TYPES = {"fp32": onnx.TensorProto.FLOAT, "fp16": onnx.TensorProto.FLOAT16, "bf16": onnx.TensorProto.BFLOAT16}


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return residual_net(tmp_path / "net.onnx")


@pytest.fixture
def samples(tmp_path: Path) -> SampleOptions:
    np.save(tmp_path / "x.npy", np.random.default_rng(5).normal(size=(16, 3, 8, 8)).astype(np.float32))
    return SampleOptions(DataOptions(str(tmp_path / "x.npy")))


def producers(proto: onnx.ModelProto) -> dict[str, onnx.NodeProto]:
    return {name: node for node in proto.graph.node for name in node.output}


def initializers(proto: onnx.ModelProto) -> dict[str, onnx.TensorProto]:
    return {tensor.name: tensor for tensor in proto.graph.initializer}


def run(path: Path, x: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    with OrtSession(path, native=False) as session:
        (y,) = session.run({"x": x}).values()
    return y.astype(np.float64)


@pytest.mark.parametrize("float_type", FLOAT_TYPES)
@pytest.mark.parametrize("precision", FORMATS)
def test_pairs_stand_before_convolutions_and_nowhere_else(
    source: Path, samples: SampleOptions, tmp_path: Path, precision: str, float_type: str
) -> None:
    report = quantize(source, tmp_path / "q.onnx", precision=precision, float_type=float_type, samples=samples)
    assert len(report.quantized.nodes) == 3
    assert not report.quantized.left
    proto = onnx.load(tmp_path / "q.onnx")
    onnx.checker.check_model(proto, full_check=True)
    made, stored = producers(proto), initializers(proto)
    form, element_type = FORMATS[precision], FLOAT_TYPES[float_type]
    for node in proto.graph.node:
        if node.domain == op.DOMAIN:
            # X and the residual come from convolutions and layers, in the float type; the parameters are float32.
            assert {made[name].op_type for name in (node.input[0], *node.input[5:])} <= {"Conv", *op.OP_TYPES}
            assert {stored[name].data_type for name in node.input[1:5]} == {1}
        if node.op_type == "Conv":
            (x, weight) = (made[name] for name in node.input[:2])
            assert (x.op_type, weight.op_type) == ("DequantizeLinear", "DequantizeLinear")
            q = made[x.input[0]]
            assert q.op_type == "QuantizeLinear"
            assert q.input[1] == x.input[1]  # one scale for both
            assert stored[q.input[1]].data_type == element_type
            assert not stored[q.input[1]].dims
            assert stored[weight.input[0]].data_type == int(form.dtype)
            assert list(stored[weight.input[1]].dims) == [stored[weight.input[0]].dims[0]]
            assert {helper.name: helper.i for helper in weight.attribute} == {"axis": 0}
            for name in (*q.input[2:], *x.input[2:], *weight.input[2:]):
                assert not numpy_helper.to_array(stored[name]).any()  # symmetric
    counts = [node.op_type for node in proto.graph.node]
    assert (counts.count("QuantizeLinear"), counts.count("DequantizeLinear")) == (3, 6)
    # No float copy of a quantized weight is left.
    assert not [
        tensor for tensor in proto.graph.initializer if len(tensor.dims) == 4 and tensor.data_type == element_type
    ]


@pytest.mark.parametrize("precision", FORMATS)
def test_numbers_are_those_of_the_types(source: Path, samples: SampleOptions, tmp_path: Path, precision: str) -> None:
    """ONNX's own evaluator, ONNX Runtime with its optimisations, and the report agree; a coarser type costs more."""
    report = quantize(source, tmp_path / "q.onnx", precision=precision, samples=samples, method="minmax")
    x = np.load(tmp_path / "x.npy")
    expected, actual = run(source, x), run(tmp_path / "q.onnx", x)
    (by_definition,) = onnx.reference.ReferenceEvaluator(str(tmp_path / "q.onnx")).run(None, {"x": x})
    size = np.linalg.norm(expected)
    assert np.linalg.norm(actual - expected) / size == pytest.approx(report.proof.rel_l2, rel=1e-3)
    # A value that is rounded the other way on a tie moves a unit of its type: far less than the types cost.
    assert np.linalg.norm(actual - by_definition) < 0.2 * np.linalg.norm(actual - expected)
    cost = {"int8": (2e-3, 3e-2), "fp8": (1e-2, 1e-1)}[precision]
    assert cost[0] < report.proof.rel_l2 < cost[1]


@pytest.mark.parametrize("scales", ["fp32", "fp16", "bf16"])
@pytest.mark.parametrize("precision", FORMATS)
def test_weights_are_within_half_a_step(precision: str, scales: str) -> None:
    """Each weight is as near as its type allows, whatever the scale's own type, and none is saturated."""
    form = FORMATS[precision]
    generator = np.random.default_rng(2)
    sizes = np.float32(10.0) ** generator.uniform(-6, 2, size=(32, 1, 1, 1))
    weight = (generator.normal(size=(32, 4, 3, 3)) * sizes).astype(np.float32)
    weight[3] = 0
    text = """<ir_version: 10, opset_import: ["": 21]> g (float[1, 4, 8, 8] x) => (float[1, 32, 6, 6] y)
    { y = Conv (x, w) }"""
    proto = onnx.parser.parse_model(text)
    proto.graph.initializer.append(numpy_helper.from_array(weight, "w"))
    model = ir.from_proto(proto)
    quantize_convolutions(model, precision, {"x": 3.0}, scales=scales)
    stored = {name: value.const_value for name, value in model.graph.initializers.items()}
    q, scale = (stored[f"w_{part}"] for part in ("quantized", "scale"))
    assert q is not None
    assert scale is not None
    own = {"fp32": np.float32, "fp16": np.float16, "bf16": ml_dtypes.bfloat16}[scales]
    steps = scale.numpy()
    np.testing.assert_array_equal(steps, steps.astype(own).astype(np.float32))  # exact in the type it goes to
    assert (steps > 0).all()
    values = q.numpy().astype(np.float64) * steps.astype(np.float64).reshape(-1, 1, 1, 1)
    error = np.abs(values - weight)
    if precision == "int8":
        assert (error <= 0.5001 * steps.reshape(-1, 1, 1, 1)).all()
    else:  # 3 bits of mantissa; below 2^-6 a step of 2^-9
        bound = np.maximum(np.abs(weight) * 2.0**-4, steps.reshape(-1, 1, 1, 1) * 2.0**-10)
        assert (error <= 1.001 * bound).all()
    used = np.abs(q.numpy().astype(np.float64)).max((1, 2, 3))[np.arange(32) != 3]
    assert (used <= form.largest).all()
    if scales == "fp32":
        assert (used == form.largest).all()


def test_transposed_and_matrix_weights_have_the_right_axis() -> None:
    text = """<ir_version: 10, opset_import: ["": 21]> g (float[2, 6, 1, 1] x) => (float[2, 5] y, float[2, 5] z) {
        up = ConvTranspose (x, w)
        flat = Flatten (up)
        y = Gemm <transB = 1> (flat, a)
        z = Gemm (flat, b) }"""
    proto = onnx.parser.parse_model(text)
    generator = np.random.default_rng(3)
    for name, shape in {"w": (6, 4, 1, 1), "a": (5, 4), "b": (4, 5)}.items():
        # Output channels of very different sizes: one scale for the wrong axis would lose the small ones.
        array = (
            generator.normal(size=shape)
            * 10.0 ** np.arange(-3, shape[1] - 3).reshape((1, -1) + (1,) * (len(shape) - 2))
            if name != "a"
            else generator.normal(size=shape) * 10.0 ** np.arange(-3, 2).reshape(-1, 1)
        )
        proto.graph.initializer.append(numpy_helper.from_array(array.astype(np.float32), name))
    for node in proto.graph.node:
        node.name = node.output[0]
    before = onnx.reference.ReferenceEvaluator(proto)
    x = generator.normal(size=(2, 6, 1, 1)).astype(np.float32)
    model = ir.from_proto(onnx.shape_inference.infer_shapes(proto))
    quantize_convolutions(model, "int8", {"x": np.abs(x).max(), "flat": 100.0})
    (node,) = (node for node in model.graph if node.op_type == "ConvTranspose")
    after = ir.to_proto(model)
    onnx.checker.check_model(after, full_check=True)
    weights = onnx.reference.ReferenceEvaluator(after)
    for name in ("w", "a", "b"):
        values = numpy_helper.to_array(initializers(after)[f"{name}_quantized"]).astype(np.float64)
        axis = {"w": 1, "a": 0, "b": 1}[name]
        scale = numpy_helper.to_array(initializers(after)[f"{name}_scale"])
        original = numpy_helper.to_array(initializers(proto)[name])
        column = [1] * original.ndim
        column[axis] = -1
        np.testing.assert_allclose(values * scale.reshape(column), original, atol=0.51 * scale.max(), rtol=0.5)
        assert len(scale) == original.shape[axis]
    assert weights.run(None, {"x": x})[0].shape == before.run(None, {"x": x})[0].shape
    assert node.inputs[1] is not None


def test_a_tensor_that_several_read_is_quantized_once(samples: SampleOptions, tmp_path: Path) -> None:
    from tests.optimise.nets import Net

    net = Net(3, (8, 8))
    first = net.norm(net.conv("x", 8), relu=True)
    left, right = net.conv(first, 8), net.conv(first, 8, kernel=1)
    source = net.save(tmp_path / "net.onnx", net.norm(left, relu=True, residual=right))
    quantize(source, tmp_path / "q.onnx", precision="int8", samples=samples)
    proto = onnx.load(tmp_path / "q.onnx")
    assert [node.op_type for node in proto.graph.node].count("QuantizeLinear") == 2
    assert proto.opset_import[0].version == 17  # int8 with float32 needs no newer one


@pytest.mark.parametrize(
    ("options", "left"),
    [
        ({"keep_first": True}, ["node_conv_3"]),
        ({"keep_last": True}, ["node_conv_19"]),
        ({"keep": ["layer_*"]}, None),
        ({"keep": ["node_conv_3", "layer_20"]}, ["node_conv_3", "node_conv_19"]),
    ],
)
def test_parts_can_be_left(
    source: Path, samples: SampleOptions, tmp_path: Path, options: dict[str, Any], left: list[str] | None
) -> None:
    names = [node.name for node in onnx.load(source).graph.node if node.op_type == "Conv"]
    if left is None:
        with pytest.raises(SnDeployError, match="nothing of it can be quantized: kept by keep"):
            quantize(source, tmp_path / "q.onnx", precision="int8", samples=samples, **options)
        return
    report = quantize(source, tmp_path / "q.onnx", precision="int8", samples=samples, **options)
    expected = [names[0]] if left == ["node_conv_3"] else [names[-1]] if len(left) == 1 else [names[0], names[-1]]
    assert list(report.quantized.left) == expected
    assert set(report.quantized.left.values()) == {"kept by keep, keep_first=True or keep_last=True"}


@pytest.mark.parametrize("fault", ["scale", "weights", "range"])
def test_a_wrong_graph_is_not_written(
    source: Path, samples: SampleOptions, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    """The planted faults: limits that the format explains find what a quantizer could get wrong."""

    def spoiled(model: ir.Model, precision: str, ranges: dict[str, float], **options: Any) -> Any:
        if fault == "range":
            return quantize_convolutions(model, precision, {name: v / 8 for name, v in ranges.items()}, **options)
        done = quantize_convolutions(model, precision, ranges, **options)
        stored = dict(model.graph.initializers.items())
        weights = [
            name for name, value in stored.items() if name.endswith("_quantized") and len(value.shape or ()) == 4
        ]
        last = weights[-1].removesuffix("_quantized")
        value = stored[f"{last}_quantized" if fault == "weights" else f"{last}_scale"]
        assert value.const_value is not None
        array = value.const_value.numpy()
        changed = array * np.linspace(0.5, 2, len(array)) if fault == "scale" else np.roll(array, 1, 0)
        value.const_value = ir.tensor(changed.astype(array.dtype), name=value.name)
        return done

    quantize(source, tmp_path / "right.onnx", precision="int8", samples=samples, max_rel_l2=0.03)
    monkeypatch.setattr(quantization, "quantize_convolutions", spoiled)
    with pytest.raises(CheckFailedError, match=r"differs by .*keep_first=True"):
        quantize(source, tmp_path / "q.onnx", precision="int8", samples=samples, max_rel_l2=0.03)
    assert not (tmp_path / "q.onnx").exists()


@pytest.mark.parametrize("method", ["minmax", "percentile", pytest.param("entropy", marks=pytest.mark.slow)])
def test_ranges_are_those_of_the_data(source: Path, samples: SampleOptions, tmp_path: Path, method: str) -> None:
    report = quantize(source, tmp_path / "q.onnx", precision="int8", samples=samples, method=method)
    largest = float(np.abs(np.load(tmp_path / "x.npy")).max())
    if method == "minmax":
        assert report.quantized.ranges["x"] == pytest.approx(largest)
    else:
        assert 0.4 * largest < report.quantized.ranges["x"] <= 1.01 * largest
    assert len(report.quantized.ranges) == 3


def test_what_cannot_be_quantized(source: Path, samples: SampleOptions, tmp_path: Path) -> None:
    output = tmp_path / "q.onnx"
    with pytest.raises(SnDeployError, match="'int4' is no such precision"):
        quantize(source, output, precision="int4")
    with pytest.raises(SnDeployError, match="unknown method 'guess'"):
        quantize(source, output, precision="int8", method="guess")
    with pytest.raises(SnDeployError, match="'fp64' is no type"):
        quantize(source, output, precision="int8", float_type="fp64")
    np.save(tmp_path / "nan.npy", np.full((2, 3, 8, 8), np.nan, np.float32))
    with pytest.raises(SnDeployError, match=r"isn't finite|not finite|no ranges can be taken"):
        quantize(source, output, precision="int8", samples=SampleOptions(DataOptions(str(tmp_path / "nan.npy"))))
    # Of the file that was given, not of the one that is made for the calibration.
    with pytest.raises(SnDeployError, match=rf"^{re.escape(str(source))}: no ranges can be taken"):
        quantize(
            source,
            output,
            precision="int8",
            samples=SampleOptions(DataOptions(str(tmp_path / "nan.npy"))),
            method="entropy",
        )
    from sn_deploy.precision import convert_precision

    convert_precision(source, tmp_path / "half.onnx", precision="fp16")
    with pytest.raises(SnDeployError, match=r"half\.onnx: its convolutions compute in float16.*give the float32 file"):
        quantize(tmp_path / "half.onnx", output, precision="int8", samples=samples)
    assert not output.exists()


def test_where_nothing_can_be_quantized_nothing_is_calibrated(source: Path, tmp_path: Path) -> None:
    with pytest.raises(SnDeployError, match=r"nothing of it can be quantized: kept by"):
        quantize(source, tmp_path / "q.onnx", precision="int8", keep=["Conv"])
    onnx.save(switch_norm_file.model([switch_norm_file.node("sn", "x", "y")]), tmp_path / "layer.onnx")
    inline(tmp_path / "layer.onnx", tmp_path / "layer.onnx")
    with pytest.raises(SnDeployError, match=r"nothing of it can be quantized: it has no Conv"):
        quantize(tmp_path / "layer.onnx", tmp_path / "q.onnx", precision="int8")


def test_a_quantized_file_is_neither_quantized_nor_specialised_again(
    source: Path, samples: SampleOptions, tmp_path: Path
) -> None:
    quantize(source, tmp_path / "int8.onnx", precision="int8", samples=samples)
    with pytest.raises(SnDeployError, match="nothing of it can be quantized: it is quantized already"):
        quantize(tmp_path / "int8.onnx", tmp_path / "again.onnx", precision="int8", samples=samples)
    with pytest.raises(SnDeployError, match=r"int8\.onnx: computes in int8 .*specialise the float file"):
        specialise(tmp_path / "int8.onnx", tmp_path / "again.onnx")
    assert not (tmp_path / "again.onnx").exists()


def test_the_limit_on_classes_holds(source: Path, samples: SampleOptions, tmp_path: Path) -> None:
    report = quantize(source, tmp_path / "q.onnx", precision="int8", samples=samples, min_top1_agreement=0.5)
    worse = dataclasses.replace(report.proof, top1_agreement=dict.fromkeys(report.proof.top1_agreement, 0.49))
    with pytest.raises(CheckFailedError, match=r"the class is the same for 49% of 16 samples .*at least 50%"):
        quantization._hold_limits(worse, source, None, 0.5)


def test_a_limit_on_classes_needs_classes(tmp_path: Path) -> None:
    net = Net(3, (8, 8))
    onnx.save(net.model(net.conv("x", 4)), tmp_path / "segmentation.onnx")
    with pytest.raises(SnDeployError, match=r"min_top1_agreement: no output is scores, \(samples, classes\)"):
        quantize(tmp_path / "segmentation.onnx", tmp_path / "q.onnx", precision="int8", min_top1_agreement=0.9)
    assert not (tmp_path / "q.onnx").exists()


def test_a_value_beyond_the_float_type_is_refused(tmp_path: Path) -> None:
    """What masks would be infinite, and the difference of two such NaN on other data than the proof's."""
    source = bounded_net(tmp_path / "net.onnx", op_type="Where", bound=-1e9)
    output = tmp_path / "q.onnx"
    with pytest.raises(CheckFailedError, match=r"node_where.*beyond 65504.*float_type='bf16' or fp32"):
        quantize(source, output, precision="int8", float_type="fp16")
    assert not output.exists()
    quantize(source, output, precision="int8", float_type="bf16")


@pytest.mark.parametrize("float_type", ["fp32", "fp16"])
def test_names_that_the_file_has_are_left_to_it(tmp_path: Path, float_type: str) -> None:
    values = ["x_quantized", "x_dequantized", "x_scale", "x_zero"]
    names = ["quantize_x", "dequantize_x", "dequantize_constant_1", "cast_x_half", "cast_add_12"]
    source = parallel_net(tmp_path / "net.onnx", values=values, names=names)
    report = quantize(source, tmp_path / "q.onnx", precision="int8", float_type=float_type)
    assert report.proof.rel_l2 < 0.1
    made = onnx.load(tmp_path / "q.onnx")
    assert set(names) < {node.name for node in made.graph.node}
    named = [node.name for node in made.graph.node if node.name]
    assert len(set(named)) == len(named)


def test_a_raised_file_need_not_state_its_shapes(source: Path, samples: SampleOptions, tmp_path: Path) -> None:
    stripped = onnx.load(source)
    assert stripped.opset_import[0].version < FORMATS["fp8"].min_opset
    del stripped.graph.value_info[:]
    onnx.save(stripped, tmp_path / "stripped.onnx")
    quantize(tmp_path / "stripped.onnx", tmp_path / "q.onnx", precision="fp8", samples=samples)
    quantize(source, tmp_path / "stated.onnx", precision="fp8", samples=samples)
    x = np.random.default_rng(6).normal(size=(2, 3, 8, 8)).astype(np.float32)
    np.testing.assert_array_equal(run(tmp_path / "q.onnx", x), run(tmp_path / "stated.onnx", x))

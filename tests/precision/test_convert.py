"""Files in half precision, proved before they are written; every proof fails where it has to."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import onnx
import onnx.parser
import onnx.reference
import onnx_ir as ir
import pytest
from onnx import numpy_helper

from sn_deploy.check.data.open import DataOptions
from sn_deploy.compare.tolerances import TOLERANCES
from sn_deploy.errors import CheckFailedError, SnDeployError
from sn_deploy.graph.emulate_half import emulate_half
from sn_deploy.graph.inference import infer_shapes
from sn_deploy.graph.layers import switch_norm_nodes
from sn_deploy.graph.precision import convert_precision as convert_graph
from sn_deploy.precision import convert_precision, quantize, run
from sn_deploy.precision.proof import hold_tolerance
from sn_deploy.precision.samples import SampleOptions, open_samples
from sn_deploy.runtime.ort import OrtSession
from sn_deploy.runtime.tensors import TensorInfo
from sn_deploy.specialise import Budget, specialise
from tests.precision.nets import bounded_net, embedding_net, indices_net, parallel_net, residual_net

DTYPES = {"fp16": "float16", "bf16": "bfloat16"}


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return residual_net(tmp_path / "net.onnx")


def array_data(tmp_path: Path, scale: float = 1.0, samples: int = 6) -> SampleOptions:
    x = np.random.default_rng(5).normal(size=(samples, 3, 8, 8)).astype(np.float32) * np.float32(scale)
    np.save(tmp_path / "x.npy", x)
    return SampleOptions(DataOptions(str(tmp_path / "x.npy")))


@pytest.mark.parametrize("precision", ["fp16", "bf16"])
def test_a_file_is_half_as_large_and_proved(source: Path, tmp_path: Path, precision: str) -> None:
    report = convert_precision(source, tmp_path / "half.onnx", precision=precision, check_range=True)
    assert report.bytes < 0.85 * report.bytes_before  # the functions take much of so small a file
    (parity,) = report.proof.outputs.values()
    assert TOLERANCES["float32"].rel_l2 < parity.rel_l2 < TOLERANCES[DTYPES[precision]].rel_l2 / 4
    assert report.proof.samples == 8
    assert set(report.proof.top1_agreement.values()) <= {n / 8 for n in range(9)}
    assert report.conversion.opset == (20 if precision == "fp16" else 22)
    assert len(report.ranges) == len(report.conversion.converted)
    onnx.checker.check_model(tmp_path / "half.onnx", full_check=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["half.onnx", "net.onnx"]


def test_embeddings_have_a_direction_and_no_class(tmp_path: Path) -> None:
    """The largest element of a face's vector was told as its class."""
    source = embedding_net(tmp_path / "net.onnx")
    report = convert_precision(source, tmp_path / "half.onnx", precision="fp16", samples=array_data(tmp_path))
    assert not report.proof.top1_agreement
    (cosine,) = report.proof.cosine.values()
    assert 0.9999 < cosine < 1
    assert "cosine at least 0.9999" in str(report)
    options: dict[str, Any] = {"precision": "int8", "samples": array_data(tmp_path)}
    assert quantize(source, tmp_path / "int8.onnx", **options).proof.cosine
    with pytest.raises(SnDeployError, match="min_top1_agreement: no output is scores"):
        quantize(source, tmp_path / "q.onnx", min_top1_agreement=0.9, **options)
    choice: dict[str, Any] = {"budget": Budget(top1=0.1), "data": DataOptions(str(tmp_path / "x.npy"), batch_size=3)}
    with pytest.raises(SnDeployError, match=r"budget top1: the outputs are .*expected one output of scores"):
        specialise(source, tmp_path / "s.onnx", **choice)


def test_the_figure_is_that_of_a_net_that_rounds(source: Path, tmp_path: Path) -> None:
    """Against ONNX's own evaluator, which computes fp16 in NumPy's fp16."""
    samples = array_data(tmp_path)
    report = convert_precision(source, tmp_path / "half.onnx", precision="fp16", samples=samples)
    x = np.load(tmp_path / "x.npy")
    with OrtSession(source, native=False) as session:
        (expected,) = session.run({"x": x}).values()
    (actual,) = onnx.reference.ReferenceEvaluator(str(tmp_path / "half.onnx")).run(None, {"x": x})
    error = np.linalg.norm(actual.astype(np.float64) - expected) / np.linalg.norm(expected)
    # Sums in fp16 cost NumPy more; the same roundings between operators cost both.
    assert 0.4 * error < report.proof.rel_l2 < 1.2 * error


def test_largest_values_are_those_of_the_net(source: Path, tmp_path: Path) -> None:
    report = convert_precision(
        source, tmp_path / "half.onnx", precision="fp16", samples=array_data(tmp_path), check_range=True
    )
    model = onnx.load(source)
    names = {node.name: node.output[0] for node in model.graph.node}
    x = np.load(tmp_path / "x.npy")
    for one in report.ranges:
        cut = onnx.utils.Extractor(model).extract_model(["x"], [names[one.node]])
        (tmp_path / "cut.onnx").write_bytes(cut.SerializeToString())
        with OrtSession(tmp_path / "cut.onnx", native=False) as session:
            (value,) = session.run({"x": x}).values()
        assert one.largest == pytest.approx(np.abs(value).max(), rel=1e-5), one.node


def test_weights_beyond_the_range_are_named_and_can_be_kept(tmp_path: Path) -> None:
    source = residual_net(tmp_path / "net.onnx", change="constant_1", factor=1e8)
    output = tmp_path / "half.onnx"
    with pytest.raises(CheckFailedError, match=r"node node_conv_3: weight 'constant_1' has 1 of 432 values") as caught:
        convert_precision(source, output, precision="fp16")
    assert not output.exists()
    (kept,) = re.findall(r"keep=\['([^']+)'\]", str(caught.value))
    assert kept == "node_conv_3"
    assert convert_precision(source, tmp_path / "b.onnx", precision="bf16").proof.rel_l2 < 0.06  # the way out, too


def test_an_output_of_a_kept_node_becomes_half_too(source: Path, tmp_path: Path) -> None:
    convert_precision(source, tmp_path / "half.onnx", precision="fp16", keep=["Flatten"], keep_io_types=False)
    (before,), made = onnx.load(source).graph.output, onnx.load(tmp_path / "half.onnx")
    onnx.checker.check_model(made, full_check=True)
    (after,) = made.graph.output
    assert (after.name, after.type.tensor_type.elem_type) == (before.name, onnx.TensorProto.FLOAT16)
    assert [node.op_type for node in made.graph.node[-2:]] == ["Flatten", "Cast"]


@pytest.mark.parametrize("named", ["", "emulated_0"])
def test_nodes_need_no_names(tmp_path: Path, named: str) -> None:
    """Two read one tensor; ONNX Runtime takes no name twice."""
    source = parallel_net(tmp_path / "net.onnx", names=[named])
    assert convert_precision(source, tmp_path / "half.onnx", precision="fp16").proof.rel_l2 < 0.002


def test_a_file_whose_inputs_are_half_already(tmp_path: Path) -> None:
    """Random samples are float32, and were refused."""
    text = """<ir_version: 8, opset_import: ["": 18]> g (float16[N, 8] x) => (float16[N, 4] y) <float[8, 4] w> {
        wide = Cast <to = 1> (x)  made = MatMul (wide, w)  y = Cast <to = 10> (made) }"""
    model = onnx.parser.parse_model(text)
    w = np.random.default_rng(0).normal(size=(8, 4)).astype(np.float32)
    model.graph.initializer.append(numpy_helper.from_array(w, "w"))
    onnx.save(model, tmp_path / "in.onnx")
    report = convert_precision(tmp_path / "in.onnx", tmp_path / "out.onnx", precision="fp16")
    x = np.random.default_rng(1).normal(size=(3, 8)).astype(np.float16)
    with OrtSession(tmp_path / "out.onnx") as session:
        np.testing.assert_allclose(session.run({"x": x})["y"], x.astype(np.float64) @ w, rtol=0.01, atol=0.01)
    assert report.conversion.converted


@pytest.mark.parametrize("keep_io_types", [True, False])
def test_an_output_that_is_there_twice_keeps_its_name(source: Path, tmp_path: Path, keep_io_types: bool) -> None:
    """The second one was called OUTPUT_half."""
    net = onnx.load(source)
    net.graph.output.append(net.graph.output[0])
    onnx.save(net, source)
    keep = [] if keep_io_types else ["Flatten"]  # what makes it, in float32
    convert_precision(source, tmp_path / "out.onnx", precision="fp16", keep=keep, keep_io_types=keep_io_types)
    made = onnx.load(tmp_path / "out.onnx").graph
    assert [one.name for one in made.output] == [one.name for one in net.graph.output]
    wanted = onnx.TensorProto.FLOAT if keep_io_types else onnx.TensorProto.FLOAT16
    assert {one.type.tensor_type.elem_type for one in made.output} == {wanted}


@pytest.mark.parametrize("precision", ["fp16", "bf16"])
def test_indices_are_shares_that_changed(tmp_path: Path, precision: str) -> None:
    source = indices_net(tmp_path / "net.onnx")
    report = convert_precision(source, tmp_path / "half.onnx", precision=precision, keep_io_types=False)
    made = onnx.load(tmp_path / "half.onnx")
    onnx.checker.check_model(made, full_check=True)
    (node,) = [node for node in made.graph.node if node.op_type == "NonMaxSuppression"]
    casts = {node.output[0] for node in made.graph.node if node.op_type == "Cast"}
    assert set(node.input[:2]) <= casts
    assert list(report.proof.changed) == [value.name for value in made.graph.output[1:]]
    assert max(report.proof.changed.values()) < 5 * TOLERANCES[DTYPES[precision]].rel_l2
    assert list(report.proof.outputs) == [made.graph.output[0].name]
    worse = dataclasses.replace(report.proof, changed={"argmax": 0.4})
    with pytest.raises(CheckFailedError, match=r"net.onnx, output argmax: 40% of it changed .*at most 30%"):
        hold_tolerance(worse, 1.0, 0.3, where="net.onnx", mend="")


@pytest.mark.parametrize("precision", ["fp16", "bf16"])
def test_a_bound_that_the_type_cannot_reach_is_none(tmp_path: Path, precision: str) -> None:
    largest = float(np.finfo(np.float32).max)
    source = bounded_net(tmp_path / "net.onnx", op_type="Clip", bound=largest)
    report = convert_precision(source, tmp_path / "half.onnx", precision=precision)
    assert report.proof.rel_l2 < TOLERANCES[DTYPES[precision]].rel_l2
    source = bounded_net(tmp_path / "net.onnx", op_type="Where", bound=-largest)
    with pytest.raises(CheckFailedError, match=r"has 1 of 1 values beyond .*keep=\['node_where") as caught:
        convert_precision(source, tmp_path / "half.onnx", precision=precision)
    assert ("precision='bf16'" in str(caught.value)) == (precision == "fp16")


def test_activations_beyond_the_range_are_named(tmp_path: Path) -> None:
    # Only the first layer's input is large: SN makes it small again, and a kept convolution and layer do as well.
    source = residual_net(tmp_path / "net.onnx")
    large = array_data(tmp_path, scale=3e4)
    output = tmp_path / "half.onnx"
    with pytest.raises(CheckFailedError, match=r"node node_conv_3: its output gets to \d+"):
        convert_precision(source, output, precision="fp16", samples=large, check_range=True)
    unnamed = onnx.load(source)
    for node in unnamed.graph.node:
        node.name = ""
    onnx.save(unnamed, tmp_path / "unnamed.onnx")
    with pytest.raises(CheckFailedError, match=r"node Conv: its output gets to \d+.*keep=\['Conv'\]"):
        convert_precision(tmp_path / "unnamed.onnx", output, precision="fp16", samples=large, check_range=True)
    with pytest.raises(CheckFailedError, match=r"not finite where the source's is.*check_range=True"):
        convert_precision(source, output, precision="fp16", samples=large)
    assert not output.exists()
    report = convert_precision(
        source,
        output,
        precision="fp16",
        samples=large,
        check_range=True,
        keep=["layer_4"],
        keep_convolutions=True,
    )
    assert "node_conv_3" in report.conversion.kept


@pytest.mark.parametrize("fault", ["scale", "weight", "attribute"])
def test_a_wrong_graph_is_not_written(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    """The planted faults: what a conversion could get wrong is seen by its proof."""

    def spoiled(model: ir.Model, *arguments: Any, **options: Any) -> Any:
        conversion = convert_graph(model, *arguments, **options)
        node = switch_norm_nodes(model)[-1]
        if fault == "attribute":
            node.attributes["var_ln"] = ir.AttrFloat32("var_ln", 0.1)
        else:
            value = node.inputs[1] if fault == "scale" else node.inputs[0].producer().inputs[1]  # type: ignore[union-attr]
            assert value is not None
            assert value.const_value is not None
            array = value.const_value.numpy().copy()
            array[0] *= 1.5
            value.const_value = ir.tensor(array, name=value.name)
        return conversion

    monkeypatch.setattr(run, "convert_graph", spoiled)
    with pytest.raises(CheckFailedError, match=r"differs by .*expected at most 7\.81e-03"):
        convert_precision(source, tmp_path / "half.onnx", precision="fp16")
    assert not (tmp_path / "half.onnx").exists()


@pytest.mark.parametrize("precision", ["fp16", "bf16"])
def test_emulation_rounds_every_tensor(source: Path, tmp_path: Path, precision: str) -> None:
    """ONNX Runtime alone leaves roundings out; with the casts each convolution's output has the bits of its type."""
    model = ir.load(source)
    convert_graph(model, precision)
    expected = sum(
        node.domain == "" and node.op_type not in ("Cast", "Identity", "Reshape", "Shape") for node in model.graph
    )
    assert emulate_half(model) == expected
    onnx.checker.check_model(ir.to_proto(model), full_check=True)
    model.graph.outputs.clear()
    for node in list(model.graph):
        if node.op_type == "Conv":
            (rounded,) = node.outputs[0].consumers()
            assert rounded.op_type == "Cast"
            (read,) = (ir.node("Cast", [rounded.outputs[0]], {"to": 1}) for _ in range(1))
            read.outputs[0].name = f"seen_{node.name}"
            read.outputs[0].type = ir.TensorType(ir.DataType.FLOAT)
            model.graph.append(read)
            model.graph.outputs.append(read.outputs[0])
    ir.save(model, tmp_path / "seen.onnx")
    with OrtSession(tmp_path / "seen.onnx", native=False) as session:
        seen = session.run({"x": np.random.default_rng(5).normal(size=(2, 3, 8, 8)).astype(np.float32)})
    assert len(seen) == 3
    for value in seen.values():
        dtype = np.dtype(np.float16 if precision == "fp16" else ml_dtypes.bfloat16)
        np.testing.assert_array_equal(value, value.astype(dtype).astype(np.float32))


def test_what_makes_half_tensors_of_none_makes_them_in_the_emulation_too() -> None:
    model = ir.from_proto(
        onnx.parser.parse_model(
            """<ir_version: 10, opset_import: ["": 20]> g (float16[2, 8] x, bool c) => (float16[2, 8] y) {
            s = Shape (x)
            k = ConstantOfShape <value = float[1] {1.5}> (s)
            e = EyeLike <dtype = 10> (x)
            b = If (c) <then_branch = t () => (float16[2, 8] p) { p = Add (k, e) },
                        else_branch = f () => (float16[2, 8] q) { q = Neg (k) }>
            y = Mul (b, x) }"""
        )
    )
    made = next(node for node in model.graph if node.op_type == "ConstantOfShape")
    made.attributes["value"] = ir.AttrTensor("value", ir.tensor(np.array([1.5], np.float16)))
    infer_shapes(model)
    x = np.random.default_rng(0).normal(size=(2, 8)).astype(np.float16)
    feeds = {"x": x, "c": np.array(True)}
    wanted = onnx.reference.ReferenceEvaluator(ir.to_proto(model)).run(None, feeds)
    assert emulate_half(model) == 2  # EyeLike and Mul
    onnx.checker.check_model(ir.to_proto(model), full_check=True)
    np.testing.assert_array_equal(onnx.reference.ReferenceEvaluator(ir.to_proto(model)).run(None, feeds), wanted)


def test_external_data(source: Path, tmp_path: Path) -> None:
    large = residual_net(tmp_path / "large.onnx", channels=64)
    model = onnx.load(large)
    onnx.save(model, tmp_path / "outside.onnx", save_as_external_data=True, location="outside.bin", size_threshold=1024)
    report = convert_precision(tmp_path / "outside.onnx", tmp_path / "half.onnx", precision="fp16", external_data=True)
    assert report.data_path is not None
    assert report.bytes_before > report.bytes
    inside = convert_precision(large, tmp_path / "inside.onnx", precision="fp16")
    assert inside.proof.rel_l2 == report.proof.rel_l2
    loaded = {
        tensor.name: numpy_helper.to_array(tensor) for tensor in onnx.load(tmp_path / "half.onnx").graph.initializer
    }
    for tensor in onnx.load(tmp_path / "inside.onnx").graph.initializer:
        np.testing.assert_array_equal(numpy_helper.to_array(tensor), loaded[tensor.name])


def test_files_that_cannot_be_converted(source: Path, tmp_path: Path) -> None:
    before = source.read_bytes()
    with pytest.raises(SnDeployError, match="is the file to be converted"):
        convert_precision(source, source, precision="fp16")
    (tmp_path / "text.onnx").write_text("no model")
    with pytest.raises(SnDeployError, match=r"text\.onnx: is cut off, damaged or no ONNX file"):
        convert_precision(tmp_path / "text.onnx", tmp_path / "half.onnx", precision="fp16")
    other = onnx.parser.parse_model(
        '<ir_version: 8, opset_import: ["o": 1]> g (float[1] x) => (float[1] y) { y = o.F (x) }'
    )
    onnx.save(other, tmp_path / "text.onnx")
    with pytest.raises(SnDeployError, match=r"text.onnx: imports no standard operators"):
        convert_precision(tmp_path / "text.onnx", tmp_path / "half.onnx", precision="fp16")
    with pytest.raises(SnDeployError, match=r"there is no such file"):
        convert_precision(tmp_path / "none.onnx", tmp_path / "half.onnx", precision="fp16")
    with pytest.raises(SnDeployError, match=r"folder doesn't exist"):
        convert_precision(source, tmp_path / "no" / "half.onnx", precision="fp16")
    assert source.read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["net.onnx", "text.onnx"]


def test_open_axes_need_a_size(tmp_path: Path) -> None:
    source = residual_net(tmp_path / "net.onnx", extents=("height", "width"))
    with pytest.raises(SnDeployError, match=r"no fixed size.*samples=\{\'x\': torch"):
        convert_precision(source, tmp_path / "half.onnx", precision="fp16")


def test_a_batch_that_the_file_fixes(tmp_path: Path) -> None:
    def opened(batch: int | str, limit: int | None = None, size: int | None = None, data: str = "random") -> list[int]:
        info = TensorInfo("x", (batch, 3, 8, 8), np.dtype(np.float32))
        source = open_samples(SampleOptions(DataOptions(data, size, limit)), [info])
        return [one.samples for one in source]

    assert opened("n") == [8]
    assert opened("n", 5, 2) == [2, 2, 1]
    assert opened(3) == opened(3, size=3) == [3]
    array_data(tmp_path, samples=16)
    arrays = str(tmp_path / "x.npy")
    assert opened(4, data=arrays) == [4] * 4
    assert opened(3, 9, data=arrays) == [3] * 3
    with pytest.raises(SnDeployError, match="--batch-size: is 2, and a file fixes the batch to 3"):
        opened(3, size=2)
    with pytest.raises(SnDeployError, match=r"16 samples are no whole batches of 3, .*; --limit 15"):
        opened(3, data=arrays)
    with pytest.raises(SnDeployError, match=r"16 samples are no whole batches of 17, .*; give more samples"):
        opened(17, data=arrays)

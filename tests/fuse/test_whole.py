"""The whole file against its source: a fault anywhere is refused, and what can't be run or told is none."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import TensorProto, helper, numpy_helper

from sn_deploy import child
from sn_deploy.compare import file_pair
from sn_deploy.compare.file_pair import Task
from sn_deploy.diff import diff
from sn_deploy.errors import CheckFailedError, SnDeployError
from sn_deploy.fuse import convert, fuse, whole
from sn_deploy.fuse import run as fuse_run
from tests.fuse.graphs import SHAPE, Graph, Layer, published
from tests.fuse.test_files import net

TOLERANCE = 2e-5


def model_of(build: Callable[[Graph, str], str], opset: int = 17, y: int = TensorProto.FLOAT) -> onnx.ModelProto:
    """A layer, and what ``build`` puts behind it."""
    g = Graph(opset=opset)
    out = build(g, published(g, "x", Layer(), SHAPE))
    model = g.model("x")
    model.graph.output[0].CopyFrom(helper.make_tensor_value_info(out, y, None))
    return model


def enlarged(g: Graph, y: str) -> str:
    """As files of opset 10 enlarge: by what Resize meant then."""
    return str(g("Resize", y, g.constant(np.array([1.0, 1.0, 1.5, 2.5])), mode="linear"))


def refused(model: onnx.ModelProto, folder: Path) -> CheckFailedError:
    """What is said of it, nothing being written."""
    onnx.save(model, folder / "in.onnx")
    with pytest.raises(CheckFailedError) as raised:
        fuse(folder / "in.onnx", folder / "out.onnx")
    assert [path.name for path in folder.iterdir()] == ["in.onnx"]
    return raised.value


def alter_weight(monkeypatch: pytest.MonkeyPatch, factor: float) -> None:
    """Makes `fuse` multiply one value of a convolution's weight."""
    tidy = fuse_run.tidy

    def alters(model: ir.Model) -> None:
        tidy(model)
        weight = model.graph.initializers["conv.weight"]
        assert weight.const_value is not None
        values = weight.const_value.numpy().copy()
        values.flat[0] *= values.dtype.type(factor)
        weight.const_value = ir.tensor(values, name="conv.weight")

    monkeypatch.setattr(fuse_run, "tidy", alters)


def test_an_old_file_is_compared_with_what_is_written(tmp_path: Path) -> None:
    onnx.save(model_of(enlarged, opset=10), tmp_path / "in.onnx")
    found = fuse(tmp_path / "in.onnx", tmp_path / "out.onnx").whole
    assert found.why_not is None
    assert found.inputs == {"x": "2×6×5×4"}
    assert found.rel_l2 is not None
    assert 0 < found.rel_l2 < 1e-6
    assert (found.tolerance, found.left_out) == (TOLERANCE, {})


def test_a_meaning_that_conversion_changes_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(convert, "_keep_meaning", lambda *arguments: None)
    error = refused(model_of(enlarged, opset=10), tmp_path)
    assert "in.onnx, output t" in str(error)
    assert "the fused graph differs from the source by" in error.what
    assert error.expected == "at most 2.0e-05"
    assert "run=False" in str(error.mend)


@pytest.mark.parametrize("external", [False, True])
def test_a_weight_that_changes_outside_a_layer_is_refused(
    external: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    onnx.save(net(), tmp_path / "in.onnx")
    (tmp_path / "out.onnx").write_bytes(b"the old one")
    alter_weight(monkeypatch, 1.001)
    monkeypatch.setattr("sn_deploy.graph.save._SMALLEST_EXTERNAL_BYTES", 100)
    with pytest.raises(CheckFailedError, match="the fused graph differs from the source by"):
        fuse(tmp_path / "in.onnx", tmp_path / "out.onnx", external_data=external)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.onnx", "out.onnx"]
    assert (tmp_path / "out.onnx").read_bytes() == b"the old one"
    unseen = fuse(tmp_path / "in.onnx", tmp_path / "out.onnx", external_data=external, run=False)
    assert unseen.whole.why_not == "it wasn't asked for"


def in_half(model: onnx.ModelProto, dtype: int) -> onnx.ModelProto:
    """All of it in a half type: what an exporter makes of ``model.half()``."""
    half = onnx.ModelProto.FromString(model.SerializeToString())
    half.opset_import[0].version, half.ir_version = 22, 10
    numpy_type = helper.tensor_dtype_to_np_dtype(dtype)
    for tensor in half.graph.initializer:
        if tensor.data_type == TensorProto.FLOAT:
            tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor).astype(numpy_type), tensor.name))
    for value in (*half.graph.input, *half.graph.output, *half.graph.value_info):
        value.type.tensor_type.elem_type = dtype
    return half


@pytest.mark.parametrize("dtype", [TensorProto.FLOAT16, TensorProto.BFLOAT16])
def test_half_precision_is_compared_in_float32(dtype: int, tmp_path: Path) -> None:
    """ONNX Runtime has no bfloat16 on the CPU; and what half allows hides a weight that changes by a thousandth."""
    onnx.save(in_half(net(opset=18), dtype), tmp_path / "in.onnx")
    found = fuse(tmp_path / "in.onnx", tmp_path / "out.onnx").whole
    assert (found.why_not, found.tolerance, found.in_float32) == (None, TOLERANCE, True)
    assert found.rel_l2 is not None
    assert found.rel_l2 < 1e-6


@pytest.mark.parametrize("dtype", [TensorProto.FLOAT16, TensorProto.BFLOAT16])
def test_a_change_below_half_precisions_rounding_is_refused(
    dtype: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    alter_weight(monkeypatch, 1.02)
    error = refused(in_half(net(opset=18), dtype), tmp_path)
    assert error.what.startswith("in float32, the fused graph differs from the source by")
    assert error.expected == "at most 2.0e-05"
    assert str(error.where).startswith(f"{tmp_path / 'in.onnx'}, output ")


def of_others(g: Graph, y: str) -> str:
    g.nodes.append(helper.make_node("Theirs", [y], ["theirs"], domain="someone"))
    return "theirs"


def is_large(g: Graph, y: str) -> str:
    """More than the memory that the other process may have."""
    size = g("Reshape", g("ReduceMax", g("Mul", g("Abs", "x"), g.constant(1e11))), g.constant(np.array([1])))
    many = g("ConstantOfShape", g("Cast", size, to=TensorProto.INT64))
    return str(g("Add", y, g("ReduceMax", many)))


def looks_up(g: Graph, y: str) -> str:
    """By numbers that are no indices where the input is random."""
    places = g("Cast", g("Mul", "x", g.constant(1e6)), to=TensorProto.INT64)
    return str(g("Gather", y, places, axis=1))


@pytest.mark.parametrize(
    ("build", "reason"),
    [
        (of_others, "the source can't be run: ONNX Runtime can't load it"),
        (looks_up, "indices element out of data"),
        (is_large, "running the source takes more than "),
    ],
)
def test_a_file_that_cannot_be_run_is_fused_with_a_note(
    build: Callable[[Graph, str], str], reason: str, tmp_path: Path
) -> None:
    g = Graph()
    y = build(g, published(g, "x", Layer(), SHAPE))
    graph = helper.make_graph(
        g.nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, SHAPE)],
        [helper.make_tensor_value_info(y, TensorProto.FLOAT, None if build is looks_up else SHAPE)],
        [numpy_helper.from_array(array, name) for name, array in g.weights.items()],
    )
    imports = [helper.make_opsetid("", 17), helper.make_opsetid("someone", 1)]
    onnx.save(helper.make_model(graph, opset_imports=imports, ir_version=8), tmp_path / "in.onnx")
    report = fuse(tmp_path / "in.onnx", tmp_path / "out.onnx")
    assert len(report.layers) == 1
    assert reason in str(report.whole.why_not)
    assert (tmp_path / "out.onnx").exists()


def test_what_takes_too_long_is_no_reason_to_refuse(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(whole, "_MOST_SECONDS", 0.01)
    onnx.save(net(), tmp_path / "in.onnx")
    report = fuse(tmp_path / "in.onnx", tmp_path / "out.onnx")
    assert report.whole.why_not == "running the files takes more than 0.01 s"
    assert report.path.exists()


def test_a_process_that_dies_is_no_reason_to_refuse(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    called = child.call
    dies = "sn_deploy.child:limit_memory"  # called with a text, it raises
    monkeypatch.setattr(child, "call", lambda function, *given, **limits: called(dies, "much", **limits))
    onnx.save(net(), tmp_path / "in.onnx")
    report = fuse(tmp_path / "in.onnx", tmp_path / "out.onnx")
    assert str(report.whole.why_not).startswith("the process that ran them ended with exit code 1: TypeError")
    assert report.path.exists()


def test_onnx_runtime_need_not_be_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    onnx.save(net(), tmp_path / "in.onnx")
    assert fuse(tmp_path / "in.onnx", tmp_path / "out.onnx").whole.why_not == "onnxruntime isn't installed"


def test_inputs_that_the_file_does_not_take_are_refused(tmp_path: Path) -> None:
    onnx.save(net(), tmp_path / "in.onnx")
    with pytest.raises(SnDeployError) as raised:
        fuse(tmp_path / "in.onnx", tmp_path / "out.onnx", inputs={"x": np.ones((2, 6, 5), np.float32)})
    assert "input x: has shape (2, 6, 5) (expected x: float32 (2, 6, 5, 4))" in str(raised.value)
    assert not (tmp_path / "out.onnx").exists()


def test_numbers_are_not_cut_to_the_type_of_an_input(tmp_path: Path) -> None:
    model = net()
    model.graph.input.append(helper.make_tensor_value_info("mask", TensorProto.BOOL, [2]))
    onnx.save(model, tmp_path / "in.onnx")
    for command in (
        lambda values: fuse(tmp_path / "in.onnx", tmp_path / "out.onnx", inputs=values),
        lambda values: diff(tmp_path / "in.onnx", tmp_path / "in.onnx", inputs=values),
    ):
        with pytest.raises(SnDeployError, match="input mask: has numbers of float64 that bool doesn't hold"):
            command({"mask": np.array([0.3, 1.0])})
        command({"mask": np.array([0, 1])})


def answer(before: onnx.ModelProto, after: onnx.ModelProto, folder: Path) -> dict[str, Any]:
    """What the other process says of two files; here in this one."""
    onnx.save(before, folder / "before.onnx")
    onnx.save(after, folder / "after.onnx")
    task = Task(str(folder / "before.onnx"), str(folder / "after.onnx"), None, (), TOLERANCE, 0, 0)
    try:
        return dict(file_pair.answer_to(task))
    except file_pair._AnswerError as known:
        return dict(known.answer)


def fused(model: onnx.ModelProto, folder: Path) -> onnx.ModelProto:
    onnx.save(model, folder / "in.onnx")
    fuse(folder / "in.onnx", folder / "out.onnx", run=False)
    return onnx.load(folder / "out.onnx")


def waves(factor: float) -> Callable[[Graph, str], str]:
    """A net that amplifies rounding."""
    return lambda g, y: str(g("Sin", g("Mul", y, g.constant(factor))))


@pytest.mark.parametrize("spoiled", ["then_branch", "else_branch"])
def test_both_branches_of_a_choice_are_compared(spoiled: str, tmp_path: Path) -> None:
    def chosen(factors: dict[str, float]) -> onnx.ModelProto:
        model = model_of(lambda g, y: g("Identity", y))
        y = model.graph.output[0].name
        value = helper.make_tensor_value_info
        branches = {}
        for name, factor in factors.items():
            weight = numpy_helper.from_array(np.array(factor, np.float32), "factor")
            node = helper.make_node("Mul", [y, "factor"], ["scaled"])
            branches[name] = helper.make_graph([node], name, [], [value("scaled", TensorProto.FLOAT, None)], [weight])
        model.graph.node.append(helper.make_node("If", ["first"], ["out"], **branches))
        model.graph.input.append(value("first", TensorProto.BOOL, []))
        model.graph.output[0].CopyFrom(value("out", TensorProto.FLOAT, None))
        return model

    factors = {"then_branch": 2.0, "else_branch": 3.0}
    wrong = answer(chosen(factors), chosen({**factors, spoiled: 4.0}), tmp_path)["wrong"]
    assert "differs from the source" in wrong["what"]
    assert answer(chosen(factors), chosen(factors), tmp_path)["whole"]["rel_l2"] == 0


def test_a_net_that_amplifies_rounding_is_not_refused(tmp_path: Path) -> None:
    model = model_of(waves(1e4))
    found = answer(model, fused(model, tmp_path), tmp_path)["whole"]
    assert TOLERANCE < found["rel_l2"] < found["tolerance"] < 0.1
    # Half an amplitude of it still is.
    other = onnx.ModelProto.FromString(model.SerializeToString())
    sine = other.graph.node[-1]
    other.graph.initializer.append(numpy_helper.from_array(np.array(0.5, np.float32), "half"))
    other.graph.node.append(helper.make_node("Mul", ["sine", "half"], [sine.output[0]]))
    sine.output[0] = "sine"
    assert "differs from the source by 5.0e-01" in answer(model, other, tmp_path)["wrong"]["what"]


def test_what_rounding_alone_decides_is_left_out(tmp_path: Path) -> None:
    model = model_of(waves(1e9))
    found = answer(model, fused(model, tmp_path), tmp_path)["whole"]
    assert found["why_not"] == "the source itself makes something else of it where its input moves by a rounding"


def test_outputs_that_are_drawn_are_left_out(tmp_path: Path) -> None:
    model = model_of(lambda g, y: str(g("Add", y, g("RandomNormalLike", y))))
    assert "the source itself" in answer(model, fused(model, tmp_path), tmp_path)["whole"]["why_not"]


def test_numbers_that_are_not_finite_are_left_out_and_told(tmp_path: Path) -> None:
    model = model_of(lambda g, y: str(g("Log", y)))
    found = answer(model, fused(model, tmp_path), tmp_path)["whole"]
    assert found["rel_l2"] < TOLERANCE
    (why,) = found["left_out"].values()
    assert "of its 240 numbers aren't finite in the source's own output" in why
    nowhere = model_of(lambda g, y: str(g("Log", g("Neg", g("Abs", y)))))
    assert answer(nowhere, nowhere, tmp_path)["whole"]["why_not"].startswith("none of the source's outputs has a")


def test_zeros_are_equal_and_nothing_else_is_zero(tmp_path: Path) -> None:
    zero, one = (model_of(lambda g, y, value=value: str(g("Mul", y, g.constant(value)))) for value in (0.0, 1.0))
    assert answer(zero, fused(zero, tmp_path), tmp_path)["whole"]["rel_l2"] == 0
    assert "isn't 0, where that of the source is" in answer(zero, one, tmp_path)["wrong"]["what"]


def index(axis: int) -> onnx.ModelProto:
    return model_of(lambda g, y: str(g("ArgMax", y, axis=axis)), y=TensorProto.INT64)


def test_integers_may_change_at_near_ties_alone(tmp_path: Path) -> None:
    found = answer(index(1), fused(index(1), tmp_path), tmp_path)["whole"]
    assert (found["changed"], found["rel_l2"]) == (0, None)
    least = model_of(lambda g, y: str(g("ArgMin", y, axis=1)), y=TensorProto.INT64)
    assert "% of it" in answer(index(1), least, tmp_path)["wrong"]["what"]
    wrong = answer(index(1), index(2), tmp_path)["wrong"]
    assert wrong["what"] == "the fused graph gives int64 (2, 6, 1, 4)"
    assert wrong["expected"] == "int64 (2, 1, 5, 4), as the source does"


def test_a_file_that_only_its_source_runs_is_refused(tmp_path: Path) -> None:
    broken = net()
    broken.graph.node[-1].op_type = "NoSuchOperator"
    assert "doesn't run in ONNX Runtime, and the file does" in answer(net(), broken, tmp_path)["wrong"]["what"]

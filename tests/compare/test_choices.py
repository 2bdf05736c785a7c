"""Branches that input doesn't choose are compared, too, by every command that writes a file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx.reference import ReferenceEvaluator

from sn_deploy.compare.choices import chosen_otherwise
from sn_deploy.errors import CheckFailedError
from sn_deploy.fuse.whole import compare_whole
from sn_deploy.graph.precision import convert_precision as convert_graph
from sn_deploy.graph.quantize import quantize_convolutions
from sn_deploy.optimise.proof import prove
from sn_deploy.precision import convert_precision, quantization, quantize, run
from tests.compare.choosing import BY_SHAPE, choosing, choosing_twice

X = np.random.default_rng(1).standard_normal((2, 8)).astype(np.float32)


def output(path: Path, x: np.ndarray) -> np.ndarray:
    return np.asarray(ReferenceEvaluator(onnx.load(path)).run(None, {"x": x})[0])


@pytest.mark.parametrize("sign", [1, -1])
def test_the_other_branch_runs_in_both_copies(sign: int, tmp_path: Path) -> None:
    files = choosing(tmp_path / "a.onnx"), choosing(tmp_path / "b.onnx", then=5.0)
    (copies,) = chosen_otherwise(*files, tmp_path)
    x = sign * np.abs(X)
    product = output(files[0], x) / (2 if sign > 0 else 3)
    for copy, numbers in zip(copies, ((2, 3), (5, 3)), strict=True):
        np.testing.assert_allclose(output(copy, x), product * numbers[sign > 0], rtol=1e-5)


def test_what_decides_by_a_shape_or_in_one_file_alone_stays(tmp_path: Path) -> None:
    by_shape = choosing(tmp_path / "a.onnx", condition=BY_SHAPE)
    assert chosen_otherwise(by_shape, by_shape, tmp_path) == []
    by_data = choosing(tmp_path / "b.onnx")
    assert chosen_otherwise(by_data, by_shape, tmp_path) == []


FAULTS = [{"then": 2.5}, {"otherwise": 2.5}]


@pytest.mark.parametrize("fault", FAULTS, ids=str)
def test_a_fault_in_either_branch_is_found_by_optimise(fault: dict[str, float], tmp_path: Path) -> None:
    source, spoilt = choosing(tmp_path / "a.onnx"), choosing(tmp_path / "b.onnx", **fault)
    for sign in (1, -1):
        inputs = {"x": sign * np.abs(X)}
        assert prove(source, source, inputs).rel_l2 == 0
        with pytest.raises(CheckFailedError, match="the optimised graph differs by") as raised:
            prove(source, spoilt, inputs)
        assert ("with its branches chosen the other way" in raised.value.what) == (("then" in fault) == (sign < 0))


@pytest.mark.parametrize("fault", FAULTS, ids=str)
def test_a_fault_in_either_branch_is_found_by_fuse_and_inline(fault: dict[str, float], tmp_path: Path) -> None:
    source, spoilt = choosing(tmp_path / "a.onnx"), choosing(tmp_path / "b.onnx", **fault)
    inputs = {"x": np.abs(X)}
    whole = compare_whole(source, source, ir.load(source), 1000, inputs)
    assert (whole.why_not, whole.rel_l2) == (None, 0)
    with pytest.raises(CheckFailedError, match="the fused graph differs from the source by") as raised:
        compare_whole(source, spoilt, ir.load(spoilt), 1000, inputs)
    assert ("with its branches chosen the other way" in raised.value.what) == ("otherwise" in fault)
    assert str(raised.value).startswith(f"{source}, output y: ")


@pytest.mark.parametrize("place", range(4))
def test_a_fault_in_any_branch_of_a_branch_is_found(place: int, tmp_path: Path) -> None:
    """Of four ways two were run: both choices were turned at once."""
    numbers = [2.0, 3.0, 5.0, 7.0]
    source = choosing_twice(tmp_path / "a.onnx")
    numbers[place] += 0.5
    spoilt = choosing_twice(tmp_path / "b.onnx", tuple(numbers))
    for signs in ((1, 1), (1, -1), (-1, 1), (-1, -1)):
        x = signs[0] * np.abs(X)
        x[0, 0] = 1e-3 * signs[1]
        assert prove(source, source, {"x": x}).rel_l2 == 0
        with pytest.raises(CheckFailedError, match="the optimised graph differs by"):
            prove(source, spoilt, {"x": x})


def test_a_fault_behind_another_branch_is_found_by_quantize(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing was compared there."""

    def spoilt(model: ir.Model, *arguments: Any, **options: Any) -> Any:
        (choice,) = (node for node in model.graph if node.op_type == "If")
        (number,) = (node for node in choice.attributes["else_branch"].as_graph() if node.op_type == "Constant")
        number.attributes["value_float"] = ir.AttrFloat32("value_float", -3.0)
        return quantize_convolutions(model, *arguments, **options)

    source, samples = choosing(tmp_path / "a.onnx"), {"x": np.abs(X)}
    model = onnx.load(source)
    next(node for node in model.graph.node if node.op_type == "MatMul").op_type = "Gemm"
    onnx.save(model, source)
    quantize(source, tmp_path / "right.onnx", precision="int8", samples=samples)
    monkeypatch.setattr(quantization, "quantize_convolutions", spoilt)
    with pytest.raises(CheckFailedError, match="with its branches chosen the other way, it differs by"):
        quantize(source, tmp_path / "wrong.onnx", precision="int8", samples=samples)
    assert not (tmp_path / "wrong.onnx").exists()


@pytest.mark.parametrize("branch", ["then_branch", "else_branch"])
def test_a_fault_in_either_branch_is_found_by_convert_precision(
    branch: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def spoilt(model: ir.Model, *arguments: Any, **options: Any) -> Any:
        conversion = convert_graph(model, *arguments, **options)
        (choice,) = (node for node in model.graph if node.op_type == "If")
        (number,) = (node for node in choice.attributes[branch].as_graph() if node.op_type == "Constant")
        number.attributes["value_float"] = ir.AttrFloat32("value_float", 2.5)
        return conversion

    source, samples = choosing(tmp_path / "a.onnx"), {"x": np.abs(X)}
    convert_precision(source, tmp_path / "right.onnx", precision="fp16", samples=samples)
    monkeypatch.setattr(run, "convert_graph", spoilt)
    with pytest.raises(CheckFailedError, match=r"differs by .*relative L2") as raised:
        convert_precision(source, tmp_path / "wrong.onnx", precision="fp16", samples=samples)
    assert ("with its branches chosen the other way" in raised.value.what) == (branch == "else_branch")
    assert not (tmp_path / "wrong.onnx").exists()

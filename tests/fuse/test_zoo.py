"""Every layer is found and computes what it did; nothing else is touched."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest

from sn_deploy.errors import CheckFailedError
from sn_deploy.folded import FoldedSwitchNorm
from sn_deploy.fuse import FuseReport
from sn_deploy.runtime.ort import OrtSession
from tests.fuse.graphs import SHAPE, Graph, Layer, affine, divided, statistics
from tests.fuse.unseen import fuse
from tests.fuse.zoo import DECOYS, DEVIANTS, TRUE
from tests.tolerances import TOLERANCES


def fused(model: onnx.ModelProto, folder: Path) -> FuseReport:
    onnx.save(model, folder / "in.onnx")
    return fuse(folder / "in.onnx", folder / "out.onnx")


def run(path: Path, x: np.ndarray) -> np.ndarray:
    with OrtSession(path, native=False) as session:
        return next(iter(session.run({session.inputs[0].name: x}).values()))


def random_input(model: onnx.ModelProto) -> np.ndarray:
    tensor = model.graph.input[0].type.tensor_type
    shape = [dim.dim_value or 3 + index for index, dim in enumerate(tensor.shape.dim)]
    dtype = np.float16 if tensor.elem_type == onnx.TensorProto.FLOAT16 else np.float32
    return (0.5 + np.random.default_rng(0).normal(size=shape)).astype(dtype)


def assert_constants(found: FoldedSwitchNorm, truth: FoldedSwitchNorm, tolerance: float) -> None:
    assert found.ddof == truth.ddof
    for name in ("mean_in", "mean_ln", "mean_bn", "var_in", "var_ln", "var_bn"):
        assert getattr(found, name) == pytest.approx(getattr(truth, name), abs=tolerance), name
    for name in ("scale", "bias", "mean_offset", "var_offset"):
        expected = getattr(truth, name)
        np.testing.assert_allclose(getattr(found, name), expected, rtol=tolerance, atol=tolerance, err_msg=name)


@pytest.mark.parametrize("name", TRUE)
def test_layers_are_found_with_their_constants(name: str, tmp_path: Path) -> None:
    model, layer = TRUE[name]()
    report = fused(model, tmp_path)
    (found,) = report.layers
    assert not report.near_misses
    half = "half" in name or "fp16" in name
    # What the file holds of the constants: float32, or float16, rounding.
    # A variance that is constant, or nearly so, leaves the offset of the mean and the bias undetermined.
    if name not in ("one_hot_ln_bn", "small_shares"):
        assert_constants(found.folded, layer.folded, 2e-3 if half else 1e-6)
    assert found.mismatch < 1e-9 or half
    written = onnx.load(tmp_path / "out.onnx")
    left = {node.op_type for node in written.graph.node} - {"SwitchNorm", "SwitchNormRelu"}
    assert left <= {"Transpose", "Abs", "Sigmoid"}, "nothing is left of the layer's own nodes"
    x = random_input(model)
    before, after = run(tmp_path / "in.onnx", x), run(tmp_path / "out.onnx", x)
    error = np.linalg.norm(after.astype(np.float64) - before) / np.linalg.norm(before.astype(np.float64))
    assert error < TOLERANCES[str(x.dtype)].rel_l2
    assert [value.name for value in written.graph.output] == [value.name for value in model.graph.output]


@pytest.mark.parametrize("name", DECOYS)
def test_what_is_no_layer_is_left_alone(name: str, tmp_path: Path) -> None:
    with pytest.raises(CheckFailedError, match="has no SN layer") as raised:
        fused(DECOYS[name](), tmp_path)
    assert not (tmp_path / "out.onnx").exists()
    if name in DEVIANTS:
        assert DEVIANTS[name][1] in str(raised.value)
    else:
        assert "look like one" not in str(raised.value)


def test_layouts_that_surround_a_layer_go(tmp_path: Path) -> None:
    for name in ("channels_last_between_transposes", "channels_last_in_the_result_alone"):
        fused(TRUE[name]()[0], tmp_path)
        ops = [node.op_type for node in onnx.load(tmp_path / "out.onnx").graph.node]
        assert "Transpose" not in ops
    assert ops == ["SwitchNormRelu"]


def clip_of_frames(g: Graph) -> tuple[str, tuple[int, ...], tuple[int, ...]]:
    """One clip: video nets fold its frames into the batch for 2D convolutions, and view it with time for the layer."""
    clip = g("Reshape", g("Abs", "x"), g.constant(np.array([1, 8, 6, 5, 4], np.int64)))
    return g("Transpose", clip, perm=[0, 2, 1, 3, 4]), (8, 6, 5, 4), (1, 6, 8, 5, 4)


def whole_numbers(g: Graph) -> tuple[str, tuple[int, ...], tuple[int, ...]]:
    """Rounded down: the layer's input is what comes of the casts, and not what goes in."""
    integers = g("Cast", "x", to=onnx.TensorProto.INT32)
    return g("Cast", integers, to=onnx.TensorProto.FLOAT), SHAPE, SHAPE


@pytest.mark.parametrize("make", [clip_of_frames, whole_numbers])
def test_layers_behind_what_lays_their_input_out(
    make: Callable[[Graph], tuple[str, tuple[int, ...], tuple[int, ...]]], tmp_path: Path
) -> None:
    g, layer = Graph(), Layer(ddof=0, seed=1)
    x, shape, out_shape = make(g)
    mean, var = statistics(g, x, layer, len(out_shape))
    y = affine(g, divided(g, x, mean, var, layer.eps), layer, len(out_shape))
    report = fused(g.model(y, shape, out_shape), tmp_path)
    (found,) = report.layers
    assert_constants(found.folded, layer.folded, 1e-6)
    given = 3 * np.random.default_rng(0).normal(size=shape).astype(np.float32)
    before, after = run(tmp_path / "in.onnx", given), run(tmp_path / "out.onnx", given)
    np.testing.assert_allclose(after, before, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("opset", [13, 18])
def test_layers_behind_crops_and_views_of_computed_sizes(opset: int, tmp_path: Path) -> None:
    """As tf2onnx writes dilated convolutions: inference doesn't know a crop's sizes, nor, before it has gone through
    what is in front, how many numbers the size of the view is."""
    g, layer = Graph(opset=opset), Layer(ddof=0, eps=1e-3, seed=1)
    vector, table = (g.constant(np.array(shape, np.int64)) for shape in ([-1], [2, 2]))
    sizes = g("Reshape", g("Transpose", g("Reshape", g("Shape", "x"), table), perm=[1, 0]), vector)
    view = g("Reshape", "x", g("Gather", sizes, g.constant(np.array([0, 2, 1, 3], np.int64)), axis=0))
    zero, one, two = (g.constant(np.array([number], np.int64)) for number in range(3))
    rows = g("Sub", g("Slice", g("Shape", view), one, two), one)
    y = g("Relu", g("Slice", view, zero, rows, one))
    for _ in range(2):
        mean, var = statistics(g, y, layer, last=True)
        y = g("Relu", affine(g, divided(g, y, mean, var, layer.eps), layer, last=True))
    model = g.model(y, ("n", "h", "w", 6))
    report = fused(model, tmp_path)
    assert [found.channels_last for found in report.layers] == [True, True]
    assert not report.near_misses
    for found in report.layers:
        assert_constants(found.folded, layer.folded, 1e-6)
    x = random_input(model)
    before, after = run(tmp_path / "in.onnx", x), run(tmp_path / "out.onnx", x)
    np.testing.assert_allclose(after, before, rtol=1e-4, atol=1e-5)


def test_the_zoo_has_thirty_of_each() -> None:
    assert len(TRUE) >= 30
    assert len(DECOYS) >= 30

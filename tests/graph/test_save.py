"""Saving: checked, atomic, with external data that is never another export's."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnx.reference
import onnx_ir as ir
import pytest

from sn_deploy.errors import SnDeployError
from sn_deploy.graph.save import EXTERNAL_DATA_FROM_BYTES, save, weight_bytes


def model(value: float = 1.0, size: int = 10_000, op_type: str = "Add") -> ir.Model:
    """y = x + a constant of ``size`` floats."""
    x = ir.Value(name="x", shape=ir.Shape([size]), type=ir.TensorType(ir.DataType.FLOAT))
    weights = ir.tensor(np.full(size, value, np.float32), name="w")
    w = ir.Value(name="w", shape=weights.shape, type=ir.TensorType(ir.DataType.FLOAT), const_value=weights)
    node = ir.node(op_type, [x, w])
    node.outputs[0].name, node.outputs[0].shape, node.outputs[0].type = "y", x.shape, x.type
    graph = ir.Graph([x], node.outputs, nodes=[node], initializers=[w], opset_imports={"": 20}, name="g")
    return ir.Model(graph, ir_version=10)


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_small_models_are_one_file(tmp_path: Path) -> None:
    assert save(model(), tmp_path / "m.onnx") is None
    assert names(tmp_path) == {"m.onnx"}
    assert onnx.load(tmp_path / "m.onnx").graph.initializer[0].name == "w"


def test_external_data_is_found_by_onnx_and_named_by_its_content(tmp_path: Path) -> None:
    first = save(model(1.0), tmp_path / "m.onnx", external_data=True)
    assert first is not None
    assert names(tmp_path) == {"m.onnx", first.name}
    loaded = onnx.load(tmp_path / "m.onnx")
    np.testing.assert_array_equal(onnx.numpy_helper.to_array(loaded.graph.initializer[0]), np.ones(10_000))
    assert save(model(1.0), tmp_path / "m.onnx", external_data=True) == first

    second = save(model(2.0), tmp_path / "m.onnx", external_data=True)
    assert second is not None
    assert second != first
    assert names(tmp_path) == {"m.onnx", second.name}, "data that nothing refers to any more is removed"

    save(model(), tmp_path / "m.onnx")
    assert names(tmp_path) == {"m.onnx"}


def test_weights_of_a_branch_lie_beside_the_file_too(tmp_path: Path) -> None:
    proto = onnx.parser.parse_model(
        """<ir_version: 10, opset_import: ["": 20]> g (float[5000] x, bool c) => (float[5000] y) {
        y = If (c) <then_branch = t () => (float[5000] p) { p = Add (x, w) },
                    else_branch = e () => (float[5000] q) { q = Neg (x) }> }"""
    )
    weights = onnx.numpy_helper.from_array(np.full(5000, 3, np.float32), "w")
    (branch,) = (a.g for a in proto.graph.node[0].attribute if a.name == "then_branch")
    branch.initializer.append(weights)
    made = ir.from_proto(proto)
    assert weight_bytes(made) == 20_000
    data = save(made, tmp_path / "m.onnx", external_data=True)
    assert data is not None
    assert data.stat().st_size == 20_000
    evaluator = onnx.reference.ReferenceEvaluator(onnx.load(tmp_path / "m.onnx"))
    (y,) = evaluator.run(None, {"x": np.zeros(5000, np.float32), "c": np.array(True)})
    np.testing.assert_array_equal(y, 3)


def test_only_data_of_our_making_is_removed(tmp_path: Path) -> None:
    (tmp_path / "m.onnx.mine.data").write_text("keep")
    (tmp_path / "other.onnx.0123456789abcdef.data").write_text("keep")
    save(model(), tmp_path / "m.onnx")
    assert names(tmp_path) == {"m.onnx", "m.onnx.mine.data", "other.onnx.0123456789abcdef.data"}


def test_an_invalid_graph_is_not_written(tmp_path: Path) -> None:
    (tmp_path / "m.onnx").write_text("old")
    with pytest.raises(SnDeployError, match=r"the exported graph isn't valid ONNX, so it wasn't written: .*NoSuchOp"):
        save(model(op_type="NoSuchOp"), tmp_path / "m.onnx")
    with pytest.raises(SnDeployError, match="isn't valid ONNX"):
        save(model(op_type="NoSuchOp"), tmp_path / "m.onnx", external_data=True)
    assert names(tmp_path) == {"m.onnx"}
    assert (tmp_path / "m.onnx").read_text() == "old"


def test_where_the_source_is_invalid_it_is_named(tmp_path: Path) -> None:
    source = tmp_path / "source.onnx"
    onnx.save(ir.to_proto(model(op_type="NoSuchOp")), source)
    with pytest.raises(SnDeployError, match=r"source\.onnx: isn't valid ONNX: .*NoSuchOp.*export it again"):
        save(model(op_type="NoSuchOp"), tmp_path / "m.onnx", source=source)
    save(model(), source)
    with pytest.raises(SnDeployError, match=r"m\.onnx: the exported graph isn't valid ONNX"):
        save(model(op_type="NoSuchOp"), tmp_path / "m.onnx", source=source)
    assert names(tmp_path) == {"source.onnx"}


def test_shapes_that_disagree_are_found(tmp_path: Path) -> None:
    stale = model()
    stale.graph.outputs[0].shape = ir.Shape([7])
    with pytest.raises(SnDeployError, match="isn't valid ONNX"):
        save(stale, tmp_path / "m.onnx")


@pytest.mark.parametrize("external", [False, True])
def test_a_renamed_model_keeps_its_data(external: bool, tmp_path: Path) -> None:
    # The file names its data, so only the file itself can be renamed.
    data = save(model(0.5), tmp_path / "m.onnx", external_data=True)
    assert data is not None
    (tmp_path / "m.onnx").rename(tmp_path / "renamed.onnx")
    (tmp_path / "empty.onnx").touch()
    save(model(0.25), tmp_path / "m.onnx", external_data=external)
    assert data.is_file()
    (tmp_path / "renamed.onnx").unlink()
    save(model(0.25), tmp_path / "m.onnx", external_data=external)
    assert not data.is_file()


def test_a_folder_of_such_a_name_stays(tmp_path: Path) -> None:
    (tmp_path / "m.onnx.0123456789abcdef.data").mkdir()
    save(model(), tmp_path / "m.onnx")
    assert names(tmp_path) == {"m.onnx", "m.onnx.0123456789abcdef.data"}


def test_the_limit_leaves_room_for_the_graph() -> None:
    assert weight_bytes(model()) == 40_000
    assert EXTERNAL_DATA_FROM_BYTES < 2**31 - 100_000_000


@pytest.mark.slow
def test_more_than_two_gibibytes(tmp_path: Path) -> None:
    size = 2**29 + 1_000  # float32: 2 GiB and a little
    data = save(model(0.5, size), tmp_path / "large.onnx")
    assert data is not None
    assert data.stat().st_size >= 4 * size
    import onnxruntime

    session = onnxruntime.InferenceSession(str(tmp_path / "large.onnx"), providers=["CPUExecutionProvider"])
    (y,) = session.run(None, {"x": np.ones(size, np.float32)})
    assert y[-1] == 1.5

"""The layers of an ONNX file: every SwitchNorm node, in the order in which they run, with the weights it has."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from sn_deploy.errors import SnDeployError
from sn_deploy.inspection.layer import LayerWeights
from sn_deploy.inspection.onnx_file import layers_from_onnx
from tests.switch_norm_file import model, node


def read(proto: onnx.ModelProto, tmp_path: Path) -> list[LayerWeights]:
    onnx.save(proto, tmp_path / "model.onnx")
    return layers_from_onnx(tmp_path / "model.onnx")


def test_all_three_forms_are_read_in_order(tmp_path: Path) -> None:
    nodes = [
        node("first", "x", "a", bn=(0.2, 0.7), layer="block.sn"),
        helper.make_node("Relu", ["a"], ["b"]),
        node("second", "b", "c", (0.1, 0.2), (0.3, 0.4), op_type="SwitchNormRelu"),
        node("third", "c", "y", (1.0, 0.0), (0.0, 1.0), op_type="SwitchNormAddRelu"),
    ]
    first, second, third = read(model(nodes), tmp_path)
    assert (first.name, first.kind, first.channels, first.shape) == ("block.sn", "SN2d", 4, ("N", 4, 8, 8))
    assert first.mean == pytest.approx((0.5, 0.3, 0.2))
    assert first.var == pytest.approx((0.2, 0.1, 0.7))
    assert (second.name, third.name) == ("second", "third")
    assert [layer.epilogue for layer in (first, second, third)] == [(), ("ReLU",), ("residual", "ReLU")]
    # Without metadata BN has the rest; a rest of rounding errors is none.
    assert second.mean == pytest.approx((0.1, 0.2, 0.7))
    assert second.var == pytest.approx((0.3, 0.4, 0.3))
    assert (third.mean, third.var) == ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0))


def test_the_metadata_says_what_bn_had(tmp_path: Path) -> None:
    # Not the rest: weights that don't come from a softmax needn't sum to 1.
    (layer,) = read(model([node("n", "x", "y", bn=(0.9, 0.0))]), tmp_path)
    assert (layer.mean[2], layer.var[2]) == (0.9, 0.0)


@pytest.mark.parametrize(
    ("shape", "kind"),
    [((2, 4), "SN1d"), (("N", 4, 9), "SN"), ((None, 4, 8, 8), "SN2d"), (("N", 4, 2, 3, 5), "SN3d"), (None, "SN")],
)
def test_the_kind_follows_the_rank_of_x(tmp_path: Path, shape: tuple[int | str, ...] | None, kind: str) -> None:
    (layer,) = read(model([node("n", "x", "y")], shape), tmp_path)
    assert (layer.kind, layer.shape, layer.channels) == (kind, shape, 4)


def test_an_inferred_shape_is_shown(tmp_path: Path) -> None:
    (layer,) = read(
        model([helper.make_node("MaxPool", ["x"], ["p"], kernel_shape=[2, 2], strides=[2, 2]), node("n", "p", "y")]),
        tmp_path,
    )
    assert layer.shape == ("N", 4, 4, 4)
    assert layer.size_text == "N×4×4×4"


def test_nodes_in_subgraphs_stand_where_they_run(tmp_path: Path) -> None:
    def branch(name: str) -> onnx.GraphProto:
        return helper.make_graph(
            [node(name, "x", name)], name, [], [helper.make_tensor_value_info(name, TensorProto.FLOAT, None)]
        )

    condition = numpy_helper.from_array(np.array(True), "condition")
    nodes = [
        node("before", "x", "a"),
        helper.make_node("If", ["condition"], ["b"], then_branch=branch("then"), else_branch=branch("else")),
        helper.make_node("Add", ["a", "b"], ["c"]),
        node("after", "c", "y"),
    ]
    layers = read(model(nodes, initializers=[condition]), tmp_path)
    assert [layer.name for layer in layers] == ["before", "else", "then", "after"]  # make_node sorts attributes


def test_external_data_is_not_needed(tmp_path: Path) -> None:
    weight = numpy_helper.from_array(np.ones(4096, np.float32), "w")
    proto = model([node("n", "x", "y")], initializers=[weight])
    onnx.save(proto, tmp_path / "m.onnx", save_as_external_data=True, location="m.data", size_threshold=1024)
    (tmp_path / "m.data").unlink()
    assert len(layers_from_onnx(tmp_path / "m.onnx")) == 1


# --- refusals -----------------------------------------------------------------------------------------------------


def test_a_file_without_switch_norm_says_where_it_went(tmp_path: Path) -> None:
    proto = model([helper.make_node("Relu", ["x"], ["y"])])
    with pytest.raises(
        SnDeployError, match=r"has no SwitchNorm node among its 1 nodes.*--inline or other tools wrote .*sn-deploy fuse"
    ):
        read(proto, tmp_path)
    foreign = node("n", "x", "y")
    foreign.domain = "com.example"
    with pytest.raises(SnDeployError, match="has no SwitchNorm node"):
        read(model([foreign]), tmp_path)


def test_nodes_out_of_order_are_refused(tmp_path: Path) -> None:
    proto = model([node("late", "a", "y"), node("early", "x", "a")])
    with pytest.raises(SnDeployError, match="nodes are out of order: SwitchNorm 'late' uses 'a' before it is made"):
        read(proto, tmp_path)


def test_sizes_below_0_are_unknown_ones(tmp_path: Path) -> None:
    """Some exporters write them. onnx's inference ends the process where a Slice meets one."""
    ends = [numpy_helper.from_array(np.array([number]), name) for name, number in (("from", 0), ("to", 5), ("axis", 3))]
    proto = model([helper.make_node("Slice", ["x", "from", "to", "axis"], ["a"]), node("n", "a", "y")])
    proto.graph.initializer.extend(ends)
    proto.graph.input[0].type.tensor_type.shape.dim[3].dim_value = -5
    (layer,) = read(proto, tmp_path)
    assert layer.name == "n"


def test_a_node_that_breaks_the_contract_is_named(tmp_path: Path) -> None:
    with pytest.raises(SnDeployError, match=r"node n: attribute var_ln is missing \(expected a float\)"):
        read(model([node("n", "x", "y", drop=["var_ln"])]), tmp_path)
    mistyped = node("n", "x", "y", drop=["mean_in"])
    mistyped.attribute.append(helper.make_attribute("mean_in", 1))
    with pytest.raises(SnDeployError, match=r"node n: attribute mean_in is of type INT"):
        read(model([mistyped]), tmp_path)
    with pytest.raises(SnDeployError, match="n: the weights of the mean are"):
        read(model([node("n", "x", "y", mean=(float("nan"), 0.0))]), tmp_path)
    wrong = node("n", "x", "y")
    helper.set_model_props(wrong, {"sn_deploy.var_bn": "much"})
    with pytest.raises(SnDeployError, match=r"metadata sn_deploy.var_bn is 'much' \(expected a number\)"):
        read(model([wrong]), tmp_path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "the file is empty"),
        (b"version https://git-lfs.github.com/spec/v1\n", "git-lfs pointer"),
        (b"hello world" * 30, "is cut off, damaged or no ONNX file"),
        (b"\x42\x00", "is no ONNX file"),
        (b"\x18\x00\x00\x00ORTM" + bytes(30), "ONNX Runtime's own format"),
    ],
)
def test_files_that_are_no_onnx_are_refused(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "a.onnx").write_bytes(content)
    with pytest.raises(SnDeployError, match=message):
        layers_from_onnx(tmp_path / "a.onnx")


def test_a_cut_off_file_is_refused(tmp_path: Path) -> None:
    content = model([node("n", "x", "y")]).SerializeToString()
    (tmp_path / "a.onnx").write_bytes(content[:-40])
    with pytest.raises(SnDeployError, match="is cut off"):
        layers_from_onnx(tmp_path / "a.onnx")

"""Bad input at the custom op's border: a status with the layer's name and the reason, and the session goes on."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from sn_deploy.errors import SnDeployError
from sn_deploy.folded import FoldedSwitchNorm
from sn_deploy.runtime.ort import OrtSession
from tests.cases import make_case
from tests.native.models import operator_model, run
from tests.single_node import single_node_model

WEIGHTS = (0.5, 0.3, 0.2)


def layer(channels: int = 4, ddof: int = 1) -> FoldedSwitchNorm:
    shape = (1, channels, 3, 3)
    return make_case(shape, "float32", mean_weights=WEIGHTS, var_weights=WEIGHTS, ddof=ddof, seed=1).folded


def refusal(model: onnx.ModelProto, library: str, x: np.ndarray | None = None, **inputs: np.ndarray) -> str:
    """The one line that the user sees."""
    with pytest.raises(SnDeployError) as raised:
        run(model, {"X": np.zeros((1, 4, 3, 3), np.float32) if x is None else x, **inputs}, library)
    return str(raised.value)


@pytest.mark.parametrize(
    ("shape", "reason"),
    [
        ((4,), "X has a rank below 2"),
        ((1, 5, 3, 3), "must have shape (C)"),
        ((1, 4, 0, 3), "empty spatial extent"),
        ((0, 4, 0, 3), "empty spatial extent"),
        ((1, 4, 1, 1), "too few values for the variance"),
        ((1, 0, 3, 3), "X has no channels"),
    ],
)
def test_a_shape_without_a_value_is_refused(library: str, shape: tuple[int, ...], reason: str) -> None:
    model = operator_model("SwitchNorm", layer(), [None] * len(shape), "float32")
    message = refusal(model, library, np.zeros(shape, np.float32))
    assert "sn_deploy::SwitchNorm 'layer'" in message
    assert reason in message
    assert str(shape).replace(",)", ")") in message


def test_one_channel_of_rank_2_is_refused(library: str) -> None:
    model = operator_model("SwitchNorm", layer(channels=1), [None, None], "float32")
    assert "too few values for the variance" in refusal(model, library, np.zeros((2, 1), np.float32))


def test_an_empty_batch_is_no_error(library: str) -> None:
    for shape in ((0, 4, 3, 3), (0, 4)):
        model = operator_model("SwitchNorm", layer(), [None] * len(shape), "float32")
        assert run(model, {"X": np.zeros(shape, np.float32)}, library)["Y"].shape == shape


def test_a_session_survives_a_bad_input(library: str) -> None:
    model = operator_model("SwitchNorm", layer(), [None] * 4, "float32")
    x = np.random.default_rng(1).normal(size=(2, 4, 3, 3)).astype(np.float32)
    with OrtSession(model.SerializeToString(), threads=2, custom_op_library=library) as session:
        before = session.run({"X": x})["Y"]
        with pytest.raises(SnDeployError, match="must have shape"):
            session.run({"X": np.zeros((1, 5, 3, 3), np.float32)})
        np.testing.assert_array_equal(session.run({"X": x})["Y"], before)


@pytest.mark.parametrize("shape", [(1, 4, 1, 1), (2, 4, 3, 3), (1, 4, 9), (1, 4)], ids=str)
def test_a_residual_of_another_shape_is_refused(library: str, shape: tuple[int, ...]) -> None:
    model = operator_model("SwitchNormAddRelu", layer(), [None] * 4, "float32")
    model.graph.input[1].CopyFrom(helper.make_tensor_value_info("residual", TensorProto.FLOAT, [None] * len(shape)))
    message = refusal(model, library, residual=np.zeros(shape, np.float32))
    assert "sn_deploy::SwitchNormAddRelu 'layer'" in message
    assert "the residual must have X's shape" in message


def test_a_residual_of_another_dtype_is_refused(library: str) -> None:
    model = operator_model("SwitchNormAddRelu", layer(), [None] * 4, "float32", residual_dtype="float16")
    message = refusal(model, library, residual=np.zeros((1, 4, 3, 3), np.float16))
    assert "SwitchNormAddRelu" in message


@pytest.mark.parametrize("name", ["mean_in", "mean_ln", "var_in", "var_ln", "ddof"])
def test_a_missing_attribute_is_refused(library: str, name: str) -> None:
    model = operator_model("SwitchNorm", layer(), [None] * 4, "float32")
    node = model.graph.node[0]
    kept = [attribute for attribute in node.attribute if attribute.name != name]
    del node.attribute[:]
    node.attribute.extend(kept)
    assert f"sn_deploy::SwitchNorm 'layer': the attribute {name} is missing" in refusal(model, library)


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("mean_in", float("nan"), "must be finite"),
        ("var_ln", float("inf"), "must be finite"),
        ("mean_ln", 1, "the attribute mean_ln is missing, or no float"),
        ("ddof", 2, "ddof must be 0 or 1, not 2"),
        ("ddof", -1, "ddof must be 0 or 1, not -1"),
        ("ddof", 1.0, "the attribute ddof is missing, or no int"),
    ],
)
def test_a_bad_attribute_is_refused(library: str, name: str, value: float, reason: str) -> None:
    model = operator_model("SwitchNorm", layer(), [None] * 4, "float32")
    node = model.graph.node[0]
    kept = [attribute for attribute in node.attribute if attribute.name != name]
    del node.attribute[:]
    node.attribute.extend([*kept, helper.make_attribute(name, value)])
    assert reason in refusal(model, library)


def test_parameters_of_different_lengths_are_refused(library: str) -> None:
    model = operator_model("SwitchNorm", layer(), [None] * 4, "float32")
    (bias,) = [value for value in model.graph.initializer if value.name == "bias"]
    bias.CopyFrom(onnx.numpy_helper.from_array(np.zeros(3, np.float32), "bias"))
    assert "bias has shape (3) and X (1, 4, 3, 3)" in refusal(model, library)


@pytest.mark.parametrize("dtype", [TensorProto.DOUBLE, TensorProto.INT32])
def test_another_dtype_is_refused_when_the_file_is_loaded(library: str, dtype: int) -> None:
    model = operator_model("SwitchNorm", layer(), [1, 4, 3, 3], "float32")
    model.graph.input[0].type.tensor_type.elem_type = dtype
    model.graph.output[0].type.tensor_type.elem_type = dtype
    with pytest.raises(SnDeployError, match="SwitchNorm"):
        OrtSession(model.SerializeToString(), custom_op_library=library)


def test_half_precision_parameters_are_refused(library: str) -> None:
    model = operator_model("SwitchNorm", layer(), [1, 4, 3, 3], "float16")
    (scale,) = [value for value in model.graph.initializer if value.name == "scale"]
    scale.CopyFrom(onnx.numpy_helper.from_array(np.ones(4, np.float16), "scale"))
    with pytest.raises(SnDeployError, match="SwitchNorm"):
        OrtSession(model.SerializeToString(), custom_op_library=library)


def test_an_exported_file_gives_the_same_reason(library: str) -> None:
    # The function of the same name in the file changes nothing.
    model = single_node_model(layer(), [None] * 4, "float32")
    assert "sn_deploy::SwitchNorm 'layer'" in refusal(model, library, np.zeros((1, 5, 3, 3), np.float32))

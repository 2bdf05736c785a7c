"""The ONNX Runtime runner: what it takes, what it gives, and how it refuses."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import ml_dtypes
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, parser

from sn_deploy.errors import SnDeployError
from sn_deploy.runtime import ort
from sn_deploy.runtime.ort import OrtSession
from sn_deploy.runtime.tensors import TensorInfo
from tests.cases import make_case
from tests.single_node import single_node_model


def model(text: str) -> bytes:
    """A model from ONNX's text form, without its header."""
    parsed = parser.parse_model(f'<ir_version: 9, opset_import: ["": 18]> {text}')
    assert isinstance(parsed, onnx.ModelProto)
    return parsed.SerializeToString()


ADD = model("g (float[N,3] a, float[N,3] b) => (float[N,3] total, float[N,3] difference) "
            "{ total = Add(a, b) difference = Sub(a, b) }")  # fmt: skip


def error_of(*args: object, **kwargs: object) -> str:
    with pytest.raises(SnDeployError) as error:
        OrtSession(*args, **kwargs)  # type: ignore[arg-type]
    assert error.value.exit_code == 2
    assert "\n" not in str(error.value)
    return str(error.value)


def test_inputs_and_outputs_by_name() -> None:
    a, b = np.arange(6, dtype=np.float32).reshape(2, 3), np.ones((2, 3), np.float32)
    with OrtSession(ADD, threads=1) as session:
        assert [str(info) for info in session.inputs] == ["a: float32 (N, 3)", "b: float32 (N, 3)"]
        assert [info.name for info in session.outputs] == ["total", "difference"]
        result = session.run({"b": b, "a": a})
    assert list(result) == ["total", "difference"]
    assert np.array_equal(result["total"], a + b)
    assert np.array_equal(result["difference"], a - b)


@pytest.mark.parametrize(
    ("element_type", "dtype"),
    [
        (TensorProto.FLOAT, np.float32),
        (TensorProto.FLOAT16, np.float16),
        (TensorProto.BFLOAT16, ml_dtypes.bfloat16),
        (TensorProto.DOUBLE, np.float64),
        (TensorProto.INT8, np.int8),
        (TensorProto.INT32, np.int32),
        (TensorProto.INT64, np.int64),
        (TensorProto.UINT8, np.uint8),
        (TensorProto.BOOL, np.bool_),
    ],
)
@pytest.mark.parametrize("shape", [(2, 3), (0, 3), ()])
def test_dtypes_pass_bit_for_bit(element_type: int, dtype: type, shape: tuple[int, ...]) -> None:
    value = helper.make_tensor_value_info("x", element_type, [None] * len(shape))
    result = helper.make_tensor_value_info("y", element_type, [None] * len(shape))
    graph = helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "g", [value], [result])
    file = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    x = np.asarray(np.random.default_rng(0).normal(size=shape) * 3).astype(dtype)
    with OrtSession(file.SerializeToString()) as session:
        assert session.inputs[0].dtype == np.dtype(dtype)
        y = session.run({"x": x})["y"]
    assert y.dtype == x.dtype
    assert y.shape == x.shape
    assert y.tobytes() == x.tobytes()


def test_bfloat16_beside_other_dtypes_and_not_contiguous() -> None:
    source = "g (bfloat16[N,M] x, float[N,M] y) => (bfloat16[N,M] z, float[N,M] w) { z = Identity(x) w = Identity(y) }"
    x = np.arange(12, dtype=np.float32).reshape(3, 4).T.astype(ml_dtypes.bfloat16, order="K")
    y = np.arange(12, dtype=np.float32).reshape(3, 4).T
    assert not x.flags.c_contiguous
    with OrtSession(model(source)) as session:
        result = session.run({"x": x, "y": y})
    assert np.array_equal(result["z"], x)
    assert np.array_equal(result["w"], y)


def test_a_bfloat16_output_is_the_callers_own() -> None:
    one = make_case((2, 3, 4, 4), "bfloat16", mean_weights=(0.2, 0.3, 0.5), var_weights=(0.2, 0.3, 0.5), ddof=1, seed=0)
    file = single_node_model(one.folded, one.x.shape, "bfloat16").SerializeToString()
    with OrtSession(file) as session:
        first = session.run({"X": one.x})["Y"]
        kept = first.copy()
        for _ in range(3):
            session.run({"X": one.x * one.x})
    assert np.array_equal(first, kept)
    assert first.flags.writeable


def test_paths_may_be_text_or_path(tmp_path: Path) -> None:
    path = tmp_path / "add.onnx"
    path.write_bytes(ADD)
    for given in (path, str(path)):
        with OrtSession(given) as session:
            assert session.name == str(path)


def test_external_data_is_found_beside_the_file(tmp_path: Path) -> None:
    weight = onnx.numpy_helper.from_array(np.arange(3, dtype=np.float32), "w")
    file = onnx.load_from_string(model("g (float[3] x) => (float[3] y) { y = Identity(x) }"))
    file.graph.initializer.append(weight)
    del file.graph.node[:]
    file.graph.node.append(helper.make_node("Add", ["x", "w"], ["y"]))
    onnx.save(file, tmp_path / "net.onnx", save_as_external_data=True, location="net.data", size_threshold=0)
    with OrtSession(tmp_path / "net.onnx") as session:
        assert session.run({"x": np.ones(3, np.float32)})["y"].tolist() == [1, 2, 3]


@pytest.mark.parametrize("level", ["all", "extended", "basic", "disabled"])
def test_optimization_levels(level: ort.GraphOptimization) -> None:
    one = np.ones((1, 3), np.float32)
    with OrtSession(ADD, graph_optimization=level, spinning=False) as session:
        assert session.run({"a": one, "b": one})["total"].tolist() == [[2, 2, 2]]


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        (["a"], "the model in memory: inputs missing b (expected a, b)"),
        (["a", "b", "c"], "the model in memory: inputs unknown c (expected a, b)"),
        (["a", "c"], "the model in memory: inputs missing b and unknown c (expected a, b)"),
    ],
)
def test_wrong_names(inputs: Sequence[str], message: str) -> None:
    with OrtSession(ADD) as session, pytest.raises(SnDeployError) as error:
        session.run({name: np.ones((1, 3), np.float32) for name in inputs})
    assert str(error.value) == message


@pytest.mark.parametrize(
    ("b", "message"),
    [
        (np.ones((1, 3)), "input b has dtype float64 (expected float32); convert it with .astype('float32')"),
        (np.ones((1, 4), np.float32), "input b has shape (1, 4) (expected b: float32 (N, 3))"),
        (np.ones(3, np.float32), "input b has shape (3,) (expected b: float32 (N, 3))"),
        ([[1.0, 2.0, 3.0]], "input b is a list (expected a NumPy array, b: float32 (N, 3))"),
    ],
)
def test_wrong_values(b: np.ndarray, message: str) -> None:
    with OrtSession(ADD) as session, pytest.raises(SnDeployError) as error:
        session.run({"a": np.ones((1, 3), np.float32), "b": b})
    assert str(error.value) == f"the model in memory: {message}"


def test_a_failure_within_the_runtime_is_one_line(capfd: pytest.CaptureFixture[str]) -> None:
    # The named axis N differs: only the operator finds out.
    with OrtSession(ADD) as session, pytest.raises(SnDeployError) as error:
        session.run({"a": np.ones((2, 3), np.float32), "b": np.ones((4, 3), np.float32)})
    assert str(error.value).startswith("the model in memory: ONNX Runtime failed: ")
    assert "\n" not in str(error.value)
    assert capfd.readouterr() == ("", "")


def test_a_missing_file() -> None:
    assert error_of("nowhere/net.onnx") == "nowhere/net.onnx: no such file (expected an ONNX file)"


@pytest.mark.parametrize("content", [b"", b"not a model", ADD[: len(ADD) // 2]])
def test_an_unreadable_file(content: bytes, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "bad.onnx"
    path.write_bytes(content)
    for given, name in ((path, str(path)), (content, "the model in memory")):
        message = error_of(given)
        assert message.startswith(f"{name}: ONNX Runtime can't load it: ")
        assert message.endswith("(expected a valid ONNX file)")
    assert capfd.readouterr() == ("", "")


def test_an_unknown_operator() -> None:
    file = onnx.load_from_string(model("g (float[3] x) => (float[3] y) { y = Identity(x) }"))
    file.graph.node[0].domain, file.graph.node[0].op_type = "elsewhere", "Unknown"
    file.opset_import.append(helper.make_opsetid("elsewhere", 1))
    assert "elsewhere" in error_of(file.SerializeToString())


def test_a_type_that_the_provider_lacks_is_no_invalid_file() -> None:
    message = error_of(model("g (double[1,1,3,3] x, double[1,1,1,1] w) => (double[1,1,3,3] y) { y = Conv(x, w) }"))
    assert "Could not find an implementation for Conv" in message
    assert "(expected operators in types that its provider has); what the CPU lacks, bfloat16 most of all" in message


def test_inputs_that_are_no_tensors_of_numbers() -> None:
    text = model("g (string[N] x) => (string[N] y) { y = Identity(x) }")
    assert error_of(text) == (
        "the model in memory: x is a tensor(string) (expected inputs and outputs that are tensors of numbers)"
    )


def test_options_are_checked(tmp_path: Path) -> None:
    assert error_of(ADD, threads=0) == "threads: 0 threads (expected 1 or more)"
    assert error_of(ADD, graph_optimization="most") == (
        "graph_optimization: unknown level 'most' (expected all, extended, basic, disabled)"
    )
    message = error_of(ADD, providers=["NoSuchExecutionProvider"])
    assert message.startswith("providers: NoSuchExecutionProvider is not in this onnxruntime (expected some of ")
    assert error_of(ADD, providers=[]).startswith("providers: no execution provider was named")
    assert error_of(ADD, custom_op_library=tmp_path / "ops.so") == (
        f"{tmp_path / 'ops.so'}: no such file (expected a custom-op library)"
    )
    (tmp_path / "ops.so").write_text("not a library")
    message = error_of(ADD, custom_op_library=tmp_path / "ops.so")
    assert message.startswith(f"{tmp_path / 'ops.so'}: ONNX Runtime can't load it: ")


def test_an_absent_gpu_provider_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    import onnxruntime

    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CPUExecutionProvider"])
    assert error_of(ADD, providers=["CUDAExecutionProvider", "CPUExecutionProvider"]) == (
        "providers: CUDAExecutionProvider is not in this onnxruntime (expected some of CPUExecutionProvider); "
        "for an NVIDIA GPU: pip uninstall onnxruntime, then pip install onnxruntime-gpu"
    )


def test_a_provider_that_silently_falls_back_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    import onnxruntime

    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CUDAExecutionProvider"])
    start = onnxruntime.InferenceSession
    monkeypatch.setattr(
        onnxruntime,
        "InferenceSession",
        lambda source, options, providers: start(source, options, ["CPUExecutionProvider"]),
    )
    assert error_of(ADD, providers=["CUDAExecutionProvider"]).startswith(
        "providers: CUDAExecutionProvider could not be started"
    )


def test_a_closed_session() -> None:
    session = OrtSession(ADD)
    session.close()
    session.close()
    with pytest.raises(SnDeployError) as error:
        session.run({})
    assert str(error.value) == "the model in memory: the session is closed; open it again"


def test_onnxruntime_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    expected = "install it with: pip install 'sn-deploy[ort]'"
    assert error_of(ADD).endswith(expected)
    with pytest.raises(SnDeployError) as error:
        ort.version()
    assert str(error.value).startswith("ONNX Runtime: onnxruntime can't be imported: ")
    assert str(error.value).endswith(expected)


def test_what_is_installed() -> None:
    assert ort.version()[0].isdigit()


def test_shapes_that_an_input_takes() -> None:
    info = TensorInfo("x", ("N", None, 3), np.dtype(np.float32))
    assert info.accepts_shape((0, 5, 3))
    assert not info.accepts_shape((1, 5, 4))
    assert not info.accepts_shape((5, 3))
    assert str(info) == "x: float32 (N, ?, 3)"
    without_rank = TensorInfo("x", None, np.dtype(np.float32))
    assert without_rank.accepts_shape(())
    assert str(without_rank) == "x: float32"


def test_a_binding_without_bfloat16_is_an_error_with_a_mend(monkeypatch: pytest.MonkeyPatch) -> None:
    import onnxruntime

    monkeypatch.delattr(onnxruntime.OrtValue, "ortvalue_from_numpy_with_onnx_type", raising=False)
    model = onnx.parser.parse_model(
        '<ir_version: 10, opset_import: ["": 20]> g (bfloat16[2] x) => (bfloat16[2] y) { y = Identity (x) }'
    )
    with (
        OrtSession(model.SerializeToString()) as session,
        pytest.raises(SnDeployError, match="passes no bfloat16; install a newer onnxruntime"),
    ):
        session.run({"x": np.zeros(2, ml_dtypes.bfloat16)})

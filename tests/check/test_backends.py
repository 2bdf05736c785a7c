"""Backends under one set of names: matching, casting, and what a file says about itself."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import numpy.typing as npt
import onnx
import pytest
import torch
from torch import nn

from sn_deploy.check.backends.adapted import AdaptedBackend
from sn_deploy.check.backends.interface import Example, Interface, output_names, with_examples
from sn_deploy.check.backends.onnx_file import read_facts
from sn_deploy.check.backends.torch_model import TorchRunner, weights_sha256
from sn_deploy.check.latency import TimedByLayer, TimedOnDevice, measure
from sn_deploy.check.names import match_names
from sn_deploy.check.result import BackendInfo
from sn_deploy.errors import SnDeployError
from sn_deploy.runtime.tensors import TensorInfo
from tests.check.small_net import small_net, write_net

Array = npt.NDArray[Any]
F32, F16, I64 = np.dtype(np.float32), np.dtype(np.float16), np.dtype(np.int64)


def infos(*names: str) -> list[TensorInfo]:
    """Float inputs of unknown shapes."""
    return [TensorInfo(name, None, np.dtype(np.float32)) for name in names]


def info(name: str, *shape: int | str | None, dtype: Any = np.float32) -> TensorInfo:
    return TensorInfo(name, shape, np.dtype(dtype))


def test_names_match_by_name_first_then_by_position() -> None:
    assert match_names(["a", "b"], ["b", "a"], "x") == {"a": "a", "b": "b"}
    assert match_names(["image"], ["input.1"], "x") == {"image": "input.1"}
    assert match_names(["a", "b"], ["b", "z"], "x") == {"a": "z", "b": "b"}
    assert match_names(["a", "b"], ["y", "z"], "x", ordered=True) == {"a": "y", "b": "z"}
    only = {("a", "z"), ("b", "y")}
    assert match_names(["a", "b"], ["y", "z"], "x", fits=lambda *pair: pair in only) == {"a": "z", "b": "y"}


@pytest.mark.parametrize(
    ("wanted", "found", "message"),
    [
        (["a"], ["b", "c"], "x: inputs are b, c .expected a.; give each input under its name"),
        (["a", "b"], ["a"], "x: inputs are a .expected a, b."),
        (["a", "b"], ["c", "d"], "x: inputs c, d can be matched in several ways .expected a, b."),
    ],
)
def test_names_that_do_not_match(wanted: list[str], found: list[str], message: str) -> None:
    with pytest.raises(SnDeployError, match=message):
        match_names(wanted, found, "x")


def test_names_whose_tensors_do_not_fit() -> None:
    with pytest.raises(SnDeployError, match="x: inputs c, d don't fit in any order"):
        match_names(["a", "b"], ["c", "d"], "x", fits=lambda wanted, own: False)


def test_inputs_are_the_first_files_with_every_size_that_is_known() -> None:
    interface = Interface(
        [
            ("one", [info("image", "N", 3, "h", "w"), info("ids", "N", 4, dtype=np.int64)]),
            ("two", [info("tokens", 8, 4, dtype=np.int64), info("x", None, 3, 32, None, dtype=np.float16)]),
        ]
    )
    assert interface.inputs == (info("image", "N", 3, 32, "w"), info("ids", 8, 4, dtype=np.int64))
    assert interface.names["two"] == {"image": "x", "ids": "tokens"}
    sized = with_examples(interface.inputs, [Example(None, (1, 3, 32, 48), F32)])
    assert sized[0].shape == ("N", 3, 32, 48)
    sized = with_examples(interface.inputs, [Example("ids", (1, 4), I64), Example(None, (1, 3, 32, 9), F32)])
    assert sized[0].shape == ("N", 3, 32, 9)


def test_an_input_that_one_file_says_is_a_scalar() -> None:
    for first, second in (((), None), (None, ())):
        (merged,) = Interface([("one", [TensorInfo("g", first, F32)]), ("two", [TensorInfo("g", second, F32)])]).inputs
        assert merged.shape == ()


@pytest.mark.parametrize(
    "other", [info("image", "N", 3, 9, 9), info("image", "N", 3), info("image", "N", 3, 8, 8, dtype=np.int64)]
)
def test_files_that_want_different_inputs_are_refused(other: TensorInfo) -> None:
    with pytest.raises(SnDeployError, match=r"two beside one: input image.*expected image: float32 \(N, 3, 8, 8\)"):
        Interface([("one", [info("image", "N", 3, 8, 8)]), ("two", [other])])


def test_an_example_gives_all_where_nothing_else_does() -> None:
    (sized,) = with_examples([TensorInfo("ids", None, F32)], [Example(None, (1, 16), I64)])
    assert sized == info("ids", "N", 16, dtype=np.int64)
    with pytest.raises(SnDeployError, match="there are more examples than inputs"):
        with_examples([info("x", "N", 4)], [Example(None, (1, 4), F32), Example(None, (1, 4), F32)])


def test_outputs_match_by_name_or_by_shape() -> None:
    one = [info("logits", "N", 10), info("map", "N", 10, 8, 8)]
    names = output_names([("one", one), ("two", [info("a", "N", 10, 8, 8), info("b", "N", 10)])])
    assert names == {"one": {"logits": "logits", "map": "map"}, "two": {"logits": "b", "map": "a"}}
    with pytest.raises(SnDeployError, match=r"two beside one: outputs are a .expected logits, map."):
        output_names([("one", one), ("two", [info("a", "N", 10)])])


class Recorder:
    """A runner that remembers what it was given, and gives it back under names of its own."""

    def __init__(self, *inputs: TensorInfo) -> None:
        self.inputs, self.given = inputs, dict[str, Array]()

    def run(self, inputs: Mapping[str, Array], /) -> dict[str, Array]:
        self.given = dict(inputs)
        return {f"out_{name}": value for name, value in inputs.items()}

    def close(self) -> None:
        self.inputs = ()


def adapted(runner: Any, names: Mapping[str, str], outputs: Any = None) -> AdaptedBackend:
    return AdaptedBackend(BackendInfo("rec", "ort"), runner, Recorder, names, outputs)


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16, np.float64])
def test_floats_are_cast_to_what_a_runner_wants(dtype: Any) -> None:
    runner = Recorder(info("x", "N", dtype=dtype))
    backend = adapted(runner, {"image": "x"}, ["logits"])
    value = np.array([0.1, 1e30], np.float32)
    outputs = backend.run({"image": value})
    assert list(outputs) == ["logits"]
    assert runner.given["x"].dtype == dtype
    with np.errstate(over="ignore"):
        np.testing.assert_array_equal(runner.given["x"].astype(np.float64), value.astype(dtype).astype(np.float64))


def test_integers_are_cast_only_where_they_fit() -> None:
    runner = Recorder(info("x", "N", dtype=np.int8))
    backend = adapted(runner, {"x": "x"})
    backend.run({"x": np.array([-128, 127])})
    assert runner.given["x"].dtype == np.int8
    for wrong in (np.array([128]), np.array([1.0]), np.array([True])):
        with pytest.raises(SnDeployError, match=r"rec: input x is given .* .expected x: int8"):
            backend.run({"x": wrong})


def test_a_runner_that_fails_is_named() -> None:
    class Failing(Recorder):
        def run(self, inputs: Mapping[str, Array], /) -> dict[str, Array]:
            raise ZeroDivisionError("by zero\nand more")

    backend = adapted(Failing(info("x", "N")), {"x": "x"})
    with pytest.raises(SnDeployError, match=r"rec: fails on x float32 \(2,\): ZeroDivisionError: by zero$"):
        backend.run({"x": np.zeros(2, np.float32)})


def test_too_few_outputs_are_told() -> None:
    backend = adapted(Recorder(info("x", "N")), {"x": "x"}, ["logits", "map"])
    with pytest.raises(SnDeployError, match=r"rec: outputs are out_x .expected logits, map."):
        backend.run({"x": np.zeros(2, np.float32)})


def test_what_is_timed_is_not_the_cast() -> None:
    class OnDevice(Recorder):
        def device_time_ms(self, inputs: Mapping[str, Array]) -> float:
            assert inputs["x"].dtype == np.float16
            return 3.0

    runner = OnDevice(info("x", "N", dtype=np.float16))
    inputs = {1: {"image": np.zeros(1, np.float32)}, 2: {"image": np.zeros(2, np.float32)}}
    timed = adapted(runner, {"image": "x"}).timed(inputs)
    assert isinstance(timed, TimedOnDevice)
    assert not isinstance(timed, TimedByLayer)
    timed.run(inputs[2])
    first = runner.given["x"]
    assert (first.dtype, first.shape) == (F16, (2,))
    timed.run(inputs[2])
    assert runner.given["x"] is first
    report = measure({"rec": timed}, inputs, rounds=3, warmup=1)  # type: ignore[arg-type]
    assert [row.device_ms for row in report.results] == [3, 3]


def test_a_file_tells_its_precision_whatever_its_borders(tmp_path: Path) -> None:
    for dtype in ("float32", "float16", "bfloat16"):
        assert read_facts(write_net(tmp_path / "net.onnx", dtype=dtype)).precision == dtype
    inside = small_net(dtype="float16")
    for value in (*inside.graph.input, *inside.graph.output):
        value.type.tensor_type.elem_type = onnx.TensorProto.FLOAT
    onnx.save(inside, tmp_path / "net.onnx")
    facts = read_facts(tmp_path / "net.onnx")
    assert (facts.precision, facts.switch_norm_nodes) == ("float16", 2)
    # Of int8 in the main it has no tolerance; a part in half precision costs what a whole does.
    for large, precision in ((np.int8, "int8"), (np.float32, "float16"), (np.int64, "float16")):
        model = onnx.ModelProto()
        model.CopyFrom(inside)
        model.graph.initializer.append(onnx.numpy_helper.from_array(np.zeros(10_000, large), "large"))
        model.graph.node.append(onnx.helper.make_node("Cast", ["large"], ["cast"], to=onnx.TensorProto.FLOAT))
        model.graph.output.append(onnx.helper.make_tensor_value_info("cast", onnx.TensorProto.FLOAT, [10_000]))
        onnx.save(model, tmp_path / "net.onnx")
        assert read_facts(tmp_path / "net.onnx").precision == precision
        del model.graph.output[-1]
        onnx.save(model, tmp_path / "net.onnx")
        assert read_facts(tmp_path / "net.onnx").precision == "float16"


def test_external_data_is_hashed_and_must_be_there(tmp_path: Path) -> None:
    path = tmp_path / "net.onnx"
    onnx.save(small_net(), path, save_as_external_data=True, location="net.data", size_threshold=0)
    facts = read_facts(path)
    assert list(facts.data_sha256) == ["net.data"]
    assert facts.precision == "float32"
    (tmp_path / "net.data").unlink()
    with pytest.raises(SnDeployError, match=r"its external data net.data is missing; copy it beside the file"):
        read_facts(path)


class Two(nn.Module):
    """A model with an optional and a keyword-only input."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(3))

    def forward(self, x: torch.Tensor, scale: torch.Tensor | None = None, *, shift: Any = 0) -> dict[str, torch.Tensor]:
        y = x * self.weight + shift
        return {"y": y if scale is None else y * scale, "x": x}


def test_a_torch_model_is_called_by_name_or_by_position() -> None:
    x, two = np.ones((2, 3), np.float32), np.full((2, 3), 2, np.float32)
    assert TorchRunner(Two(), infos("x", "shift")).run({"x": x, "shift": two})["output_0"][0, 0] == 3
    assert TorchRunner(Two(), infos("x", "scale")).run({"x": x, "scale": two})["output_0"][0, 0] == 2
    assert TorchRunner(Two(), infos("input.1", "input.2")).run({"input.1": x, "input.2": two})["output_0"][0, 0] == 2
    with pytest.raises(SnDeployError, match=r"--model, Two: takes forward.x"):
        TorchRunner(Two(), infos("a", "b", "c"))


def test_weights_tell_models_apart() -> None:
    one, other = Two(), Two()
    assert weights_sha256(one) == weights_sha256(other)
    with torch.no_grad():
        other.weight[0] += 1e-7 * 4
    assert weights_sha256(one) != weights_sha256(other)
    assert TorchRunner(one.double(), infos("x")).precision == "float64"
    assert TorchRunner(nn.ReLU(), infos("input")).precision == "float32"

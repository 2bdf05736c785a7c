"""Damaged files: none crashes `fuse`, hangs it or fills the memory, and each failure is an error of ours."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from sn_deploy.errors import SnDeployError
from sn_deploy.fuse import fuse
from tests.fuse import mutations
from tests.fuse.zoo import TRUE


def test_two_hundred_damaged_files() -> None:
    # In a process of its own, which a crash would end. The long form is a part of tools/soak.py.
    command = [sys.executable, "-X", "faulthandler", "-m", "tests.fuse.mutations", "0", "200"]
    # One thread: many short calls of NumPy's would wait for idle ones.
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    done = subprocess.run(
        command, env=environment, capture_output=True, text=True, errors="replace", timeout=600, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr[-2000:]
    fused, refused, failed = map(int, re.findall(r"(\d+) (?:fused|refused|failed)", done.stdout))
    assert fused + refused + failed == 200
    assert fused >= 10, "mutations that leave nothing to find test nothing"


def raises(source: Path, path: Path, run: bool) -> None:
    raise ValueError("a library's own")


def writes_and_refuses(source: Path, path: Path, run: bool) -> None:
    path.write_bytes(b"half a file")
    raise SnDeployError("is refused")


def hangs(source: Path, path: Path, run: bool) -> None:
    time.sleep(10)


@pytest.mark.parametrize(
    ("fault", "message"),
    [(raises, "ValueError: a library's own at"), (writes_and_refuses, "was written"), (hangs, "took more than 1 s")],
)
def test_faults_are_seen(
    fault: Callable[..., None], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mutations, "fuse", fault)
    monkeypatch.setattr(mutations, "SECONDS", 1)
    outcome = mutations.outcome(0, tmp_path)
    assert outcome.startswith("FAILED")
    assert message in outcome


def weight(model: onnx.ModelProto) -> onnx.TensorProto:
    return next(tensor for tensor in model.graph.initializer if tensor.name == "sn.weight")


def lies_about_its_shape(model: onnx.ModelProto) -> None:
    weight(model).dims[1] = 2**31 - 1


def has_a_negative_shape(model: onnx.ModelProto) -> None:
    weight(model).dims[1] = -6


def has_no_such_type(model: onnx.ModelProto) -> None:
    weight(model).data_type = 99


def has_too_few_numbers(model: onnx.ModelProto) -> None:
    tensor = weight(model)
    tensor.ClearField("raw_data")
    tensor.float_data.extend([1.0, 2.0])


def has_an_attribute_without_a_type(model: onnx.ModelProto) -> None:
    model.graph.node[0].attribute.add(name="axes")


def is_too_large(model: onnx.ModelProto) -> None:
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 1 << 40


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (
            lies_about_its_shape,
            "weight 'sn.weight' has 24 bytes for the shape 1×2147483647×1×1 (expected 8589934588 by",
        ),
        (has_a_negative_shape, "weight 'sn.weight' has the shape [1, -6, 1, 1]"),
        (has_no_such_type, "weight 'sn.weight' has the type 99 for the shape 1×6×1×1 (expected a type of ONNX)"),
        (has_too_few_numbers, "weight 'sn.weight' has 2 numbers for the shape 1×6×1×1 (expected 6 numbers)"),
        (has_an_attribute_without_a_type, "has no type"),
        (is_too_large, "its input is 1099511627776×6×5×4, which is empty or too large to be tried"),
    ],
)
def test_sizes_that_lie_are_told(damage: Callable[[onnx.ModelProto], None], message: str, tmp_path: Path) -> None:
    model, _ = TRUE["published_folded"]()
    damage(model)
    (tmp_path / "in.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(SnDeployError) as raised:
        fuse(tmp_path / "in.onnx", tmp_path / "out.onnx")
    assert message in str(raised.value)
    assert not (tmp_path / "out.onnx").exists()


def test_every_type_of_onnx_has_its_size(tmp_path: Path) -> None:
    model, _ = TRUE["published_folded"]()
    for name, number in onnx.TensorProto.DataType.items():
        if name in ("UNDEFINED", "STRING"):
            continue
        dtype = onnx.helper.tensor_dtype_to_np_dtype(number)
        raw = numpy_helper.from_array(np.zeros((3, 1), dtype), f"raw {name}")
        assert raw.data_type == number
        model.graph.initializer.append(raw)
        listed = onnx.helper.make_tensor(f"listed {name}", number, [3, 1], np.zeros(3, dtype))
        model.graph.initializer.append(listed)
    model.graph.initializer.append(onnx.helper.make_tensor("text", onnx.TensorProto.STRING, [2], [b"a", b"b"]))
    model.graph.initializer.append(onnx.helper.make_tensor("none", onnx.TensorProto.FLOAT, [0, 7], []))
    onnx.save(model, tmp_path / "in.onnx")
    assert len(fuse(tmp_path / "in.onnx", tmp_path / "out.onnx").layers) == 1


def test_a_layer_that_nothing_needs_goes_with_the_rest(tmp_path: Path) -> None:
    model, _ = TRUE["published_folded"]()
    model.graph.output[0].CopyFrom(model.graph.input[0])
    model.graph.output[0].name = "copy"
    model.graph.node.append(onnx.helper.make_node("Identity", ["x"], ["copy"]))
    onnx.save(model, tmp_path / "in.onnx")
    with pytest.raises(SnDeployError, match="has no SN layer"):
        fuse(tmp_path / "in.onnx", tmp_path / "out.onnx")


def test_sizes_of_minus_one_are_unknown_ones(tmp_path: Path) -> None:
    model, _ = TRUE["pooled_and_dynamic"]()
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = -1
    (tmp_path / "in.onnx").write_bytes(model.SerializeToString())
    (layer,) = fuse(tmp_path / "in.onnx", tmp_path / "out.onnx").layers
    assert layer.shape[0] is None


def test_a_long_vector_is_no_list_of_sizes(tmp_path: Path) -> None:
    # With its values followed as if they were sizes, each of the 2^30 numbers would take 100 bytes.
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node("Sub", ["x", "x"], ["d"]), onnx.helper.make_node("Sqrt", ["d"], ["y"])],
        "g",
        [onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [1 << 30])],
        [onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, None)],
    )
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=10)
    onnx.save(model, tmp_path / "in.onnx")
    started = time.process_time()
    with pytest.raises(SnDeployError, match="has no SN layer"):
        fuse(tmp_path / "in.onnx", tmp_path / "out.onnx")
    assert time.process_time() - started < 20

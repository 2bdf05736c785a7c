"""Tensors that begin at any address, as those of ONNX Runtime's own operators may: a caller's, or a data file's."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto

from sn_deploy.runtime.ort import OrtSession
from tests.cases import DTYPES, make_case
from tests.fused_forms import inputs_of
from tests.native.models import operator_model, run

WEIGHTS = (0.5, 0.3, 0.2)


def with_data_file(model: onnx.ModelProto, folder: Path, start: int) -> Path:
    """The model with its constants in a file, from byte ``start`` on: where an int8 zero point before them ends."""
    data = bytearray(start)
    for tensor in model.graph.initializer:
        values = onnx.numpy_helper.to_array(tensor).tobytes()
        tensor.ClearField("raw_data")
        tensor.data_location = TensorProto.EXTERNAL
        for key, value in (("location", "data"), ("offset", len(data)), ("length", len(values))):
            tensor.external_data.add(key=key, value=str(value))
        data += values
    (folder / "data").write_bytes(data)
    onnx.save(model, folder / "model.onnx")
    return folder / "model.onnx"


@pytest.mark.parametrize("start", [4096, 4097, 4098])
def test_constants_in_a_data_file(library: str, tmp_path: Path, start: int) -> None:
    case = make_case((2, 67, 7, 7), "float32", mean_weights=WEIGHTS, var_weights=WEIGHTS, ddof=1, seed=1)
    model = operator_model("SwitchNorm", case.folded, [None] * 4, "float32")
    expected = run(model, {"X": case.x}, library)["Y"]
    with OrtSession(with_data_file(model, tmp_path, start), threads=1, custom_op_library=library) as session:
        np.testing.assert_array_equal(session.run({"X": case.x})["Y"], expected)


@pytest.mark.parametrize("dtype", [name for name in DTYPES if name != "bfloat16"])
def test_a_message_behind_a_header_of_one_byte(library: str, dtype: str) -> None:
    case = make_case((2, 67, 7, 7), dtype, mean_weights=WEIGHTS, var_weights=WEIGHTS, ddof=1, seed=1)
    model = operator_model("SwitchNormAddRelu", case.folded, [None] * 4, dtype)
    aligned = inputs_of("SwitchNormAddRelu", case)
    odd = {name: np.frombuffer(b"\0" + x.tobytes(), x.dtype, offset=1).reshape(x.shape) for name, x in aligned.items()}
    assert not any(x.flags.aligned for x in odd.values())
    np.testing.assert_array_equal(run(model, odd, library)["Y"], run(model, aligned, library)["Y"])

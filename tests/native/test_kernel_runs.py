"""A file's function and the custom op compute the same, so agreement does not tell which ran: ask the runtime."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import onnxruntime

from tests.cases import Case, make_case
from tests.single_node import single_node_model


def case_and_model() -> tuple[Case, onnx.ModelProto]:
    weights = (0.5, 0.3, 0.2)
    case = make_case((1, 8, 7, 7), "float32", mean_weights=weights, var_weights=weights, ddof=1, seed=9)
    return case, single_node_model(case.folded, ["batch", 8, 7, 7], "float32")


def executed_and_optimised(library: str | None, folder: Path) -> tuple[set[str], set[str]]:
    """The operators that one run executed, and those of ONNX Runtime's own optimised graph."""
    case, model = case_and_model()
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.enable_profiling = True
    options.profile_file_prefix = str(folder / "profile")
    options.optimized_model_filepath = str(folder / "optimised.onnx")
    if library is not None:
        options.register_custom_ops_library(library)
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    session.run(None, {"X": case.x})
    events = json.loads(Path(session.end_profiling()).read_text())
    executed = {event["args"]["op_name"] for event in events if event["name"].endswith("_kernel_time")}
    return executed, {node.op_type for node in onnx.load(options.optimized_model_filepath).graph.node}


def test_with_the_library_the_custom_op_runs(library: str, tmp_path: Path) -> None:
    assert executed_and_optimised(library, tmp_path) == ({"SwitchNorm"}, {"SwitchNorm"})


def test_without_the_library_the_function_runs(tmp_path: Path) -> None:
    executed, optimised = executed_and_optimised(None, tmp_path)
    assert "SwitchNorm" not in executed | optimised
    assert "Sqrt" in executed


def test_both_agree(library: str) -> None:
    case, model = case_and_model()
    options = onnxruntime.SessionOptions()
    options.register_custom_ops_library(library)
    source = model.SerializeToString()
    native = onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"])
    function = onnxruntime.InferenceSession(source, providers=["CPUExecutionProvider"])
    np.testing.assert_allclose(native.run(None, {"X": case.x})[0], function.run(None, {"X": case.x})[0], atol=2e-6)

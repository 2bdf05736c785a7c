"""Functions that others wrote into a file, in each command that puts them in the place of their calls."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest

from sn_deploy.fuse import fuse
from sn_deploy.graph.calls import settle_calls
from sn_deploy.graph.function_body import function_body
from sn_deploy.inline import inline
from sn_deploy.precision import convert_precision, quantize
from sn_deploy.runtime.ort import OrtSession
from tests import switch_norm_file

# Each is called as z = theirs.F(h), h being what a layer and a convolution make.
FUNCTIONS = {
    "a default of an attribute": """<domain: "theirs", opset_import: ["": 20]>
        F <slope: float = 0.5> (h) => (z) { z = LeakyRelu <alpha: float = @slope> (h) }""",
    "an older opset": """<domain: "theirs", opset_import: ["": 18]>
        F (h) => (z) { n = Neg (h)  z = Relu (n) }""",
    "a domain of its own": """<domain: "theirs", opset_import: ["": 20, "ai.onnx.ml": 3]>
        F (h) => (z) { f = Flatten (h)  z = ai.onnx.ml.Scaler <offset = [0.5], scale = [2.0]> (f) }""",
}


def written(path: Path, function: str) -> Path:
    nodes = [
        switch_norm_file.node("norm", "x", "y"),
        onnx.helper.make_node("Conv", ["y", "kernel"], ["h"], name="conv"),
        onnx.helper.make_node("F", ["h"], ["z"], name="call", domain="theirs"),
    ]
    kernel = np.random.default_rng(0).normal(size=(5, 4, 1, 1)).astype(np.float32)
    weights = [onnx.numpy_helper.from_array(kernel, "kernel")]
    made = switch_norm_file.model(nodes, (2, 4, 8, 8), initializers=weights, output="z")
    # onnx infers none of what operators of ai.onnx.ml make.
    shape = (2, 320) if "Flatten" in function else (2, 5, 8, 8)
    made.graph.output[0].CopyFrom(onnx.helper.make_tensor_value_info("z", onnx.TensorProto.FLOAT, shape))
    made.opset_import.append(onnx.helper.make_opsetid("theirs", 1))
    made.functions.extend([function_body(20, [4]), onnx.parser.parse_function(function)])
    onnx.save(made, path)
    return path


def run(path: Path) -> np.ndarray:
    x = np.random.default_rng(1).normal(size=(2, 4, 8, 8)).astype(np.float32)
    with OrtSession(path, native=False) as session:
        return session.run({"x": x, "residual": x} if len(session.inputs) > 1 else {"x": x})["z"]


COMMANDS: dict[str, tuple[Callable[[Path, Path], object], float]] = {
    "fuse": (lambda source, path: fuse(source, path, run=False), 1e-6),
    "inline": (lambda source, path: inline(source, path, run=False), 1e-6),
    "fp16 and a newer opset": (
        lambda source, path: quantize(source, path, precision="int8", float_type="fp16", samples="random"),
        0.05,
    ),
}


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("function", FUNCTIONS)
def test_the_numbers_are_those_of_the_functions(function: str, command: str, tmp_path: Path) -> None:
    """onnx's inliner gave the operator's own default in the place of the function's, and left out the domain; other
    opsets were refused, though the operators are the same in both."""
    source = written(tmp_path / "in.onnx", FUNCTIONS[function])
    make, most = COMMANDS[command]
    make(source, tmp_path / "out.onnx")
    expected, found = run(source), run(tmp_path / "out.onnx")
    assert np.linalg.norm(found - expected) <= most * np.linalg.norm(expected)


@pytest.mark.parametrize("function", FUNCTIONS)
def test_a_type_that_a_newer_opset_alone_has(function: str, tmp_path: Path) -> None:
    """Files with functions of others were refused."""
    source = written(tmp_path / "in.onnx", FUNCTIONS[function])
    report = convert_precision(source, tmp_path / "out.onnx", precision="bf16")
    assert report.conversion.opset == 22
    assert {one.domain for one in onnx.load(tmp_path / "out.onnx").functions} == {"sn_deploy"}


def test_operators_that_changed_keep_the_opset_that_they_are_of() -> None:
    model = onnx.parser.parse_model(
        """<ir_version: 10, opset_import: ["": 20, "theirs": 1]> g (float[2] x) => (float[2] y) { y = theirs.F (x) }
        <domain: "theirs", opset_import: ["": 17]> F (x) => (y) { y = ReduceMean <axes = [0]> (x) }"""
    )
    settle_calls(model)
    assert model.functions[0].opset_import[0].version == 17


def test_what_a_call_says_itself_stays() -> None:
    model = onnx.parser.parse_model(
        f"""<ir_version: 10, opset_import: ["": 20, "theirs": 1]> g (float[2] x) => (float[2] y) {{
            y = theirs.F <slope: float = 0.25> (x) }}
        {FUNCTIONS["a default of an attribute"]}"""
    )
    settle_calls(model)
    assert [(one.name, one.f) for one in model.graph.node[0].attribute] == [("slope", 0.25)]

"""Graphs of opsets 15 to 17 brought to newer ones: ONNX Runtime computes the same of both, to the bit."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnx.parser
import onnx_ir as ir
import pytest

from sn_deploy.errors import SnDeployError
from sn_deploy.graph.raise_opset import raise_opset
from sn_deploy.precision import convert_precision, quantize
from sn_deploy.runtime.ort import OrtSession
from tests.optimise.nets import Net, plain_chain

# Every operator that changed from 15 to 18 and that ONNX Runtime has of floats, each an output of its own.
REDUCTIONS = ("L1", "L2", "LogSum", "LogSumExp", "Max", "Mean", "Min", "Prod", "SumSquare")
NODES = {
    **{f"{name}_of_some": f"Reduce{name} <axes = [-1, 1], keepdims = 0> (positive)" for name in REDUCTIONS},
    **{f"{name}_of_all": f"Reduce{name} (positive)" for name in REDUCTIONS},
    "leaky": "LeakyRelu <alpha = 0.3> (x)",
    "parametric": "PRelu (x, slope)",
    "chosen": "Where (sign, x, positive)",
    "same": "Identity (x)",
    "pooled": "LpPool <kernel_shape = [2, 2]> (x)",
    "padded": "Pad (x, pads, value)",
    "reflected": 'Pad <mode = "reflect"> (x, pads)',
    "nearest": "Resize (x, none, scales)",
    "linear": 'Resize <mode = "linear", coordinate_transformation_mode = "align_corners"> (x, none, none, sizes)',
    "cubic": 'Resize <mode = "cubic"> (x, none, scales)',
    "elements": "ScatterElements <axis = 1> (x, indices, updates)",
    "scattered": "ScatterND (x, places, rows)",
    "aligned": "RoiAlign <output_height = 3, output_width = 2, spatial_scale = 0.5> (x, rois, batches)",
    "branch": "If (yes) <"
    "then_branch = then_graph () => (float[2, 1, 6, 6] then_y) { then_y = ReduceMean <axes = [1]> (x) }, "
    "else_branch = else_graph () => (float[2, 4, 6, 6] else_y) { else_y = Identity (x) }>",
}
WEIGHTS = {
    "slope": np.array([0.1, 0.2, 0.3, 0.4], np.float32).reshape(4, 1, 1),
    "pads": np.array([0, 0, 1, 1, 0, 0, 1, 2]),
    "value": np.array(0.5, np.float32),
    "none": np.array([], np.float32),
    "scales": np.array([1, 1, 1.5, 2], np.float32),
    "sizes": np.array([2, 4, 9, 7]),
    "indices": np.array([[[[0]], [[2]]]]),
    "updates": np.array([[[[7.0]], [[8.0]]]], np.float32),
    "places": np.array([[1], [0]]),
    "rows": np.ones((2, 4, 6, 6), np.float32),
    "rois": np.array([[0, 0, 9, 7], [2, 1, 5, 11]], np.float32),
    "batches": np.array([0, 1]),
    "yes": np.array(True),
    "zero": np.array(0, np.float32),
    "unequal": np.array([1, 3]),
}
X = np.random.default_rng(0).normal(size=(2, 4, 6, 6)).astype(np.float32)


def whole_graph(opset: int) -> onnx.ModelProto:
    """All of `NODES`; Split, which gives two, with and without its sizes."""
    lines = ["positive = Abs (x)", "sign = Greater (x, zero)"]
    lines += [f"{name} = {node}" for name, node in NODES.items()]
    lines += ["half_a, half_b = Split <axis = 1> (x)", "part_a, part_b = Split <axis = 1> (x, unequal)"]
    outputs = [*NODES, "half_a", "half_b", "part_a", "part_b"]
    head = f"""<ir_version: 8, opset_import: ["": {opset}]> g (float[2, 4, 6, 6] x) => """
    text = head + f"({', '.join(f'float {name}' for name in outputs)}) {{ {' '.join(lines)} }}"
    model = onnx.parser.parse_model(text)
    model.graph.initializer.extend(onnx.numpy_helper.from_array(array, name) for name, array in WEIGHTS.items())
    for value in model.graph.output:
        value.type.tensor_type.ClearField("shape")
    for value, array in zip(model.graph.output, run(model).values(), strict=True):  # what onnx's checker asks for
        value.CopyFrom(onnx.helper.make_tensor_value_info(value.name, onnx.TensorProto.FLOAT, array.shape))
    return model


def run(model: onnx.ModelProto | Path, x: np.ndarray = X) -> dict[str, np.ndarray]:
    source = model if isinstance(model, Path) else model.SerializeToString()
    with OrtSession(source, graph_optimization="disabled", native=False) as session:
        return session.run({"x": x})


@pytest.mark.parametrize("opset", [15, 16, 17])
@pytest.mark.parametrize("target", [18, 21])  # the newest in which ONNX Runtime has all of them
def test_every_operator_that_changed_computes_what_it_did(opset: int, target: int) -> None:
    source = whole_graph(opset)
    model = ir.from_proto(source)
    raise_opset(model, target, where="--here")
    made = ir.to_proto(model)
    onnx.checker.check_model(made, full_check=True)
    assert [entry.version for entry in made.opset_import if entry.domain == ""] == [target]
    expected, actual = run(source), run(made)
    assert len(expected) == len(NODES) + 4
    for name, array in expected.items():
        np.testing.assert_array_equal(array, actual[name], err_msg=name, strict=True)


def test_what_changed_otherwise_is_named() -> None:
    model = ir.from_proto(whole_graph(17))
    next(node for node in model.graph if node.op_type == "Abs").op_type = "NoSuch"
    with pytest.raises(
        SnDeployError, match=r"--here: opset 17 .*can't be raised: opset 17 has no NoSuch; make the file"
    ):
        raise_opset(model, 22, where="--here")
    old = """<ir_version: 8, opset_import: ["": 14]> g (float[1] x) => (float[1] y) { y = Relu (x) }"""
    with pytest.raises(SnDeployError, match=r"--here: opset 14 doesn't have the type"):
        raise_opset(ir.from_proto(onnx.parser.parse_model(old)), 22, where="--here")


def test_functions_of_others_go_in_the_place_of_their_calls() -> None:
    """They were taken out of the file, and their calls left."""
    text = """<ir_version: 8, opset_import: ["": 18, "theirs": 1]> g (float[1] x) => (float[1] y) { y = theirs.f (x) }
    <opset_import: ["": 18], domain: "theirs"> f (a) => (b) { b = Relu (a) }"""
    model = ir.from_proto(onnx.parser.parse_model(text))
    raise_opset(model, 22, where="--here")
    assert [(node.domain, node.op_type) for node in model.graph] == [("", "Relu")]
    assert not model.functions


def test_a_fused_file_goes_to_every_type(tmp_path: Path) -> None:
    """`fuse` writes files of opset 15 to 17 as they came: bf16 and fp8 refused them."""
    source = plain_chain(tmp_path / "net.onnx")
    assert onnx.load(source).opset_import[0].version == 17
    assert convert_precision(source, tmp_path / "bf16.onnx", precision="bf16").conversion.opset == 22
    assert quantize(source, tmp_path / "fp8.onnx", precision="fp8").opset == 21
    x = np.random.default_rng(1).normal(size=(1, 3, 16, 16)).astype(np.float32)
    (expected,), (actual,) = run(source, x).values(), run(tmp_path / "fp8.onnx", x).values()
    assert np.linalg.norm(actual - expected) < 0.1 * np.linalg.norm(expected)


def test_layers_keep_their_names_and_bodies(tmp_path: Path) -> None:
    net = Net(3, (8, 8))
    source = net.save(tmp_path / "net.onnx", net.norm(net.conv("x", 16), relu=True))
    convert_precision(source, tmp_path / "bf16.onnx", precision="bf16")
    before, after = (onnx.load(path) for path in (source, tmp_path / "bf16.onnx"))
    layers = [[node for node in proto.graph.node if node.domain == "sn_deploy"] for proto in (before, after)]
    assert [one.metadata_props for one in layers[0]] == [one.metadata_props for one in layers[1]]
    assert [one.name for one in before.functions] == [one.name for one in after.functions]

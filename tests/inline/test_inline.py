"""Files of standard operators alone, made of files with SwitchNorm nodes, also of those that tools have changed."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import version_converter
from onnx.reference import ReferenceEvaluator
from torch import nn
from torch.nn import functional

import sn_deploy
from sn_deploy.errors import SnDeployError
from sn_deploy.fuse import fuse
from sn_deploy.graph.function_body import function_body
from sn_deploy.inline import MAX_OPSET, MIN_OPSET, InlineReport, inline
from sn_deploy.inspection.onnx_file import layers_from_onnx
from sn_deploy.nn import SwitchNorm2d
from sn_deploy.runtime.ort import OrtSession
from sn_deploy.specialise import specialise
from tests import switch_norm_file
from tests.randomise import randomise_

_REL_L2 = 2e-6  # float32 against float64


class Net(nn.Module):
    """A layer with and one without a residual; torch exports its end with attributes that others refuse."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 6, 3, padding=1)
        self.norm = SwitchNorm2d(6)
        self.second = nn.Conv2d(6, 6, 3, padding=1)
        self.second_norm = SwitchNorm2d(6)
        self.classifier = nn.Linear(6, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.norm(self.conv(x)))
        x = torch.relu(self.second_norm(self.second(x)) + x)
        return self.classifier(x.mean((2, 3)).flatten(1))


@pytest.fixture(scope="module")
def net() -> nn.Module:
    model = Net()
    randomise_(model, seed=3)
    return model.eval()


@pytest.fixture
def x() -> np.ndarray:
    return np.random.default_rng(0).standard_normal((2, 3, 7, 6)).astype(np.float32)


@pytest.fixture(scope="module")
def exported(net: nn.Module, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The net's file, exported once: tests get a copy each."""
    path = tmp_path_factory.mktemp("exported") / "net.onnx"
    sn_deploy.export(net, torch.zeros(2, 3, 7, 6), path, trust_statistics=True)
    return path


@pytest.fixture
def path(exported: Path, tmp_path: Path) -> Path:
    return Path(shutil.copy(exported, tmp_path))


def inlined_to(opset: int, folder: Path) -> tuple[InlineReport, onnx.ModelProto]:
    """net.onnx of the folder in standard operators of that version alone, valid by onnx's checker."""
    report = inline(folder / "net.onnx", folder / "out.onnx", opset=opset)
    made = onnx.load(folder / "out.onnx")
    onnx.checker.check_model(made, full_check=True)
    assert [(entry.domain, entry.version) for entry in made.opset_import] == [("", opset)]
    return report, made


def error(net: nn.Module, x: np.ndarray, path: Path) -> float:
    """Relative L2 to PyTorch in float64, by onnx's own evaluator."""
    with torch.no_grad():
        wanted = net.double()(torch.from_numpy(x).double()).numpy()
    net.float()
    (found,) = ReferenceEvaluator(onnx.load(path)).run(None, {"x": x})
    return float(np.linalg.norm(found - wanted) / np.linalg.norm(wanted))


@pytest.mark.parametrize("opset", [None, *range(MIN_OPSET, 20), 21, MAX_OPSET])
def test_standard_operators_of_any_opset(net: nn.Module, x: np.ndarray, path: Path, opset: int | None) -> None:
    report = inline(path, path.with_name("out.onnx"), opset=opset)
    made = onnx.load(report.path)
    onnx.checker.check_model(made, full_check=True)
    assert [(entry.domain, entry.version) for entry in made.opset_import] == [("", opset or 20)]
    assert not made.functions
    assert {node.domain for node in made.graph.node} == {""}
    assert (report.layers, report.opset_before, report.opset) == (2, 20, opset or 20)
    assert report.whole.rel_l2 is not None
    assert report.whole.rel_l2 < _REL_L2
    assert error(net, x, report.path) < _REL_L2


def test_what_reads_an_older_opset_may_read_an_older_format_alone(path: Path) -> None:
    inline(path, path, opset=17)
    assert onnx.load(path).ir_version == 8


def test_attributes_that_say_nothing_are_gone(path: Path) -> None:
    """torch writes them; onnx2torch refuses ``allowzero``, and onnx's converter leaves the other where none is."""

    def attributes(file: Path) -> set[str]:
        return {one.name for node in onnx.load(file).graph.node for one in node.attribute}

    needless = {"allowzero", "noop_with_empty_axes"}
    assert attributes(path) & needless
    inline(path, path.with_name("out.onnx"))
    assert not attributes(path.with_name("out.onnx")) & needless


def test_an_inlined_file_can_be_brought_to_another_opset(net: nn.Module, x: np.ndarray, path: Path) -> None:
    inline(path, path)
    report = inline(path, path, opset=17)
    assert (report.layers, report.opset) == (0, 17)
    assert error(net, x, path) < _REL_L2


def test_functions_that_a_tool_dropped_come_back(net: nn.Module, x: np.ndarray, path: Path) -> None:
    changed = version_converter.convert_version(onnx.load(path), 18)
    assert not changed.functions
    onnx.save(changed, path)
    report = inline(path, path.with_name("out.onnx"))
    assert report.whole.why_not is not None
    assert "can't be run" in report.whole.why_not
    assert error(net, x, report.path) < _REL_L2
    # fuse gives them back, too.
    fuse(path, path.with_name("fused.onnx"))
    assert error(net, x, path.with_name("fused.onnx")) < _REL_L2


def test_what_else_is_in_the_graph_stays_as_it_is(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Random numbers are none that can be folded, and pairs that could be one node are the user's own."""
    made = switch_norm_file.model([switch_norm_file.node("sn", "x", "y")], (2, 4, 8, 8), output="z")
    value = {"low": [0.0], "high": [6.0], "chance": [0.5, 0.5]}
    made.graph.initializer.extend(
        onnx.numpy_helper.from_array(np.array(numbers, np.float32).reshape(-1, 1, 1), name)
        for name, numbers in value.items()
    )
    made.graph.input.append(onnx.helper.make_tensor_value_info("scale", onnx.TensorProto.FLOAT, [4]))
    node = onnx.helper.make_node
    own = [
        node("Max", ["y", "low"], ["above"]),
        node("Min", ["above", "high"], ["between"]),
        node("Bernoulli", ["chance"], ["drawn"]),
        node("ReduceMax", ["drawn"], ["one"]),
        node("Add", ["between", "one"], ["z"]),
    ]
    made.graph.node.extend(own)
    made.functions.append(function_body(20, [4]))
    onnx.save(made, tmp_path / "net.onnx")
    inline(tmp_path / "net.onnx", tmp_path / "out.onnx", run=False)
    left = {one.op_type for one in onnx.load(tmp_path / "out.onnx").graph.node}
    assert left > {one.op_type for one in own}
    assert not caplog.records


def one_layer(folder: Path, nodes: Sequence[onnx.NodeProto], more: Sequence[onnx.ValueInfoProto]) -> Path:
    """net.onnx: a layer from x to y, these nodes, and these outputs more."""
    made = switch_norm_file.model([switch_norm_file.node("sn", "x", "y"), *nodes], (2, 4, 8, 8))
    del made.graph.input[1:]
    made.graph.output.extend(more)
    made.functions.append(function_body(20, [4]))
    onnx.save(made, folder / "net.onnx")
    return folder / "net.onnx"


def test_two_draws_stay_two(tmp_path: Path) -> None:
    """Their difference was 0 everywhere."""
    node, value = onnx.helper.make_node, onnx.helper.make_tensor_value_info
    nodes = [
        node("Sigmoid", ["y"], ["p"]),
        node("Bernoulli", ["p"], ["a"]),
        node("Bernoulli", ["p"], ["b"]),
        node("Sub", ["a", "b"], ["z"]),
        node("Off", ["y"], ["own"], domain="theirs"),
        node("Off", ["y"], ["others"], domain="theirs"),
    ]
    shape = [2, 4, 8, 8]
    path = one_layer(tmp_path, nodes, [value(name, onnx.TensorProto.FLOAT, shape) for name in ("z", "own", "others")])
    made = onnx.load(path)
    made.opset_import.append(onnx.helper.make_opsetid("theirs", 1))
    onnx.save(made, path)
    inline(path, path.with_name("out.onnx"), run=False)
    kinds = Counter(one.op_type for one in onnx.load(path.with_name("out.onnx")).graph.node)
    assert (kinds["Bernoulli"], kinds["Off"]) == (2, 2)


def test_attributes_that_are_types(tmp_path: Path) -> None:
    """They ended in a traceback."""
    node, value = onnx.helper.make_node, onnx.helper.make_tensor_value_info
    tensor = onnx.helper.make_tensor_type_proto(onnx.TensorProto.FLOAT, None)
    nodes = [node("Optional", [], ["none"], type=tensor), node("OptionalHasElement", ["none"], ["has"])]
    path = one_layer(tmp_path, nodes, [value("has", onnx.TensorProto.BOOL, [])])
    inline(path, path.with_name("out.onnx"))
    (optional,) = (one for one in onnx.load(path.with_name("out.onnx")).graph.node if one.op_type == "Optional")
    assert optional.attribute[0].tp == tensor


@pytest.mark.parametrize("opset", [16, 20])
@pytest.mark.parametrize(("parts", "keep"), [([1, 1, 1, 1], 0), (1, 1), ([2, 2], 1)])
def test_sequences_stay_what_they_are(parts: int | list[int], keep: int, opset: int, tmp_path: Path) -> None:
    """They became parts without their axis, or a Split of a newer opset, and the file was refused."""
    node = onnx.helper.make_node
    nodes = [
        node("SplitToSequence", ["y", "parts"], ["all"], axis=1, keepdims=keep),
        node("SequenceAt", ["all", "place"], ["z"]),
    ]
    size = parts[0] if isinstance(parts, list) else parts
    path = one_layer(
        tmp_path, nodes, [onnx.helper.make_tensor_value_info("z", onnx.TensorProto.FLOAT, [2, size, 8, 8])]
    )
    made = onnx.load(path)
    made.opset_import[0].version = opset
    del made.functions[:]
    made.functions.append(function_body(opset, [4]))
    weights = {"parts": np.array(parts), "place": np.array(1)}
    made.graph.initializer.extend(onnx.numpy_helper.from_array(value, name) for name, value in weights.items())
    onnx.save(made, path)
    assert inline(path, path.with_name("out.onnx")).whole.why_not is None
    x = np.random.default_rng(0).normal(size=(2, 4, 8, 8)).astype(np.float32)
    with OrtSession(path, native=False) as before, OrtSession(path.with_name("out.onnx")) as after:
        expected, found = (session.run({"x": x})["z"] for session in (before, after))
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


def test_an_attribute_that_an_older_opset_has_not(tmp_path: Path) -> None:
    """sn-deploy said to be at fault."""
    pool = onnx.helper.make_node("AveragePool", ["y"], ["z"], kernel_shape=[2, 2], dilations=[2, 2])
    path = one_layer(tmp_path, [pool], [onnx.helper.make_tensor_value_info("z", onnx.TensorProto.FLOAT, [2, 4, 6, 6])])
    with pytest.raises(SnDeployError, match=r"onnx can't bring it to opset 17: .*dilations.*; give an opset nearer"):
        inline(path, path.with_name("out.onnx"), opset=17)


def test_text_stays_text(tmp_path: Path) -> None:
    """It ended in a traceback: a constant made of it can't be written."""
    nodes = [
        onnx.helper.make_node("Constant", [], ["words"], value_strings=["a", "bb"]),
        onnx.helper.make_node("Identity", ["words"], ["said"]),
    ]
    path = one_layer(tmp_path, nodes, [onnx.helper.make_tensor_value_info("said", onnx.TensorProto.STRING, [2])])
    inline(path, path.with_name("out.onnx"))
    session = onnxruntime.InferenceSession(path.with_name("out.onnx"), providers=["CPUExecutionProvider"])
    (said,) = session.run(["said"], {"x": np.ones((2, 4, 8, 8), np.float32)})
    assert said.tolist() == ["a", "bb"]


def test_an_input_that_is_an_output_keeps_its_name(tmp_path: Path) -> None:
    """It was refused: the input was called x_orig."""
    path = one_layer(tmp_path, [], [onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [2, 4, 8, 8])])
    assert inline(path, path.with_name("out.onnx")).whole.rel_l2 is not None
    made = onnx.load(path.with_name("out.onnx")).graph
    assert ([one.name for one in made.input], [one.name for one in made.output]) == (["x"], ["y", "x"])


def test_an_output_that_is_there_twice_keeps_its_name(tmp_path: Path) -> None:
    """The second one was called z_1."""
    z = onnx.helper.make_tensor_value_info("z", onnx.TensorProto.FLOAT, [2, 4, 8, 8])
    path = one_layer(tmp_path, [onnx.helper.make_node("Identity", ["y"], ["z"])], [z, z])
    inline(path, path.with_name("out.onnx"))
    assert [one.name for one in onnx.load(path.with_name("out.onnx")).graph.output] == ["y", "z", "z"]


def test_a_file_that_breaks_the_format_is_told_so(tmp_path: Path) -> None:
    """A whole number in the place of another ended in a traceback."""
    path = one_layer(tmp_path, [], [])
    made = onnx.load(path)
    wrong = [one for one in made.graph.node[0].attribute if one.type == onnx.AttributeProto.FLOAT]
    for one in wrong:
        one.CopyFrom(onnx.helper.make_attribute(one.name, 1))
    onnx.save(made, path)
    with pytest.raises(SnDeployError, match=r"net.onnx: its functions can't go in the place of their calls"):
        inline(path, path.with_name("out.onnx"))


def test_a_function_that_is_there_stays_where_another_is_missing(tmp_path: Path) -> None:
    """It need not be ours: what it computes has to stay."""
    doubled = onnx.parser.parse_function(
        """<domain: "sn_deploy", opset_import: ["": 20]>
        SwitchNorm <mean_in, mean_ln, var_in, var_ln, ddof> (x, s, b, m, v) => (y) {
            w = Constant <value_float: float = @mean_in> ()
            n = Constant <value_float: float = @mean_ln> ()
            k = Constant <value_float: float = @var_in> ()
            l = Constant <value_float: float = @var_ln> ()
            mean = Add (w, n)  var = Add (k, l)  all = Add (mean, var)
            y = Mul (x, all) }"""
    )
    nodes = [switch_norm_file.node("one", "x", "h"), switch_norm_file.node("two", "h", "y", op_type="SwitchNormRelu")]
    made = switch_norm_file.model(nodes, ("N", 4, 8, 8))
    made.functions.append(doubled)
    onnx.save(made, tmp_path / "net.onnx")
    report = inline(tmp_path / "net.onnx", tmp_path / "out.onnx")
    assert report.layers == 2
    kinds = Counter(node.op_type for node in onnx.load(tmp_path / "out.onnx").graph.node)
    assert kinds["Sqrt"] == 1, "the second layer alone"


@pytest.mark.parametrize("opset", [None, 17, 14])
def test_open_axes_need_no_more_than_whole_shapes(net: nn.Module, x: np.ndarray, tmp_path: Path, opset: int) -> None:
    """OpenVINO 2023.3 reads no bounds of `Shape`, TVM and burn take no product of one."""
    given = torch.from_numpy(x)
    sn_deploy.export(net, given, tmp_path / "net.onnx", trust_statistics=True, dynamic=["batch", "spatial"])
    path = inline(tmp_path / "net.onnx", tmp_path / "out.onnx", opset=opset).path
    nodes = onnx.load(path).graph.node
    assert not any(node.attribute for node in nodes if node.op_type == "Shape")
    assert not any(node.op_type == "ReduceProd" for node in nodes)
    for size in ((2, 3, 7, 6), (3, 3, 5, 9)):
        assert error(net, np.random.default_rng(1).standard_normal(size).astype(np.float32), path) < _REL_L2
    fuse(path, tmp_path / "fused.onnx")
    assert sum(bool(node.domain) for node in onnx.load(tmp_path / "fused.onnx").graph.node) == 2


def _keep_one_function_of_each_name(path: Path, end: int | None) -> None:
    """Without overloads, the last function of each name among those before ``end``."""
    model = onnx.load(path)
    last = {function.name: function for function in list(model.functions)[:end]}
    kept = [onnx.FunctionProto.FromString(function.SerializeToString()) for function in last.values()]
    del model.functions[:]
    for function in kept:
        function.overload = ""
    model.functions.extend(kept)
    for node in model.graph.node:
        node.overload = ""
    onnx.save(model, path)


def _take_overloads_away(path: Path) -> None:
    """As polygraphy's folding does: the functions stay, all under one name."""
    model = onnx.load(path)
    for one in (*model.functions, *model.graph.node):
        one.overload = ""
    onnx.save(model, path)


def _specialised(path: Path) -> None:
    """Two plain SwitchNorm nodes, one of which needs no LN statistics."""
    model = onnx.load(path)
    for node in model.graph.node:
        if node.op_type == "SwitchNormAddRelu":
            del node.input[5]
            for attribute in node.attribute:
                if attribute.name in ("mean_ln", "var_ln"):
                    attribute.f = 0.0
        if node.domain:
            node.op_type = "SwitchNorm"
    onnx.save(model, path)
    fuse(path, path, fuse_relu=False, run=False)
    specialise(path, path)
    assert len({node.overload for node in onnx.load(path).graph.node if node.domain}) == 2


def test_nodes_beside_overloads_ask_for_theirs_by_name(path: Path, x: np.ndarray) -> None:
    """ONNX Runtime up to 1.26 took the last function of the name for a node that asks for none, as onnx-graphsurgeon
    does for all: numbers were others without any sign. tools/ort_matrix.py runs such a file in each version.
    """
    _specialised(path)
    model = onnx.load(path)
    assert all(node.overload for node in model.graph.node if node.domain)
    wanted = ReferenceEvaluator(onnx.load(inline(path, path.with_name("inlined.onnx")).path)).run(None, {"x": x})[0]
    _keep_one_function_of_each_name(path, None)  # as onnx-graphsurgeon writes it
    with OrtSession(path, native=False) as session:
        (found,) = session.run({"x": x}).values()
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-5)


def test_functions_of_one_name_become_one_again(path: Path, x: np.ndarray) -> None:
    """polygraphy leaves them so; ONNX Runtime took the last of a name up to 1.30, and has refused the file since."""
    _specialised(path)
    out = path.with_name("out.onnx")
    wanted = ReferenceEvaluator(onnx.load(inline(path, path.with_name("inlined.onnx")).path)).run(None, {"x": x})[0]
    _take_overloads_away(path)
    assert len(onnx.load(path).functions) == 3
    assert [layer.name for layer in layers_from_onnx(path)] == ["norm", "second_norm"]
    for command in (inline, fuse):
        command(path, out)
        assert len(onnx.load(out).functions) == (command is fuse)
        np.testing.assert_allclose(
            ReferenceEvaluator(onnx.load(out)).run(None, {"x": x})[0], wanted, rtol=1e-4, atol=1e-5
        )


@pytest.mark.skipif(
    tuple(map(int, onnxruntime.__version__.split(".")[:2])) < (1, 31),
    reason="ONNX Runtime takes functions of one name up to 1.30",
)
def test_functions_of_one_name_are_told_where_they_do_not_run(path: Path) -> None:
    _specialised(path)
    _take_overloads_away(path)
    with pytest.raises(SnDeployError, match="sn-deploy fuse or inline makes it anew"):
        OrtSession(path, native=False)


@pytest.mark.parametrize("command", [inline, fuse, lambda source, path: layers_from_onnx(source)])
def test_overloads_that_a_tool_lost_are_told(path: Path, command: Callable[[Path, Path], object]) -> None:
    """The file runs, and its numbers are others: nothing else would tell."""
    _specialised(path)
    _keep_one_function_of_each_name(path, -1)  # neither the first nor the last of all
    with pytest.raises(SnDeployError, match=r"has a weight of .* for var_.*, which its function SwitchNorm leaves out"):
        command(path, path.with_name("out.onnx"))
    assert not path.with_name("out.onnx").exists()


def test_what_has_nothing_to_inline_is_refused(path: Path) -> None:
    inline(path, path)
    with pytest.raises(SnDeployError, match=r"has no SwitchNorm node.*opset brings it to another"):
        inline(path, path.with_name("out.onnx"))
    with pytest.raises(SnDeployError, match="expected 14 to 24"):
        inline(path, path.with_name("out.onnx"), opset=13)
    assert not path.with_name("out.onnx").exists()


class Sampled(nn.Module):
    """Moved by a third of a pixel, as flow fields and spatial transformers do it."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        theta = torch.tensor([[1.0, 0.0, 0.1], [0.0, 1.0, 0.0]]).to(x).expand(x.shape[0], 2, 3)
        grid = functional.affine_grid(theta, list(x.shape), align_corners=False)
        return functional.grid_sample(x, grid, align_corners=False)


class Parts(nn.Module):
    """Seven channels in parts of three, three and one."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        first, second, last = x.chunk(3, dim=1)
        return torch.cat([first * second, last], dim=1)


@pytest.mark.parametrize("opset", [15, 17])
@pytest.mark.parametrize(
    ("layer", "kind"),
    [
        (nn.ReflectionPad2d((2, 1, 1, 3)), "Pad"),
        (nn.ReplicationPad2d(1), "Pad"),
        (nn.ZeroPad2d((0, 1, 2, 0)), "Pad"),
        (nn.GLU(dim=1), "Split"),
        (Parts(), "Split"),
        (Sampled(), "GridSample"),
    ],
    ids=lambda value: value if isinstance(value, str) else type(value).__name__,
)
def test_operators_whose_older_form_onnx_does_not_write(
    layer: nn.Module, kind: str, opset: int, x: np.ndarray, tmp_path: Path
) -> None:
    """GridSample is of opset 16, so that there is none for 15."""
    channels = 7 if isinstance(layer, Parts) else 6
    net = randomise_(nn.Sequential(nn.Conv2d(3, channels, 1), SwitchNorm2d(channels), layer), 1).eval()
    sn_deploy.export(net, torch.from_numpy(x), tmp_path / "net.onnx", trust_statistics=True)
    assert kind in {node.op_type for node in onnx.load(tmp_path / "net.onnx").graph.node}
    if kind == "GridSample" and opset < 16:
        with pytest.raises(SnDeployError, match=r"can't bring it to opset 15.*GridSample"):
            inline(tmp_path / "net.onnx", tmp_path / "out.onnx", opset=opset)
        return
    report, made = inlined_to(opset, tmp_path)
    assert kind in {node.op_type for node in made.graph.node}
    assert report.whole.rel_l2 is not None
    assert report.whole.rel_l2 < _REL_L2
    with torch.no_grad():
        wanted = net.double()(torch.from_numpy(x).double()).numpy()
    with OrtSession(tmp_path / "out.onnx", native=False) as session:
        (found,) = session.run({session.inputs[0].name: x}).values()
    assert np.linalg.norm(found - wanted) / np.linalg.norm(wanted) < _REL_L2


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
@pytest.mark.parametrize("layer", [nn.GELU(), nn.GELU("tanh"), nn.Mish()], ids=str)
def test_activations_that_an_older_opset_has_not(
    layer: nn.Module, precision: str, x: np.ndarray, tmp_path: Path
) -> None:
    net = randomise_(nn.Sequential(nn.Conv2d(3, 6, 1), SwitchNorm2d(6), layer, nn.Conv2d(6, 2, 1)), 1).eval()
    options = {"precision": precision, "keep_io_types": True, "trust_statistics": True}
    sn_deploy.export(net, torch.from_numpy(x), tmp_path / "net.onnx", **options)
    kind = type(layer).__name__.capitalize()
    assert kind in {node.op_type for node in onnx.load(tmp_path / "net.onnx").graph.node}
    inline(tmp_path / "net.onnx", tmp_path / "out.onnx", opset=17)
    made = onnx.load(tmp_path / "out.onnx")
    onnx.checker.check_model(made, full_check=True)
    assert kind not in {node.op_type for node in made.graph.node}
    with torch.no_grad():
        wanted = net.double()(torch.from_numpy(x).double()).numpy()
    net.float()
    with OrtSession(tmp_path / "out.onnx", native=False) as session:
        (found,) = session.run({session.inputs[0].name: x}).values()
    assert np.linalg.norm(found - wanted) / np.linalg.norm(wanted) < (_REL_L2 if precision == "fp32" else 4e-3)


class Cropped(nn.Module):
    """Resized with antialiasing, which Resize has from opset 18 on."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return functional.interpolate(x, size=(5, 6), mode="bilinear", antialias=True)


def test_an_opset_without_an_operator_of_the_file_is_told(x: np.ndarray, tmp_path: Path) -> None:
    net = nn.Sequential(nn.Conv2d(3, 6, 1), SwitchNorm2d(6), Cropped()).eval()
    sn_deploy.export(net, torch.from_numpy(x), tmp_path / "net.onnx")
    with pytest.raises(SnDeployError, match=r"onnx can't bring it to opset 17: Resize .*nearer to the file's own"):
        inline(tmp_path / "net.onnx", tmp_path / "out.onnx", opset=17)


def _in_bodies(kind: str) -> onnx.ModelProto:
    """Layers in both branches of an If, in a Loop that calls one three times, or in a Scan over the first axis."""
    helper = onnx.helper
    axes: list[int | str] = ["N", 4, "H", "W"]
    shape = ["T", *axes] if kind == "Scan" else axes

    def value(name: str, dtype: int = onnx.TensorProto.FLOAT, dims: Sequence[int | str] = axes) -> onnx.ValueInfoProto:
        return helper.make_tensor_value_info(name, dtype, dims)

    layer, flag = switch_norm_file.node, onnx.TensorProto.BOOL
    constants = {"three": np.array(3), "true": np.array(True)}
    if kind == "If":
        branches = {
            name: helper.make_graph([layer(name, "x", "h", mean=mean)], name, [], [value("h")])
            for name, mean in (("then_branch", (0.5, 0.3)), ("else_branch", (0.1, 0.7)))
        }
        whole = helper.make_node("If", ["true_"], ["y"], name="choice", **branches)
    elif kind == "Loop":
        nodes = [layer("sn", "given", "h"), helper.make_node("Identity", ["on"], ["on_"])]
        inputs = [value("i", onnx.TensorProto.INT64, []), value("on", flag, []), value("given")]
        body = helper.make_graph(nodes, "body", inputs, [value("on_", flag, []), value("h")])
        whole = helper.make_node("Loop", ["three", "true", "x"], ["y"], name="choice", body=body)
    else:
        body = helper.make_graph([layer("sn", "given", "h")], "body", [value("given")], [value("h")])
        whole = helper.make_node("Scan", ["x"], ["y"], body=body, num_scan_inputs=1)
    made = switch_norm_file.model([whole], shape)
    made.graph.initializer.extend(onnx.numpy_helper.from_array(array, name) for name, array in constants.items())
    made.graph.input.pop()
    if kind == "If":
        made.graph.input.append(value("true_", flag, []))
    made.graph.output[0].CopyFrom(value("y", dims=shape))
    made.functions.append(function_body(20, [4]))
    return made


@pytest.mark.parametrize("opset", [17, 16, 15])
@pytest.mark.parametrize("kind", ["If", "Loop", "Scan"])
def test_layers_in_bodies_go_to_older_opsets(kind: str, opset: int, tmp_path: Path) -> None:
    """onnx's converter looks for the axes of a reduction in its own graph alone."""
    onnx.save(_in_bodies(kind), tmp_path / "net.onnx")
    if kind != "Scan" and opset < 16:
        with pytest.raises(SnDeployError, match=rf"node choice: has {kind} nodes.*no opset below 16; give opset=16"):
            inline(tmp_path / "net.onnx", tmp_path / "out.onnx", opset=opset)
        return
    report, made = inlined_to(opset, tmp_path)
    assert report.whole.rel_l2 is not None
    numbers = [
        onnx.numpy_helper.to_array(each) for each in made.graph.initializer if each.data_type == onnx.TensorProto.INT64
    ]
    assert len({(array.shape, array.tobytes()) for array in numbers}) == len(numbers), "one weight for each"
    x = np.random.default_rng(0).standard_normal((*[3] * (kind == "Scan"), 2, 4, 5, 6)).astype(np.float32)
    for given in ({"true_": np.array(True)}, {"true_": np.array(False)}) if kind == "If" else ({},):
        inputs = {"x": x, **given}
        (found,) = ReferenceEvaluator(made).run(None, inputs)
        with OrtSession(tmp_path / "net.onnx", native=False) as session:
            (wanted,) = session.run(inputs).values()
        np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-5)

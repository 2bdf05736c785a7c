"""What no command makes another file of: each refuses it before it does any work."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

import onnx
import onnx.printer
import pytest
import torch

import sn_deploy
from sn_deploy.errors import SnDeployError
from sn_deploy.fuse import fuse
from sn_deploy.graph.portable_file import load_portable
from sn_deploy.inline import inline
from sn_deploy.nn import SwitchNorm2d
from sn_deploy.onnx_file import read_proto
from sn_deploy.optimise.run import optimise
from sn_deploy.precision import convert_precision, quantize
from sn_deploy.runtime.native import ort_library
from sn_deploy.runtime.ort import block_size
from sn_deploy.specialise import specialise
from tests.check.small_net import small_net
from tests.randomise import randomise_

COMMANDS: dict[str, Callable[[Path, Path], object]] = {
    "specialise": specialise,
    "optimise": optimise,
    "convert-precision": lambda source, path: convert_precision(source, path, precision="fp16"),
    "quantize": lambda source, path: quantize(source, path, precision="int8"),
}


def save_out_of_order(path: Path) -> None:
    """In ONNX Runtime it runs; ONNX doesn't allow it."""
    made = small_net()
    nodes = list(made.graph.node)[::-1]
    del made.graph.node[:]
    made.graph.node.extend(nodes)
    onnx.save(made, path)


def layer_that_imports_its_own_domain_alone() -> onnx.ModelProto:
    """It needs no standard operators but in its function, which imports them itself: a valid file."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "layer.onnx"
        sn_deploy.export(randomise_(SwitchNorm2d(4), 0).eval(), torch.zeros(1, 4, 6, 6), path)
        made = onnx.load(path)
    own = [opset for opset in made.opset_import if opset.domain]
    del made.opset_import[:]
    made.opset_import.extend(own)
    onnx.checker.check_model(made)
    return made


def save_without_standard_operators(path: Path) -> None:
    """For runtimes that have the operator themselves."""
    made = layer_that_imports_its_own_domain_alone()
    del made.functions[:]
    onnx.save(made, path)


def save_a_layer_in_a_function(path: Path) -> None:
    """What is made of the file has functions for the layers of its graph alone."""
    made = small_net()
    layer = next(node for node in made.graph.node if node.domain == "sn_deploy")
    inner = onnx.NodeProto()
    inner.CopyFrom(layer)
    opsets = [onnx.helper.make_opsetid("", 20), onnx.helper.make_opsetid("sn_deploy", 1)]
    made.functions.append(onnx.helper.make_function("theirs", "F", layer.input, layer.output, [inner], opsets))
    layer.CopyFrom(onnx.helper.make_node("F", list(layer.input), list(layer.output), domain="theirs"))
    made.opset_import.append(onnx.helper.make_opsetid("theirs", 1))
    onnx.save(made, path)


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize(
    ("save", "refusal"),
    [
        (save_out_of_order, "its nodes are out of order: Gemm"),
        (save_without_standard_operators, "imports no standard operators"),
        (save_a_layer_in_a_function, r"its function theirs::F holds an SN layer .*sn-deploy fuse"),
    ],
)
def test_every_command_refuses_it(save: Callable[[Path], None], refusal: str, command: str, tmp_path: Path) -> None:
    if command == "optimise" and (ort_library() is None or block_size() is None):
        pytest.skip("nothing can be optimised on this machine")
    save(tmp_path / "in.onnx")
    with pytest.raises(SnDeployError, match=refusal):
        COMMANDS[command](tmp_path / "in.onnx", tmp_path / "out.onnx")
    assert [path.name for path in tmp_path.iterdir()] == ["in.onnx"]


@pytest.mark.parametrize("command", ["specialise", "convert-precision"])
def test_opsets_that_functions_alone_import_are_the_models(command: str, tmp_path: Path) -> None:
    onnx.save(layer_that_imports_its_own_domain_alone(), tmp_path / "in.onnx")
    COMMANDS[command](tmp_path / "in.onnx", tmp_path / "out.onnx")
    assert {opset.domain for opset in onnx.load(tmp_path / "out.onnx").opset_import} == {"", "sn_deploy"}


def test_what_is_sound_is_loaded(tmp_path: Path) -> None:
    onnx.save(small_net(), tmp_path / "in.onnx")
    assert load_portable(tmp_path / "in.onnx").graph.name == small_net().graph.name


def test_the_other_name_of_the_standard_domain(tmp_path: Path) -> None:
    made = small_net()
    branch = onnx.helper.make_graph([onnx.helper.make_node("Relu", ["x"], ["b"], domain="ai.onnx")], "b", [], [])
    made.graph.node.insert(0, onnx.helper.make_node("If", ["x"], [], then_branch=branch, else_branch=branch))
    plain = onnx.ModelProto()
    plain.CopyFrom(made)
    for attribute in plain.graph.node[0].attribute:
        attribute.g.node[0].domain = ""
    for entry in (*made.opset_import, *(entry for function in made.functions for entry in function.opset_import)):
        entry.domain = entry.domain or "ai.onnx"
    for node in (*made.graph.node, *(node for function in made.functions for node in function.node)):
        node.domain = node.domain or "ai.onnx"
    onnx.save(made, tmp_path / "in.onnx")
    assert onnx.printer.to_text(read_proto(tmp_path / "in.onnx")) == onnx.printer.to_text(plain)


@pytest.mark.parametrize("command", [*COMMANDS, "fuse", "inline"])
def test_a_file_with_that_name_is_taken(command: str, tmp_path: Path) -> None:
    if command == "optimise" and (ort_library() is None or block_size() is None):
        pytest.skip("nothing can be optimised on this machine")
    made = small_net()
    for entry in made.opset_import:
        entry.domain = entry.domain or "ai.onnx"
    onnx.save(made, tmp_path / "in.onnx")
    {**COMMANDS, "fuse": fuse, "inline": inline}[command](tmp_path / "in.onnx", tmp_path / "out.onnx")
    onnx.checker.check_model(onnx.load(tmp_path / "out.onnx"))

"""Files that draw random numbers: the node is named, unless it has a seed; then two runs are the same."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from sn_deploy.compare.tolerances import TOLERANCES
from sn_deploy.errors import SnDeployError
from sn_deploy.fuse.facts import GraphFacts
from sn_deploy.graph.random_nodes import draws
from sn_deploy.optimise import optimise
from sn_deploy.precision import convert_precision, quantize
from sn_deploy.runtime.ort import OrtSession
from sn_deploy.specialise import specialise
from tests.optimise.nets import Net

Draw = Callable[..., str]


def like(op_type: str) -> Draw:
    return lambda net, x, **seed: net.add("Add", [x, net.add(op_type, [x], 16, **seed)], 16)


def bernoulli(net: Net, x: str, **seed: Any) -> str:
    return net.add("Mul", [x, net.add("Bernoulli", [net.add("Sigmoid", [x], 16)], 16, **seed)], 16)


def dropout(net: Net, x: str, training: bool | None = True, **seed: Any) -> str:
    more = [] if training is None else [net.constant(np.array(0.5, np.float32)), net.constant(np.array(training))]
    return net.add("Dropout", [x, *more], 16, **seed)


RANDOM: dict[str, Draw] = {
    "RandomNormalLike": like("RandomNormalLike"),
    "RandomUniformLike": like("RandomUniformLike"),
    "Bernoulli": bernoulli,
    "Dropout": dropout,
}
# A layer that could work on ONNX Runtime's blocks, behind numbers of other nodes.
COMMANDS: dict[str, Callable[[Path, Path], object]] = {
    "optimise": optimise,
    "specialise": specialise,
    "convert_precision": lambda source, path: convert_precision(source, path, precision="fp16"),
    "quantize": lambda source, path: quantize(source, path, precision="int8"),
}


def made(path: Path, draw: Draw, **seed: Any) -> Path:
    net = Net(3, (8, 8))
    noisy = draw(net, net.norm(net.conv("x", 16), relu=True), **seed)
    return net.save(path, net.norm(net.conv(noisy, 16), relu=True))


@pytest.mark.parametrize("op_type", RANDOM)
@pytest.mark.parametrize("command", COMMANDS)
def test_the_node_that_is_random_is_named(block: int, tmp_path: Path, command: str, op_type: str) -> None:
    source = made(tmp_path / "net.onnx", RANDOM[op_type])
    with pytest.raises(SnDeployError, match=rf"net\.onnx, node node_\w+ \({op_type}\): .*in evaluation mode.*a seed"):
        COMMANDS[command](source, tmp_path / "out.onnx")
    assert list(tmp_path.iterdir()) == [source]


@pytest.mark.parametrize("op_type", RANDOM)
@pytest.mark.parametrize("command", ["optimise", "convert_precision"])
def test_with_a_seed_it_is_proved(block: int, tmp_path: Path, command: str, op_type: str) -> None:
    seed = 3 if op_type == "Dropout" else 3.0
    source, path = made(tmp_path / "net.onnx", RANDOM[op_type], seed=seed), tmp_path / "out.onnx"
    COMMANDS[command](source, path)
    onnx.checker.check_model(onnx.load(path), full_check=command != "optimise")
    x = np.random.default_rng(0).normal(size=(2, 3, 8, 8)).astype(np.float32)
    with OrtSession(source, native=False) as first, OrtSession(path) as second:
        (expected,), (actual,) = first.run({"x": x}).values(), second.run({"x": x}).values()
    size = np.linalg.norm((actual - expected).astype(np.float64)) / np.linalg.norm(expected.astype(np.float64))
    assert size < TOLERANCES["float32" if command == "optimise" else "float16"].rel_l2


@pytest.mark.parametrize("training", [False, None])
def test_a_dropout_of_inference_is_none(block: int, tmp_path: Path, training: bool | None) -> None:
    source = made(tmp_path / "net.onnx", dropout, training=training)
    for name in ("optimise", "specialise"):
        COMMANDS[name](source, tmp_path / f"{name}.onnx")


def test_what_is_drawn_is_no_constant() -> None:
    """`fuse` takes what weights alone make for one; a Dropout of weights in training mode isn't."""
    for training, constant in ((True, False), (False, True)):
        net = Net(3, (8, 8))
        weight = net.constant(np.ones((16, 1, 1), np.float32))
        dropped = dropout(net, weight, training=training)
        graph = ir.from_proto(net.model(net.add("Add", [net.conv("x", 16), dropped], 16))).graph
        (node,) = (node for node in graph if node.op_type == "Dropout")
        assert draws(node) is training
        assert GraphFacts(graph).is_constant(node.outputs[0]) is constant


def test_the_type_of_what_is_made_like_a_half_tensor(tmp_path: Path) -> None:
    """It was that of what is read, which became half: no valid ONNX."""
    net = Net(3, (8, 8))
    pooled = net.add("Flatten", [net.add("GlobalAveragePool", [net.norm(net.conv("x", 16))], 16)], 16)
    source = net.save(tmp_path / "net.onnx", net.add("Add", [pooled, net.add("EyeLike", [pooled], 16)], 16))
    convert_precision(source, tmp_path / "half.onnx", precision="fp16")
    onnx.checker.check_model(tmp_path / "half.onnx", full_check=True)

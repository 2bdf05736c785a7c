"""Damaged ONNX models: what other programs, disks and attackers may hand to `fuse`. Deterministic by seed.

    python -m tests.fuse.mutations FIRST LAST

mutates a model of the zoo for each seed, fuses it, and prints a line for each outcome that isn't a report or an
`SnDeployError` (with ``--verbose`` for every one). It ends with 1 if there was one. It is a program of its own, since a
crash would end whoever called it.
"""

from __future__ import annotations

import argparse
import contextlib
import random
import resource
import signal
import sys
import tempfile
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import onnx
from onnx import AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto, helper

from sn_deploy.errors import SnDeployError
from sn_deploy.fuse import fuse
from tests.fuse.zoo import DECOYS, TRUE

SECONDS = 30  # for one file, on a busy machine
MEMORY_GIB = 6

Random = random.Random
Mutation = Callable[[ModelProto, Random], None]

_OPS = ["Add", "Sub", "Mul", "Div", "Sqrt", "Pow", "ReduceMean", "ReduceSum", "Reshape", "Transpose", "Expand", "Tile",
        "Shape", "Gather", "Slice", "Concat", "Cast", "If", "Loop", "Constant", "ConstantOfShape", "Range", "Nonsense",
        "SwitchNorm", "Clip", "Relu", "Where", "Identity", "Softmax", "Unsqueeze"]  # fmt: skip
_NUMBERS = [0, 1, -1, 2, 3, 7, 100, -100, 2**31 - 1, -(2**31), 2**40, 2**63 - 1, -(2**63)]
_FLOATS = [0.0, -1.0, 1e38, -1e38, float("inf"), float("-inf"), float("nan"), 1e-45]
_NAMES = ["", "x", "no such value", "\0", "a/b\\c", "ü" * 300, "%s%n"]


def _graphs(model: ModelProto) -> Iterator[GraphProto]:
    waiting = [model.graph]
    while waiting:
        graph = waiting.pop()
        yield graph
        for node in graph.node:
            waiting += [attribute.g for attribute in node.attribute if attribute.HasField("g")]


def _node(model: ModelProto, draw: Random) -> NodeProto:
    nodes = [node for graph in _graphs(model) for node in graph.node]
    return draw.choice(nodes) if nodes else model.graph.node.add(op_type="Identity", input=["x"], output=["extra"])


def _tensor(model: ModelProto, draw: Random) -> TensorProto:
    tensors = [tensor for graph in _graphs(model) for tensor in graph.initializer]
    tensors += [attribute.t for graph in _graphs(model) for node in graph.node for attribute in node.attribute
                if attribute.HasField("t")]  # fmt: skip
    return draw.choice(tensors) if tensors else model.graph.initializer.add(name="w", data_type=1, dims=[2])


def _value_names(model: ModelProto) -> list[str]:
    return [name for graph in _graphs(model) for node in graph.node for name in node.output] + ["x", *_NAMES]


def drop_node(model: ModelProto, draw: Random) -> None:
    nodes = model.graph.node
    if nodes:
        del nodes[draw.randrange(len(nodes))]


def repeat_node(model: ModelProto, draw: Random) -> None:
    model.graph.node.add().CopyFrom(_node(model, draw))


def move_node(model: ModelProto, draw: Random) -> None:
    nodes = list(model.graph.node)
    draw.shuffle(nodes)
    if draw.random() < 0.7:
        nodes.sort(key=lambda node: node.name)
    copies = [NodeProto.FromString(node.SerializeToString()) for node in nodes]
    del model.graph.node[:]
    model.graph.node.extend(copies)


def other_operator(model: ModelProto, draw: Random) -> None:
    _node(model, draw).op_type = draw.choice(_OPS)


def other_domain(model: ModelProto, draw: Random) -> None:
    _node(model, draw).domain = draw.choice(["ai.onnx", "sn_deploy", "com.microsoft", "nowhere", "\0"])


def rewire(model: ModelProto, draw: Random) -> None:
    node = _node(model, draw)
    if node.input:
        node.input[draw.randrange(len(node.input))] = draw.choice(_value_names(model))


def other_inputs(model: ModelProto, draw: Random) -> None:
    node = _node(model, draw)
    if draw.random() < 0.5 and node.input:
        del node.input[draw.randrange(len(node.input))]
    else:
        node.input.extend(draw.choices(_value_names(model), k=draw.choice([1, 2, 200])))


def other_outputs(model: ModelProto, draw: Random) -> None:
    node = _node(model, draw)
    if draw.random() < 0.5 and node.output:
        node.output[draw.randrange(len(node.output))] = draw.choice(_value_names(model))
    else:
        node.output.extend(draw.choices(_value_names(model), k=2))


def other_attribute(model: ModelProto, draw: Random) -> None:
    node = _node(model, draw)
    kind = draw.randrange(6)
    if kind == 0 and node.attribute:
        del node.attribute[draw.randrange(len(node.attribute))]
        return
    names = [attribute.name for attribute in node.attribute] + [
        "axes",
        "axis",
        "keepdims",
        "perm",
        "to",
        "value",
        "epsilon",
    ]
    name = draw.choice(names)
    kept = [attribute for attribute in node.attribute if attribute.name != name]
    values = [draw.choice(_NUMBERS), draw.choices(_NUMBERS, k=draw.randrange(5)), draw.choice(_FLOATS), "text",
              [draw.choice(_FLOATS)], b"\xff\xfe"]  # fmt: skip
    made = helper.make_attribute(name, draw.choice(values)) if draw.random() < 0.9 else AttributeProto(name=name)
    if draw.random() < 0.1:
        made.type = draw.choice([0, 1, 5, 12])
    copies = [AttributeProto.FromString(attribute.SerializeToString()) for attribute in kept]
    del node.attribute[:]
    node.attribute.extend([*copies, made])


def other_dims(model: ModelProto, draw: Random) -> None:
    tensor = _tensor(model, draw)
    if tensor.dims and draw.random() < 0.6:
        tensor.dims[draw.randrange(len(tensor.dims))] = draw.choice(_NUMBERS)
    else:
        tensor.dims.extend(draw.choices(_NUMBERS, k=draw.randrange(1, 9)))


def other_data(model: ModelProto, draw: Random) -> None:
    tensor = _tensor(model, draw)
    data = bytearray(tensor.raw_data)
    kind = draw.randrange(5)
    if kind == 0:
        tensor.raw_data = bytes(data[: len(data) // 2])
    elif kind == 1:
        tensor.raw_data = bytes(data) + b"\x00" * draw.choice([1, 4, 1000])
    elif kind == 2:
        tensor.data_type = draw.choice([0, 1, 3, 6, 7, 8, 9, 10, 11, 14, 16, 17, 22, 99, -1])
    elif kind == 3:
        tensor.float_data.extend(_FLOATS)
    elif data:
        for _ in range(8):
            data[draw.randrange(len(data))] = draw.randrange(256)
        tensor.raw_data = bytes(data)


def special_numbers(model: ModelProto, draw: Random) -> None:
    tensor = _tensor(model, draw)
    if tensor.data_type == TensorProto.FLOAT and len(tensor.raw_data) >= 4:
        import struct

        place = draw.randrange(len(tensor.raw_data) // 4) * 4
        number = struct.pack("<f", draw.choice([value for value in _FLOATS if abs(value) < 1e39 or value != value]))
        tensor.raw_data = tensor.raw_data[:place] + number + tensor.raw_data[place + 4 :]


def outside_data(model: ModelProto, draw: Random) -> None:
    tensor = _tensor(model, draw)
    tensor.data_location = TensorProto.EXTERNAL
    for key, values in (
        ("location", ["no.data", "../../etc/passwd", "/etc/passwd", "", "model.onnx", "\0"]),
        ("offset", ["0", "-1", "99999999999999999999", "x"]),
        ("length", ["8", "-1", "99999999999999", "x"]),
    ):
        if draw.random() < 0.8:
            tensor.external_data.add(key=key, value=draw.choice(values))


def other_interface(model: ModelProto, draw: Random) -> None:
    values = [*model.graph.input, *model.graph.output, *model.graph.value_info]
    if not values:
        return
    value = draw.choice(values)
    kind = draw.randrange(5)
    if kind == 0:
        value.name = draw.choice(_value_names(model))
    elif kind == 1:
        value.type.tensor_type.elem_type = draw.choice([0, 1, 7, 10, 11, 16, 99, -1])
    elif kind == 2:
        value.ClearField("type")
    elif kind == 3:
        del value.type.tensor_type.shape.dim[draw.randrange(2) :]
    else:
        value.type.tensor_type.shape.dim.add(dim_value=draw.choice(_NUMBERS))


def other_extent(model: ModelProto, draw: Random) -> None:
    dims = [dim for value in model.graph.input for dim in value.type.tensor_type.shape.dim]
    if dims:
        dim = draw.choice(dims)
        if draw.random() < 0.7:
            dim.dim_value = draw.choice([0, 1, 2, 5, 1000, 2**30, 2**40, -1, -(2**63)])
        else:
            dim.dim_param = draw.choice(["n", "", "n + 1", "x" * 1000])


def other_versions(model: ModelProto, draw: Random) -> None:
    kind = draw.randrange(4)
    if kind == 0:
        model.ir_version = draw.choice([0, 1, 3, 9, 99, -1])
    elif kind == 1:
        del model.opset_import[:]
    elif kind == 2:
        model.opset_import.add(domain=draw.choice(["", "ai.onnx", "sn_deploy"]), version=draw.choice(_NUMBERS))
    elif model.opset_import:
        model.opset_import[0].version = draw.choice([-1, 0, 1, 5, 7, 9, 10, 14, 25, 99, 2**62])


def subgraph(model: ModelProto, draw: Random) -> None:
    inner = GraphProto(name="inner")
    inner.node.extend(NodeProto.FromString(node.SerializeToString()) for node in model.graph.node)
    inner.output.extend(model.graph.output)
    model.graph.node.append(
        helper.make_node(draw.choice(["If", "Loop", "Scan"]), ["x"], ["branch"], then_branch=inner, else_branch=inner)
    )


def functions(model: ModelProto, draw: Random) -> None:
    function = model.functions.add(
        name=draw.choice(["SwitchNorm", "F", ""]), domain=draw.choice(["sn_deploy", "f", ""])
    )
    function.input.append("x")
    function.output.append("y")
    function.opset_import.add(domain="", version=17)
    function.opset_import.add(domain="f", version=1)
    function.node.extend(NodeProto.FromString(node.SerializeToString()) for node in list(model.graph.node)[:5])
    if draw.random() < 0.5:  # calls itself
        function.node.append(helper.make_node(function.name, ["x"], ["y"], domain=function.domain))
    model.opset_import.add(domain="f", version=1)
    model.graph.node.insert(0, helper.make_node(function.name, ["x"], ["called"], domain=function.domain))


def endless_names(model: ModelProto, draw: Random) -> None:
    name = draw.choice(_NAMES)
    for node in model.graph.node:
        node.name = name


MUTATIONS: list[Mutation] = [
    drop_node, repeat_node, move_node, other_operator, other_domain, rewire, rewire, other_inputs, other_outputs,
    other_attribute, other_attribute, other_dims, other_data, special_numbers, outside_data, other_interface,
    other_extent, other_extent, other_versions, subgraph, functions, endless_names,
]  # fmt: skip

MODELS = list({**TRUE, **{name: lambda make=make: (make(), None) for name, make in DECOYS.items()}}.items())  # type: ignore[misc]


def mutated(seed: int) -> bytes:
    """The file of one seed: some mutations of a model, and now and then damaged bytes."""
    draw = Random(seed)
    _, make = MODELS[draw.randrange(len(MODELS))]
    model = make()[0]
    for _ in range(draw.choice([0, 1, 1, 2, 3, 8])):
        with contextlib.suppress(IndexError, ValueError, OverflowError, TypeError):  # protobuf takes no such value
            draw.choice(MUTATIONS)(model, draw)
    data = bytearray(model.SerializeToString())
    if draw.random() < 0.15:
        for _ in range(draw.choice([1, 4, 64])):
            data[draw.randrange(len(data))] = draw.randrange(256)
    if draw.random() < 0.03:
        del data[draw.randrange(len(data)) :]
    return bytes(data)


class _TooSlowError(BaseException):
    """Not an Exception, so that nothing swallows it."""


def outcome(seed: int, folder: Path) -> str:
    """``fused``, ``refused``, or what was wrong with how `fuse` took the file of this seed."""
    source, target = folder / "model.onnx", folder / "out.onnx"
    source.write_bytes(mutated(seed))
    target.unlink(missing_ok=True)

    def stop(number: int, frame: object) -> None:
        raise _TooSlowError

    signal.signal(signal.SIGALRM, stop)
    signal.alarm(SECONDS)
    try:
        fuse(source, target, run=False)
    except SnDeployError as error:
        return f"FAILED: {error!r}, and {target} was written" if target.exists() else f"refused: {error}"
    except _TooSlowError:
        return f"FAILED: took more than {SECONDS} s"
    except BaseException as error:  # noqa: BLE001 (it is what is looked for)
        where = traceback.extract_tb(error.__traceback__)[-1]
        return f"FAILED: {type(error).__name__}: {str(error)[:200]} at {where.filename}:{where.lineno}"
    finally:
        signal.alarm(0)
    onnx.checker.check_model(onnx.load(target, load_external_data=False))
    return "fused"


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("first", type=int)
    parser.add_argument("last", type=int)
    parser.add_argument("--verbose", action="store_true", help="print every outcome")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    limit = MEMORY_GIB << 30
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    counts: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as folder:
        for seed in range(arguments.first, arguments.last):
            print(f"seed {seed}", end=" ", file=sys.stderr, flush=True)  # the last one before a crash
            result = outcome(seed, Path(folder))
            counts[result.split(":")[0]] += 1
            if arguments.verbose or result.startswith("FAILED"):
                print(f"seed {seed}: {result}", flush=True)
    print(f"{counts['fused']} fused, {counts['refused']} refused, {counts['FAILED']} failed")
    sys.exit(1 if counts["FAILED"] else 0)


if __name__ == "__main__":
    main()

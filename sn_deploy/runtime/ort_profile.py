"""How long each SN layer takes in ONNX Runtime, from its own profile."""

from __future__ import annotations

import collections
import json
import statistics
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final, Protocol

import onnx
import onnx.inliner

from sn_deploy.runtime.tensors import Array

CALLS: Final = 20
WARMUP: Final = 5
# The runtime may not import the graph part of the package: the same name as in sn_deploy.graph.op.
_DOMAIN: Final = "sn_deploy"
_OPERATORS: Final = "SwitchNorm"  # how the names of all of them begin


class Profiled(Protocol):
    """A session that was opened with a profile."""

    def run(self, inputs: Mapping[str, Array]) -> Mapping[str, Array]: ...

    def end_profiling(self) -> Path: ...


Opener = Callable[[Path | bytes, Path], Profiled]


def layer_times(path: Path, open_session: Opener, inputs: Mapping[str, Array]) -> dict[str, float]:
    """Layer -> ms in one call: the median over some calls.

    Where native operators run, each layer is a node. Where the function inside the file runs, a layer's time is that of
    the nodes that it is made of, as far as ONNX Runtime's optimisers leave them apart from others.

    Args:
        path: an ONNX file.
        open_session: opens a model, or its bytes, so that its profile is written into a folder.
        inputs: of one call.

    Returns:
        In the order in which the layers run. Empty for a file without layers, and for functions in a file whose weights
        are in another one.
    """
    model = onnx.load(path, load_external_data=False)
    layers = [node.name for node in model.graph.node if node.domain == _DOMAIN]
    if not layers:
        return {}
    events = list(_profile(path, open_session, inputs))
    native = {name: duration for name, operator, duration in events if operator.startswith(_OPERATORS)}
    if native:
        return {name: native[name] for name in layers if name in native}
    if any(tensor.external_data for tensor in model.graph.initializer):
        return {}
    named = _with_named_bodies(model)
    if named is None:
        return {}
    totals = dict.fromkeys(range(len(layers)), 0.0)
    for name, _, duration in _profile(named.SerializeToString(), open_session, inputs):
        place, _, part = name.partition("/")
        if part and place.removeprefix("layer-").isdigit():
            totals[int(place.removeprefix("layer-"))] += duration
    return {layers[place]: total for place, total in totals.items() if total}


def _profile(
    model: Path | bytes, open_session: Opener, inputs: Mapping[str, Array]
) -> Iterator[tuple[str, str, float]]:
    """Name, operator and ms of each node that ran."""
    with tempfile.TemporaryDirectory() as folder:
        session = open_session(model, Path(folder))
        for _ in range(WARMUP + CALLS):
            session.run(inputs)
        events = json.loads(session.end_profiling().read_text(encoding="utf-8"))
    durations: dict[tuple[str, str], list[int]] = collections.defaultdict(list)
    for event in events:
        if event.get("cat") == "Node" and event["name"].endswith("_kernel_time"):
            node = event["name"].removesuffix("_kernel_time"), event["args"].get("op_name", "")
            durations[node].append(event["dur"])  # µs
    for (name, operator), values in durations.items():
        yield name, operator, statistics.median(values[WARMUP:] or values) / 1e3


def _with_named_bodies(model: onnx.ModelProto) -> onnx.ModelProto | None:
    """The model with its functions inlined, their nodes named ``layer-0/0`` and so on; None where that fails."""
    counts = _node_counts(model.functions)
    inlined = onnx.inliner.inline_local_functions(model)
    nodes = iter(inlined.graph.node)
    place = 0
    for call in model.graph.node:
        is_layer = call.domain == _DOMAIN
        for part in range(counts.get(_callee(call), 1)):
            node = next(nodes, None)
            if node is None:
                return None
            if is_layer:
                node.name = f"layer-{place}/{part}"
            elif node.op_type != call.op_type and _callee(call) not in counts:
                return None
        place += is_layer
    return inlined if next(nodes, None) is None else None


Callee = tuple[str, str, str]


def _callee(node: onnx.NodeProto) -> Callee:
    """Domain, name and overload of the function that a node would call."""
    return node.domain, node.op_type, node.overload


def _node_counts(functions: Sequence[onnx.FunctionProto]) -> dict[Callee, int]:
    """Each function -> how many nodes a call of it becomes."""
    bodies = {(function.domain, function.name, function.overload): function for function in functions}

    def count(key: Callee) -> int:
        if key not in bodies:
            return 1
        return sum(count(_callee(node)) for node in bodies[key].node)

    return {key: count(key) for key in bodies}

"""The custom op for ONNX Runtime on the CPU beside the function body, at the layers of ResNet-50 and in the whole net.

    cmake -S plugins -B build/plugins -G Ninja && ninja -C build/plugins
    python benchmarks/native_op.py --library build/plugins/onnxruntime/libsn_deploy_ort.so --output native_op.json

The baseline of a layer is the function body; that of the net is the floor: the same net with its norms folded into the
convolutions, as if they were batch norms. Whatever a net with SN takes over the floor is what SN costs.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from function_body import LAYERS, look_trained_
from interleaved import machine, summary, table, times_of
from onnx import helper

import sn_deploy
from sn_deploy.atomic import atomic_output, check_writable
from sn_deploy.graph.op import DOMAIN, SWITCH_NORM
from sn_deploy.models import resnetv1sn50
from sn_deploy.nn import SwitchNorm2d
from sn_deploy.runtime.ort import OrtSession

OPSET = 20
FLOOR = "floor: norms folded into the convolutions"
FUNCTION = "function body"
NATIVE = "custom op"
FUSED = "custom op, ReLU and residual fused"


def exported(module: torch.nn.Module, x: torch.Tensor) -> onnx.ModelProto:
    """The file that `sn_deploy.export` writes."""
    with tempfile.TemporaryDirectory() as folder:
        sn_deploy.export(module, x, Path(folder) / "model.onnx", opset=OPSET)
        return onnx.load(Path(folder) / "model.onnx")


def with_fused_forms(model: onnx.ModelProto) -> onnx.ModelProto:
    """SwitchNorm, then Relu, and SwitchNorm, then Add, then Relu, as one node each."""
    fused = onnx.ModelProto()
    fused.CopyFrom(model)
    graph = fused.graph
    kept = {value.name for value in graph.output}
    consumers: dict[str, list[onnx.NodeProto]] = {}
    for node in graph.node:
        for name in node.input:
            consumers.setdefault(name, []).append(node)

    def only_consumer(node: onnx.NodeProto, op_type: str) -> onnx.NodeProto | None:
        found = consumers.get(node.output[0], [])
        alone = len(found) == 1 and found[0].op_type == op_type and node.output[0] not in kept
        return found[0] if alone else None

    swallowed: set[str] = set()  # by their output
    replaced: dict[str, onnx.NodeProto] = {}  # what a Relu becomes
    # The last of two norms that are added: the other's output is there by then.
    for node in reversed([node for node in graph.node if node.op_type == SWITCH_NORM]):
        add = only_consumer(node, "Add")
        relu = only_consumer(add or node, "Relu")
        if relu is None or relu.output[0] in replaced:
            continue
        new = onnx.NodeProto()
        new.CopyFrom(node)
        new.output[0] = relu.output[0]
        new.op_type = "SwitchNormRelu" if add is None else "SwitchNormAddRelu"
        if add is not None:
            new.input.append(next(name for name in add.input if name != node.output[0]))
            swallowed.add(add.output[0])
        swallowed.add(node.output[0])
        replaced[relu.output[0]] = new
    nodes = [replaced.get(node.output[0], node) for node in graph.node if node.output[0] not in swallowed]
    del graph.node[:]
    graph.node.extend(nodes)
    return fused


def with_folded_norms(model: onnx.ModelProto) -> onnx.ModelProto:
    """The net without its norms: each becomes a bias of the convolution before it. Its numbers mean nothing."""
    folded = onnx.ModelProto()
    folded.CopyFrom(model)
    graph = folded.graph
    source = {node.output[0]: node for node in graph.node}
    norms = [node for node in graph.node if node.op_type == SWITCH_NORM]
    for norm in norms:
        convolution = source[norm.input[0]]
        assert convolution.op_type == "Conv"
        assert len(convolution.input) == 2
        convolution.input.append(norm.input[2])
        convolution.output[0] = norm.output[0]
        graph.node.remove(norm)
    del folded.functions[:]
    return folded


def check_agreement(sessions: Mapping[str, OrtSession], x: np.ndarray) -> None:
    """Exits if a session's output isn't the function body's."""
    outputs = {}
    for name, session in sessions.items():
        (outputs[name],) = session.run({session.inputs[0].name: x}).values()
    for name, output in outputs.items():
        difference = np.linalg.norm(output - outputs[FUNCTION]) / np.linalg.norm(outputs[FUNCTION])
        # Subnormal or infinite activations would make the floor's time another one.
        fine = 1e-3 < np.abs(output).max() < 1e6 if name == FLOOR else difference < 1e-5
        if not fine:
            raise SystemExit(f"{name}: relative L2 difference of {difference:.1e} from the {FUNCTION}")


def measure(
    models: Mapping[str, onnx.ModelProto], baseline: str, library: Path, x: np.ndarray, threads: int, rounds: int
) -> dict[str, Any]:
    """Times the models in turn, those with the custom op with the library."""
    sessions = {
        name: OrtSession(
            model.SerializeToString(),
            threads=threads,
            spinning=False,
            custom_op_library=library if name in (NATIVE, FUSED) else None,
        )
        for name, model in models.items()
    }
    check_agreement(sessions, x)
    inputs = {name: {session.inputs[0].name: x} for name, session in sessions.items()}
    calls = {name: lambda name=name: sessions[name].run(inputs[name]) for name in sessions}  # type: ignore[misc]
    return summary(times_of(calls, rounds=rounds), baseline)


def with_relu(model: onnx.ModelProto) -> onnx.ModelProto:
    """A layer and the ReLU that follows it in the net, so that the fused form has the same work."""
    longer = onnx.ModelProto()
    longer.CopyFrom(model)
    (node,) = longer.graph.node
    name = node.output[0]
    node.output[0] = f"{name}_norm"
    longer.graph.node.append(helper.make_node("Relu", [node.output[0]], [name]))
    return longer


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--library", type=Path, required=True, help="the custom-op library")
    parser.add_argument("--output", type=Path, help="JSON file of the results")
    parser.add_argument("--threads", type=int, nargs="+", default=[2, 1])
    parser.add_argument("--rounds", type=int, default=60, help="at batch 1; a quarter of it at larger ones")
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 8])
    parser.add_argument("--only", choices=["layers", "net"], help="leave the other half out")
    arguments = parser.parse_args()
    if arguments.output is not None:
        check_writable(arguments.output)
    torch.set_num_threads(max(arguments.threads))
    results: dict[str, Any] = {
        "command": " ".join(["python", "benchmarks/native_op.py", *sys.argv[1:]]),
        "machine": machine(["onnxruntime", "onnx", "torch", "numpy"], max(arguments.threads)),
        "provider": "CPUExecutionProvider",
        "operator": f"{DOMAIN}::{SWITCH_NORM}",
        "layers_with_relu": {},
        "resnet50_at_224": {},
    }

    def record(part: str, models: Mapping[str, onnx.ModelProto], baseline: str, x: np.ndarray) -> None:
        rounds = max(10, arguments.rounds if x.shape[0] == 1 else arguments.rounds // 4)
        for threads in arguments.threads:
            rows = measure(models, baseline, arguments.library, x, threads, rounds)
            case = f"{'×'.join(map(str, x.shape))}, {threads} thread{'s' if threads > 1 else ''}"
            results[part][case] = rows
            print(f"\n{part}: {case}\n{table(rows)}", flush=True)
        if arguments.output is not None:
            with atomic_output(arguments.output) as path:
                path.write_text(json.dumps(results, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")

    for batch in arguments.batches:
        if arguments.only != "layers":
            torch.manual_seed(0)
            x = torch.randn((batch, 3, 224, 224), generator=torch.Generator().manual_seed(0))
            net = exported(look_trained_(resnetv1sn50()), x)
            nets = {FLOOR: with_folded_norms(net), FUNCTION: net, NATIVE: net, FUSED: with_fused_forms(net)}
            record("resnet50_at_224", nets, FLOOR, x.numpy())
        for channels, extent in LAYERS if arguments.only != "net" else []:
            x = torch.randn((batch, channels, extent, extent), generator=torch.Generator().manual_seed(0))
            layer = with_relu(exported(look_trained_(SwitchNorm2d(channels)), x))
            layers = {FUNCTION: layer, NATIVE: layer, FUSED: with_fused_forms(layer)}
            record("layers_with_relu", layers, FUNCTION, x.numpy())


if __name__ == "__main__":
    main()

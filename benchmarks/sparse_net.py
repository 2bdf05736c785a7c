"""A sparse ResNet-50, specialised: what its layers that chose BN still cost in ONNX Runtime on the CPU.

    python benchmarks/sparse_net.py --output benchmarks/results/sparse_net.json

Each layer has one-hot weights, mean and variance with choices of their own; half of them chose BN for both. The
baseline is the same net without those: their nodes are gone from the file, a bias is in the convolution, and it is
specialised just as the other. Its numbers mean nothing; its time is what is left when they cost nothing.
"""

from __future__ import annotations

import argparse
import itertools
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from function_body import look_trained_
from interleaved import command_line, machine, summary, table, times_of, write_results
from onnx import helper

import sn_deploy
from sn_deploy.graph.op import DOMAIN, SWITCH_NORM, SWITCH_NORM_ADD_RELU
from sn_deploy.models import resnetv1sn50
from sn_deploy.nn.base import SwitchNorm
from sn_deploy.runtime.native import ort_library
from sn_deploy.runtime.ort import OrtSession
from sn_deploy.specialise import specialise
from sn_deploy.specialise.forms import Runtime

IN, LN, BN = range(3)
# Of the mean and the variance of successive layers.
CHOICES = [(BN, BN), (IN, BN), (BN, BN), (LN, IN), (BN, BN), (IN, IN), (BN, BN), (BN, LN), (BN, BN), (LN, LN)]
SOURCE, WITHOUT, SPECIALISED = "SwitchNorm everywhere", "without the layers that chose BN", "specialised"


def sparse_(model: torch.nn.Module) -> torch.nn.Module:
    """The net with one-hot weights."""
    layers = [layer for layer in model.modules() if isinstance(layer, SwitchNorm)]
    for layer, choices in zip(layers, itertools.cycle(CHOICES), strict=False):
        for logits, choice in zip((layer.mean_weight, layer.var_weight), choices, strict=True):
            logits.data.zero_()
            logits.data[choice] = 1e4  # the others are 0 in float32, exactly
    return model


def without_bn_layers(model: onnx.ModelProto) -> onnx.ModelProto:
    """The net without the layers that chose BN for mean and variance; what was fused with them stays."""
    changed = onnx.ModelProto()
    changed.CopyFrom(model)
    graph = changed.graph
    source = {node.output[0]: node for node in graph.node}
    nodes = []
    for node in graph.node:
        weights = [
            attribute.f for attribute in node.attribute if attribute.name in ("mean_in", "mean_ln", "var_in", "var_ln")
        ]
        if node.domain != DOMAIN or any(weights):
            nodes.append(node)
            continue
        convolution = source[node.input[0]]
        assert convolution.op_type == "Conv"
        convolution.input.append(node.input[2])  # the layer's bias
        y = node.input[0]
        if node.op_type == SWITCH_NORM:
            convolution.output[0] = node.output[0]
            continue
        if node.op_type == SWITCH_NORM_ADD_RELU:
            nodes.append(helper.make_node("Add", [y, node.input[5]], [f"{node.name}.sum"], name=f"{node.name}.sum"))
            y = f"{node.name}.sum"
        nodes.append(helper.make_node("Relu", [y], [node.output[0]], name=f"{node.name}.relu"))
    del graph.node[:]
    graph.node.extend(nodes)
    return changed


def measure(folder: Path, runtime: Runtime, x: np.ndarray, threads: int, rounds: int) -> dict[str, Any]:
    """The three in turn."""
    files = {SOURCE: folder / "sparse.onnx", WITHOUT: folder / "without.onnx", SPECIALISED: folder / "small.onnx"}
    onnx.save(without_bn_layers(onnx.load(files[SOURCE])), folder / "removed.onnx")
    specialise(folder / "removed.onnx", files[WITHOUT], runtime=runtime, threads=threads)
    report = specialise(files[SOURCE], files[SPECIALISED], runtime=runtime, threads=threads)
    forms: dict[str, int] = {}
    for layer in report.layers:
        forms[layer.form] = forms.get(layer.form, 0) + 1
    native = runtime is Runtime.ORT_NATIVE
    sessions = {name: OrtSession(file, threads=threads, spinning=False, native=native) for name, file in files.items()}
    inputs = {sessions[SOURCE].inputs[0].name: x}
    outputs = {name: next(iter(session.run(inputs).values())) for name, session in sessions.items()}
    error = float(np.linalg.norm(outputs[SPECIALISED] - outputs[SOURCE]) / np.linalg.norm(outputs[SOURCE]))
    if not error < 1e-5:
        raise SystemExit(f"relative L2 difference of {error:.1e} between the file and the specialised one")
    if not 1e-6 < np.abs(outputs[WITHOUT]).max() < 1e30:
        raise SystemExit("the net without those layers is out of range, so its time would be another one")
    calls = {name: lambda one=one: one.run(inputs) for name, one in sessions.items()}  # type: ignore[misc]
    rows = summary(times_of(calls, rounds=rounds), WITHOUT)
    return {"forms": forms, "rel_l2": error, "nodes": {"before": report.nodes_before, "after": report.nodes}, **rows}


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, help="JSON file of the results")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=60, help="at batch 1; a quarter of it at larger ones")
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 8])
    arguments = parser.parse_args()
    results: dict[str, Any] = {
        "command": command_line(),
        "machine": machine(["onnxruntime", "onnx", "torch", "numpy"], arguments.threads),
        "sparse_resnet50_at_224": {},
    }
    torch.manual_seed(0)
    model = sparse_(look_trained_(resnetv1sn50()))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        sn_deploy.export(model, torch.zeros(1, 3, 224, 224), folder / "sparse.onnx", dynamic="batch")
        for batch in arguments.batches:
            x = np.random.default_rng(0).standard_normal((batch, 3, 224, 224), dtype=np.float32)
            for runtime in [Runtime.ORT] + ([Runtime.ORT_NATIVE] if ort_library() is not None else []):
                rounds = max(15, arguments.rounds if batch == 1 else arguments.rounds // 4)
                rows = measure(folder, runtime, x, arguments.threads, rounds)
                case = f"{runtime.value}, batch {batch}"
                results["sparse_resnet50_at_224"][case] = rows
                timed = {key: row for key, row in rows.items() if isinstance(row, dict) and "ratio" in row}
                print(f"\n{case}: {rows['forms']}, rel_l2 {rows['rel_l2']:.1e}\n{table(timed)}", flush=True)
                write_results(results, arguments.output)


if __name__ == "__main__":
    main()

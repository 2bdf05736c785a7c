"""The custom ops for ONNX Runtime on the CPU beside the function bodies, at the layers of ResNet-50 and in the net.

    cmake -S plugins -B build/plugins -G Ninja && ninja -C build/plugins
    python benchmarks/native_op.py --library build/plugins/onnxruntime/libsn_deploy_ort.so --output native_op.json

The baseline of a layer is the function body; that of the net is the floor: the same net with its norms folded into the
convolutions, as if they were batch norms. Whatever a net with SN takes over the floor is what SN costs. Each has its
ReLU and residual apart, and fused, as `sn_deploy.export` writes them. In fp16, where nothing keeps a net without norms
in range, the function body is the net's baseline too.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from function_body import LAYERS, look_trained_
from interleaved import command_line, machine, summary, table, times_of, write_results

import sn_deploy
from sn_deploy.atomic import check_writable
from sn_deploy.graph.op import DOMAIN, OP_TYPES, SWITCH_NORM
from sn_deploy.models import resnetv1sn50
from sn_deploy.nn import SwitchNorm2d
from sn_deploy.runtime.ort import OrtSession

OPSET = 20
FLOOR = "floor: norms folded into the convolutions"
FUNCTION = "function body"
FUNCTION_FUSED = "function body, ReLU and residual fused"
NATIVE = "custom op"
NATIVE_FUSED = "custom op, ReLU and residual fused"


def exported(module: torch.nn.Module, x: torch.Tensor, *, fuse: bool, precision: str = "fp32") -> onnx.ModelProto:
    """The file that `sn_deploy.export` writes."""
    with tempfile.TemporaryDirectory() as folder:
        sn_deploy.export(module, x, Path(folder) / "model.onnx", opset=OPSET, fuse=fuse, precision=precision)
        return onnx.load(Path(folder) / "model.onnx")


def all_forms(module: torch.nn.Module, x: torch.Tensor, precision: str) -> dict[str, onnx.ModelProto]:
    """The four that are compared."""
    apart, fused = (exported(module, x, fuse=fuse, precision=precision) for fuse in (False, True))
    return {FUNCTION: apart, FUNCTION_FUSED: fused, NATIVE: apart, NATIVE_FUSED: fused}


def with_folded_norms(model: onnx.ModelProto) -> onnx.ModelProto:
    """The net without its norms: each becomes a bias of the convolution before it. Its numbers mean nothing.

    Args:
        model: a file with ReLU and residual apart (``fuse=False``).
    """
    folded = onnx.ModelProto()
    folded.CopyFrom(model)
    graph = folded.graph
    source = {node.output[0]: node for node in graph.node}
    norms = [node for node in graph.node if node.domain == DOMAIN]
    for norm in norms:
        assert norm.op_type == SWITCH_NORM
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
        allowed = 1e-5 if output.dtype == np.float32 else 1e-2
        fine = 1e-3 < np.abs(output).max() < 1e6 if name == FLOOR else difference < allowed
        if not fine:
            raise SystemExit(f"{name}: relative L2 difference of {difference:.1e} from the {FUNCTION}")


def measure(
    models: Mapping[str, onnx.ModelProto], baseline: str, library: Path, x: np.ndarray, threads: int, rounds: int
) -> dict[str, Any]:
    """Times the models in turn, those of the custom ops with the library and the others without any."""
    sessions = {
        name: OrtSession(
            model.SerializeToString(),
            threads=threads,
            spinning=False,
            native=False,
            custom_op_library=library if name in (NATIVE, NATIVE_FUSED) else None,
        )
        for name, model in models.items()
    }
    check_agreement(sessions, x)
    inputs = {name: {session.inputs[0].name: x} for name, session in sessions.items()}
    calls = {name: lambda name=name: sessions[name].run(inputs[name]) for name in sessions}  # type: ignore[misc]
    return summary(times_of(calls, rounds=rounds), baseline)


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--library", type=Path, required=True, help="the custom-op library")
    parser.add_argument("--output", type=Path, help="JSON file of the results")
    parser.add_argument("--threads", type=int, nargs="+", default=[2, 1])
    parser.add_argument("--rounds", type=int, default=60, help="at batch 1; a quarter of it at larger ones")
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 8])
    parser.add_argument("--precision", choices=["fp32", "fp16"], default="fp32")
    parser.add_argument("--only", choices=["layers", "net"], help="leave the other half out")
    arguments = parser.parse_args()
    if arguments.output is not None:
        check_writable(arguments.output)
    torch.set_num_threads(max(arguments.threads))
    results: dict[str, Any] = {
        "command": command_line(),
        "machine": machine(["onnxruntime", "onnx", "torch", "numpy"], max(arguments.threads)),
        "provider": "CPUExecutionProvider",
        "operators": [f"{DOMAIN}::{op_type}" for op_type in OP_TYPES],
        "precision": arguments.precision,
        "layers_with_relu": {},
        "resnet50_at_224": {},
    }

    def record(part: str, models: Mapping[str, onnx.ModelProto], baseline: str, x: np.ndarray) -> None:
        x = x.astype(np.float16 if arguments.precision == "fp16" else np.float32)
        rounds = max(10, arguments.rounds if x.shape[0] == 1 else arguments.rounds // 4)
        for threads in arguments.threads:
            rows = measure(models, baseline, arguments.library, x, threads, rounds)
            case = f"{'×'.join(map(str, x.shape))}, {threads} thread{'s' if threads > 1 else ''}"
            results[part][case] = rows
            print(f"\n{part}: {case}\n{table(rows)}", flush=True)
        write_results(results, arguments.output)

    for batch in arguments.batches:
        if arguments.only != "layers":
            torch.manual_seed(0)
            x = torch.randn((batch, 3, 224, 224), generator=torch.Generator().manual_seed(0))
            nets = all_forms(look_trained_(resnetv1sn50()), x, arguments.precision)
            if arguments.precision == "fp32":
                nets[FLOOR] = with_folded_norms(nets[FUNCTION])
            record("resnet50_at_224", nets, FLOOR if FLOOR in nets else FUNCTION, x.numpy())
        for channels, extent in LAYERS if arguments.only != "net" else []:
            x = torch.randn((batch, channels, extent, extent), generator=torch.Generator().manual_seed(0))
            layer = torch.nn.Sequential(look_trained_(SwitchNorm2d(channels)), torch.nn.ReLU())
            record("layers_with_relu", all_forms(layer, x, arguments.precision), FUNCTION, x.numpy())


if __name__ == "__main__":
    main()

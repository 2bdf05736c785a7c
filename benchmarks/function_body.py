"""Which function body is fastest in ONNX Runtime on the CPU, and how it stands to torch's own export.

    python benchmarks/function_body.py --output benchmarks/results/function_body.json

Takes 6 GB, and on two cores that do nothing else three minutes. The baseline, 1.0, is what torch's exporter makes of
the layer as it was published.
"""

from __future__ import annotations

import argparse
import contextlib
import copy
import io
import tempfile
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from body_forms import FORMS, body_from_form
from interleaved import command_line, machine, summary, table, times_of, write_results

import sn_deploy
from sn_deploy.atomic import check_writable
from sn_deploy.models import resnetv1sn50
from sn_deploy.nn import SwitchNorm2d
from sn_deploy.runtime.ort import OrtSession

OPSET = 20
PUBLISHED = "torch's export of the published formula"
OWN = "torch's export of sn_deploy.nn"
# (C, H = W) of SN layers of ResNet-50 at 224.
LAYERS = [(64, 112), (64, 56), (256, 56), (128, 28), (512, 28), (256, 14), (1024, 14), (512, 7), (2048, 7)]
# The forms worth a whole net; of the others each is slower at the layers, unsound, or close to one of these.
NET_FORMS = [
    "shipped",
    "mean in two steps",
    "squares in two steps",
    "mean corrected by the mean of d",
    "squares by ReduceSumSquare",
    "y = x·s + t",
    "y by BatchNormalization of d",
    "statistics and d / deviation by LayerNormalization",
]


class Published(torch.nn.Module):
    """The layer at inference in the steps of the published implementation, for torch's exporter to decompose."""

    def __init__(self, layer: SwitchNorm2d) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        layer = self.layer
        flat = x.view(x.size(0), x.size(1), -1)
        mean_in, var_in = flat.mean(-1, keepdim=True), flat.var(-1, keepdim=True)
        mean_ln = mean_in.mean(1, keepdim=True)
        var_ln = (var_in + mean_in**2).mean(1, keepdim=True) - mean_ln**2
        w, v = layer.mean_weight.softmax(0), layer.var_weight.softmax(0)
        mean = w[0] * mean_in + w[1] * mean_ln + w[2] * layer.running_mean
        var = v[0] * var_in + v[1] * var_ln + v[2] * layer.running_var
        y = (flat - mean) / (var + layer.eps).sqrt()
        return y.view(x.shape) * layer.weight + layer.bias


def as_published(model: torch.nn.Module) -> torch.nn.Module:
    """A copy of the model with the published steps in each SN layer."""
    return publish_(copy.deepcopy(model))


def publish_(model: torch.nn.Module) -> torch.nn.Module:
    """The model itself, with the published steps in each SN layer."""
    if isinstance(model, SwitchNorm2d):
        return Published(model)
    for parent in list(model.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, SwitchNorm2d):
                setattr(parent, name, Published(child))
    return model


def look_trained_(model: torch.nn.Module) -> torch.nn.Module:
    """Mix weights that differ, and running statistics and affine parts that aren't zero."""
    generator = torch.Generator().manual_seed(0)
    for layer in (module for module in model.modules() if isinstance(module, SwitchNorm2d)):
        for parameter in (layer.mean_weight, layer.var_weight, layer.running_mean):
            parameter.data.normal_(generator=generator)
        layer.running_var.uniform_(0.5, 2.0, generator=generator)
        layer.weight.data.uniform_(0.3, 0.6, generator=generator)
    return model.eval()


def models_from(model: torch.nn.Module, x: torch.Tensor, forms: list[str], folder: Path) -> dict[str, bytes]:
    """Name -> ONNX file: the two baselines and each form."""
    # Apart: the forms are bodies of the plain operator.
    exported = sn_deploy.export(model, x, folder / "op.onnx", opset=OPSET, fuse=False)
    base = onnx.load(exported.path)
    files = {PUBLISHED: torch_export(as_published(model), x), OWN: torch_export(model, x)}
    for name in forms:
        del base.functions[:]
        base.functions.append(body_from_form(FORMS[name], OPSET))
        files[name] = base.SerializeToString()
    return files


def torch_export(model: torch.nn.Module, x: torch.Tensor) -> bytes:
    """Plain torch.onnx.export, its chatter left out."""
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        program = torch.onnx.export(model, (x,), dynamo=True, opset_version=OPSET, verbose=False)
    assert program is not None
    return program.model_proto.SerializeToString()


def measure(files: dict[str, bytes], x: np.ndarray, threads: int, rounds: int) -> dict[str, Any]:
    """Times the files in turn, after checking that all give the baseline's output."""
    # native=False: the body, not the custom op of the same name.
    sessions = {name: OrtSession(file, threads=threads, native=False, spinning=False) for name, file in files.items()}
    inputs = {name: {session.inputs[0].name: x} for name, session in sessions.items()}
    (reference,) = sessions[PUBLISHED].run(inputs[PUBLISHED]).values()
    for name, session in sessions.items():
        (output,) = session.run(inputs[name]).values()
        difference = np.linalg.norm(output - reference) / np.linalg.norm(reference)
        if not difference < 1e-5:
            raise SystemExit(f"{name}: relative L2 difference of {difference:.1e} from {PUBLISHED}")
    calls = {name: lambda name=name: sessions[name].run(inputs[name]) for name in sessions}  # type: ignore[misc]
    return summary(times_of(calls, rounds=rounds), PUBLISHED)


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, help="JSON file of the results")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=60, help="at batch 1; a quarter of it at batch 8")
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 8])
    parser.add_argument("--only", choices=["layers", "net"], help="leave the other half out")
    arguments = parser.parse_args()
    if arguments.output is not None:
        check_writable(arguments.output)
    torch.set_num_threads(arguments.threads)
    results: dict[str, Any] = {
        "command": command_line(),
        "machine": machine(["onnxruntime", "onnx", "torch", "numpy"], arguments.threads),
        "provider": "CPUExecutionProvider (CUDA: not measured)",
        "baseline": PUBLISHED,
        "layers": {},
        "resnet50_at_224": {},
    }

    def record(part: str, case: str, model: torch.nn.Module, shape: tuple[int, ...], forms: list[str]) -> None:
        rounds = max(10, arguments.rounds if shape[0] == 1 else arguments.rounds // 4)
        x = torch.randn(shape, generator=torch.Generator().manual_seed(0))
        with tempfile.TemporaryDirectory() as folder:
            files = models_from(model, x, forms, Path(folder))
        results[part][case] = measure(files, x.numpy(), arguments.threads, rounds)
        print(f"\n{part}: {case}\n{table(results[part][case])}", flush=True)
        write_results(results, arguments.output)

    for batch in arguments.batches:
        if arguments.only != "layers":
            torch.manual_seed(0)
            record("resnet50_at_224", f"batch {batch}", look_trained_(resnetv1sn50()), (batch, 3, 224, 224), NET_FORMS)
        if arguments.only != "net":
            for channels, extent in LAYERS:
                shape = (batch, channels, extent, extent)
                record("layers", "×".join(map(str, shape)), look_trained_(SwitchNorm2d(channels)), shape, list(FORMS))


if __name__ == "__main__":
    main()

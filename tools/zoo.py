"""Exports the authors' own models and holds ONNX Runtime (and OpenVINO) against PyTorch in float64.

    python -m tools.zoo FOLDER [--images 256] [--output zoo.json]

FOLDER holds clones of the public repositories under their own names (``Switchable-Normalization``, …); a row whose
repository isn't there is skipped. The models get random statistics, weights and affine parameters (`tests.randomise`):
the published checkpoints aren't needed to see whether a model is exported right.
"""

from __future__ import annotations

import argparse
import copy
import importlib
import json
import resource
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch

import sn_deploy
from sn_deploy.atomic import atomic_output
from sn_deploy.check.metrics.classification import top1_agreement
from sn_deploy.check.parity import compare
from sn_deploy.graph.export import export
from sn_deploy.graph.op import DOMAIN
from sn_deploy.runtime.ort import OrtSession
from tests.randomise import centre_logits_, randomise_


@dataclass(frozen=True)
class Row:
    """One model: where it comes from, how it is built, and what it is fed."""

    name: str
    repository: str
    folder: str
    build: Callable[[], torch.nn.Module]
    shape: tuple[int, ...]
    layers: int


def _authors(module: str, function: str, **arguments: Any) -> Callable[[], torch.nn.Module]:
    def build() -> torch.nn.Module:
        model = getattr(importlib.import_module(module), function)(**arguments)
        assert isinstance(model, torch.nn.Module)
        return model

    return build


IMAGENET = ("Switchable-Normalization", "imagenet")
ROWS = (
    Row("resnetv1sn50", *IMAGENET, _authors("models", "resnetv1sn50"), (3, 224, 224), 53),
    Row("resnetv2sn50", *IMAGENET, _authors("models", "resnetv2sn50"), (3, 224, 224), 50),
    Row("resnetv1sn50 (8,1)", *IMAGENET, _authors("models", "resnetv1sn50", using_bn=False), (3, 224, 224), 53),
    Row("resnetv1sn101", *IMAGENET, _authors("models", "resnetv1sn101"), (3, 224, 224), 104),
)


def run(row: Row, images: int, half_images: int, folder: Path) -> dict[str, Any]:
    """Exports a row in every way and compares; returns the figures."""
    torch.manual_seed(0)
    model = randomise_(row.build(), seed=0).eval()
    x = np.random.default_rng(0).standard_normal((images, *row.shape), dtype=np.float32)
    example = torch.from_numpy(x[:1])

    started = time.monotonic()
    report = export(model, example, folder / "static.onnx")
    result: dict[str, Any] = {
        "row": row.name,
        "export_s": time.monotonic() - started,
        # Of the whole process, so an upper bound once an earlier row has run.
        "peak_gib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
        "nodes": report.nodes,
        "nodes_standard": report.nodes_standard,
    }
    ops = Counter((node.domain, node.op_type) for node in onnx.load(folder / "static.onnx").graph.node)
    result["forms"] = {op_type: count for (domain, op_type), count in ops.items() if domain == DOMAIN}
    result["switch_norm_nodes"] = sum(result["forms"].values())
    if result["switch_norm_nodes"] != row.layers:
        raise SystemExit(f"{row.name}: {result['switch_norm_nodes']} SwitchNorm nodes, expected {row.layers}")
    export(model, example, folder / "dynamic.onnx", dynamic="batch")
    export(model, example, folder / "inline.onnx", dynamic="batch", inline=True)
    export(model, example, folder / "fp16.onnx", dynamic="batch", precision="fp16")

    # A deep net with random weights gives all images nearly the same logits: agreement is measured on centred ones,
    # where the class depends on the image, and errors on the net as it is.
    centred = centre_logits_(copy.deepcopy(model), torch.from_numpy(x[:16]))
    export(centred, example, folder / "centred.onnx", dynamic="batch")

    few = x[:half_images]
    half = _torch_outputs(copy.deepcopy(model).half(), few)
    single = _torch_outputs(model, few)
    reference = _torch_outputs(model.double(), x)
    result["torch_fp32_rel_l2"] = compare(reference[:half_images], single).rel_l2
    result["torch_fp16_rel_l2"] = compare(reference[:half_images], half).rel_l2

    dynamic = _onnxruntime_outputs(folder / "dynamic.onnx", x)
    result["images"] = images
    result["ort_rel_l2"] = compare(reference, dynamic).rel_l2
    spread = reference + (_last_bias(centred) - _last_bias(model))
    logits = _onnxruntime_outputs(folder / "centred.onnx", x)
    result["ort_top1_agreement"] = top1_agreement(spread, logits)
    result["ort_centred_rel_l2"] = compare(spread, logits).rel_l2
    result["classes_seen"] = len(set(spread.argmax(1).tolist()))
    alone = _onnxruntime_outputs(folder / "static.onnx", few, batch=1)
    result["ort_batch1_rel_l2"] = compare(reference[:half_images], alone).rel_l2
    in_batches = _onnxruntime_outputs(folder / "dynamic.onnx", few, batch=half_images)
    one_by_one = _onnxruntime_outputs(folder / "dynamic.onnx", few, batch=1)
    result["ort_batch_dependence_max_abs"] = compare(one_by_one, in_batches).max_abs
    result["ort_fp16_rel_l2"] = compare(
        reference[:half_images], _onnxruntime_outputs(folder / "fp16.onnx", few.astype(np.float16))
    ).rel_l2
    result["openvino_rel_l2"] = _openvino_rel_l2(folder / "inline.onnx", few, reference[:half_images])
    return result


def _torch_outputs(model: torch.nn.Module, x: np.ndarray) -> np.ndarray:
    dtype = next(model.parameters()).dtype
    with torch.inference_mode():
        parts = [model(torch.from_numpy(part).to(dtype)).double().numpy() for part in _batches(x, 8)]
    return np.concatenate(parts)


def _last_bias(model: torch.nn.Module) -> np.ndarray:
    *_, classifier = (module for module in model.modules() if isinstance(module, torch.nn.Linear))
    return classifier.bias.detach().double().numpy()


def _onnxruntime_outputs(path: Path, x: np.ndarray, batch: int = 8) -> np.ndarray:
    # By the function inside the file: what every stock ONNX Runtime gives.
    with OrtSession(path, native=False) as session:
        parts = [session.run({session.inputs[0].name: part}) for part in _batches(x, batch)]
    return np.concatenate([next(iter(part.values())) for part in parts])


def _openvino_rel_l2(path: Path, x: np.ndarray, reference: np.ndarray) -> float | None:
    try:
        import openvino
    except ImportError:
        return None
    # Its CPU plugin computes in bfloat16 on processors that have it, unless told not to.
    model = openvino.compile_model(openvino.Core().read_model(path), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    return compare(reference, np.concatenate([model(part)[0] for part in _batches(x, 8)])).rel_l2


def _batches(x: np.ndarray, size: int) -> list[np.ndarray]:
    return [x[start : start + size] for start in range(0, len(x), size)]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", type=Path, help="holds clones of the authors' repositories")
    parser.add_argument("--images", type=int, default=256, help="for the error and the agreement (default 256)")
    parser.add_argument("--half-images", type=int, default=8, help="for half precision and OpenVINO (default 8)")
    parser.add_argument("--only", help="only rows whose name contains this")
    parser.add_argument("--output", type=Path, help="write the figures here as JSON")
    arguments = parser.parse_args()

    results = []
    for row in ROWS:
        place = arguments.folder / row.repository / row.folder
        if arguments.only and arguments.only not in row.name:
            continue
        if not place.is_dir():
            print(f"{row.name}: skipped, {row.repository} isn't in {arguments.folder}")
            continue
        sys.path.insert(0, str(place))
        with tempfile.TemporaryDirectory() as folder:
            results.append(run(row, arguments.images, arguments.half_images, Path(folder)))
        sys.path.remove(str(place))
        print("\n".join(f"{key:>30}: {value}" for key, value in results[-1].items()), flush=True)
    versions = {"sn_deploy": sn_deploy.__version__, "torch": torch.__version__, "onnx": onnx.__version__}
    if arguments.output:
        with atomic_output(arguments.output) as temporary:
            temporary.write_text(json.dumps({"versions": versions, "rows": results}, indent=2) + "\n")


if __name__ == "__main__":
    main()

"""Fuses the authors' ResNet-50 as every exporter and optimiser writes it, and holds it against the direct export.

    python -m tools.fuse_zoo FOLDER [--only TEXT] [--output fuse_zoo.json]

FOLDER holds a clone of the public repository ``Switchable-Normalization`` under its own name. The networks get random
statistics, weights and affine parameters, as in `tools.zoo`. onnxsim is used if it is installed.
"""

from __future__ import annotations

import argparse
import importlib
import itertools
import json
import logging
import resource
import sys
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch

from sn_deploy.atomic import atomic_output
from sn_deploy.fuse import fuse
from sn_deploy.graph.export import export
from sn_deploy.runtime.ort import OrtSession
from tests.randomise import randomise_

LAYERS = {"resnetv1sn50": 53, "resnetv2sn50": 50}
IMAGES = 4


@dataclass(frozen=True)
class Way:
    """How a file came about: exporter, opset, dynamic axes, constant folding, and what ran after it."""

    dynamo: bool
    opset: int
    dynamic: tuple[int, ...] = ()
    folding: bool = True
    after: str = ""

    def __str__(self) -> str:
        parts = ["dynamo" if self.dynamo else "TorchScript", str(self.opset)]
        parts += ["dynamic " + ",".join(map(str, self.dynamic))] if self.dynamic else []
        parts += [] if self.folding else ["unfolded"]
        return " ".join([*parts, *([f"+ {self.after}"] if self.after else [])])

    @property
    def exported(self) -> Way:
        """Before anything ran after it."""
        return Way(self.dynamo, self.opset, self.dynamic, self.folding)


def ways() -> Iterator[Way]:
    """Every combination that differs."""
    afters = ("", "onnxsim", "ort basic", "ort extended")
    for opset, after in itertools.product((11, 13, 17, 18, 20, 23), afters):
        yield Way(False, opset, after=after)
    for opset in (13, 18):
        yield Way(False, opset, folding=False)
    for opset, after in itertools.product((18, 20, 23), afters):
        yield Way(True, opset, after=after)
    for dynamo, dynamic, after in itertools.product((False, True), ((0,), (0, 2, 3)), ("", "onnxsim", "ort basic")):
        yield Way(dynamo, 18, dynamic, after=after)


def write(model: torch.nn.Module, way: Way, path: Path) -> None:
    """torch's own export."""
    x = torch.zeros(2 if way.dynamic else 1, 3, 224, 224)
    options: dict[str, Any] = {"external_data": False} if way.dynamo else {"do_constant_folding": way.folding}
    if way.dynamic and way.dynamo:
        options["dynamic_shapes"] = (dict.fromkeys(way.dynamic, torch.export.Dim.AUTO),)
    elif way.dynamic:
        options["dynamic_axes"] = {"x": {axis: f"axis{axis}" for axis in way.dynamic}}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            model, (x,), path, dynamo=way.dynamo, opset_version=way.opset, input_names=["x"], verbose=False, **options
        )


def optimise(source: Path, after: str, path: Path) -> Path | None:
    """What ran after the export; None where it isn't installed."""
    if not after:
        return source
    if after == "onnxsim":
        try:
            import onnxsim
        except ImportError:
            return None
        simplified, _ = onnxsim.simplify(onnx.load(source))
        onnx.save(simplified, path)
        return path
    options = onnxruntime.SessionOptions()
    level = after.split()[1].upper()
    options.graph_optimization_level = getattr(onnxruntime.GraphOptimizationLevel, f"ORT_ENABLE_{level}")
    options.optimized_model_filepath = str(path)
    options.log_severity_level = 4
    onnxruntime.InferenceSession(str(source), options, providers=["CPUExecutionProvider"])
    return path


def outputs(path: Path, x: np.ndarray) -> np.ndarray:
    """By the function inside the file, image by image."""
    with OrtSession(path, native=False) as session:
        parts = [session.run({session.inputs[0].name: x[index : index + 1]}) for index in range(len(x))]
    return np.concatenate([next(iter(part.values())) for part in parts])


def rel_l2(reference: np.ndarray, candidate: np.ndarray) -> float:
    return float(np.linalg.norm(candidate.astype(np.float64) - reference) / np.linalg.norm(reference))


def run(name: str, build: Callable[[], torch.nn.Module], only: str, folder: Path) -> Iterator[dict[str, Any]]:
    """One row for each way."""
    torch.manual_seed(0)
    model = randomise_(build(), seed=0).eval()
    x = np.random.default_rng(0).standard_normal((IMAGES, 3, 224, 224), dtype=np.float32)
    direct = folder / "direct.onnx"
    export(model, torch.from_numpy(x[:1]), direct)
    expected, nodes = outputs(direct, x), len(onnx.load(direct).graph.node)
    with torch.no_grad():
        exact = model.double()(torch.from_numpy(x).double()).numpy()
    model.float()
    print(f"{name}: direct export {nodes} nodes, {rel_l2(exact, expected):.1e} from float64", flush=True)
    for way in ways():
        if only not in f"{name} {way}":
            continue
        source = folder / f"{hash(way.exported)}.onnx"
        if not source.exists():
            try:
                write(model, way.exported, source)
            except Exception as error:  # noqa: BLE001 (whatever an exporter raises for an opset that it doesn't have)
                print(f"{name} {way}: the exporter can't: {type(error).__name__}: {error}"[:200], flush=True)
                continue
        given = optimise(source, way.after, folder / "optimised.onnx")
        if given is None:
            print(f"{name} {way}: skipped, not installed", flush=True)
            continue
        started, processor = time.monotonic(), time.process_time()
        report = fuse(given, folder / "fused.onnx")
        fused = outputs(folder / "fused.onnx", x)
        yield {
            "model": name,
            "way": str(way),
            "nodes_before": report.nodes_before,
            "layers": len(report.layers),
            "missed": LAYERS[name] - len(report.layers),
            "near_misses": len(report.near_misses),
            "forms": dict(report.forms),
            "apart": len(report.apart),
            "nodes": report.nodes,
            "nodes_direct": nodes,
            "rel_l2_to_direct": rel_l2(expected, fused),
            "rel_l2_to_float64": rel_l2(exact, fused),
            "worst_layer_mismatch": max(layer.mismatch for layer in report.layers),
            "seconds": time.monotonic() - started,
            "processor_seconds": time.process_time() - processor,
            "peak_gib_of_the_process": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
        }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", type=Path, help="holds a clone of Switchable-Normalization")
    parser.add_argument("--only", default="", help="only rows whose model and way contain this")
    parser.add_argument("--output", type=Path, help="write the rows here as JSON")
    arguments = parser.parse_args()
    logging.disable(logging.WARNING)
    place = arguments.folder / "Switchable-Normalization" / "imagenet"
    if not place.is_dir():
        raise SystemExit(f"{place} isn't there: clone the authors' repository")
    sys.path.insert(0, str(place))
    models = importlib.import_module("models")
    rows = []
    for name in LAYERS:
        with tempfile.TemporaryDirectory() as folder:
            for row in run(name, getattr(models, name), arguments.only, Path(folder)):
                rows.append(row)
                if arguments.output:
                    with atomic_output(arguments.output) as temporary:
                        temporary.write_text(json.dumps(rows, indent=2) + "\n")
                print(
                    f"{name} {row['way']}: {row['nodes_before']} nodes -> {row['nodes']} (direct "
                    f"{row['nodes_direct']}), {row['missed']} missed, {row['rel_l2_to_direct']:.1e} to direct, "
                    f"{row['processor_seconds']:.1f} s of processor",
                    flush=True,
                )
    print(f"{len(rows)} files, missed: {Counter(row['missed'] for row in rows)}")


if __name__ == "__main__":
    main()

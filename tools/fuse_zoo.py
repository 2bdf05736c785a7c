"""Fuses the authors' ResNet-50 as every exporter and optimiser writes it, and holds it against the direct export.

    python -m tools.fuse_zoo FOLDER [--only TEXT] [--statistics measured] [--output fuse_zoo.json] [--page PAGE.md]

FOLDER holds a clone of the public repository ``Switchable-Normalization`` under its own name. The networks get random
statistics, weights and affine parameters, as in `tools.zoo`, or, with ``--statistics``, the authors' initialisation
(``initial``) or a trained look (``measured``) with statistics that were measured on photographs, which are then the
inputs, too. onnxsim is used if it is installed, and what an exporter can't is left out, with a line about it.

A file is held against the direct export with the same dynamic axes. ``--keep FOLDER`` keeps the exported files for the
next run; ``--page`` writes a table of all rows in ``--output`` into a document.
"""

from __future__ import annotations

import argparse
import copy
import importlib
import json
import logging
import resource
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch

from sn_deploy.atomic import atomic_output
from sn_deploy.errors import SnDeployError
from sn_deploy.fuse import fuse
from sn_deploy.onnx_export import export
from sn_deploy.runtime.ort import OrtSession
from tests.randomise import randomise_
from tools.fuse_ways import AFTERS, optimise, ways, write
from tools.natural_statistics import crops, learned_look_, measured_

LAYERS = {"resnetv1sn50": 53, "resnetv2sn50": 50}
STATISTICS = ("random", "initial", "measured")
IMAGES = 4
BEGIN, END = "<!-- begin: made by tools/fuse_zoo.py -->", "<!-- end -->"

Row = dict[str, Any]


def outputs(path: Path, x: np.ndarray) -> np.ndarray:
    """By the function inside the file, image by image."""
    with OrtSession(path, native=False) as session:
        parts = [session.run({session.inputs[0].name: x[index : index + 1]}) for index in range(len(x))]
    return np.concatenate([next(iter(part.values())) for part in parts])


def rel_l2(reference: np.ndarray, candidate: np.ndarray) -> float:
    return float(np.linalg.norm(candidate.astype(np.float64) - reference) / np.linalg.norm(reference))


def network(build: Callable[[], torch.nn.Module], statistics: str) -> tuple[torch.nn.Module, np.ndarray]:
    """The model, and images for it."""
    torch.manual_seed(0)
    model = build()
    if statistics == "random":
        images = np.random.default_rng(0).standard_normal((IMAGES, 3, 224, 224), dtype=np.float32)
        return randomise_(model, seed=0).eval(), images
    if statistics == "measured":
        learned_look_(model, seed=0)
    return measured_(model), crops(IMAGES, seed=1 << 20).numpy()


class Direct:
    """What `sn-deploy export` makes of the same net, for each choice of dynamic axes."""

    def __init__(self, model: torch.nn.Module, folder: Path) -> None:
        self._model, self._folder = model, folder
        self._nodes: dict[tuple[int, ...], int] = {}
        self.path = self._export(())

    def nodes(self, dynamic: tuple[int, ...]) -> int:
        """The number of nodes; where the model's code fixes an axis, as in the static file."""
        if dynamic not in self._nodes:
            try:
                self._export(dynamic)
            except SnDeployError as error:
                print(f"no direct export with dynamic axes {dynamic}: {error}"[:200], flush=True)
                self._nodes[dynamic] = self.nodes(dynamic[:1] if len(dynamic) > 1 else ())
        return self._nodes[dynamic]

    def _export(self, dynamic: tuple[int, ...]) -> Path:
        path = self._folder / f"direct{len(dynamic)}.onnx"
        axes = {"x": {axis: f"axis{axis}" for axis in dynamic}} if dynamic else ()
        export(self._model, {"x": torch.zeros(1, 3, 224, 224)}, path, dynamic=axes)
        self._nodes[dynamic] = len(onnx.load(path).graph.node)
        return path


def run(name: str, model: torch.nn.Module, x: np.ndarray, only: str, kept: Path, folder: Path) -> Iterator[Row]:
    """One row for each way."""
    direct = Direct(model, folder)
    expected = outputs(direct.path, x)
    with torch.no_grad():
        exact = copy.deepcopy(model).double()(torch.from_numpy(x).double()).numpy()
    print(f"{name}: direct export {direct.nodes(())} nodes, {rel_l2(exact, expected):.1e} from float64", flush=True)
    for way in ways():
        if only not in f"{name} {way}":
            continue
        source = kept / f"{name} {way.exported_as}.onnx"
        if not source.exists():
            try:
                with atomic_output(source) as temporary:
                    write(model, way, temporary)
            except Exception as error:  # noqa: BLE001 (whatever an exporter raises for an opset that it doesn't have)
                print(f"{name} {way}: the exporter can't: {type(error).__name__}: {error}"[:200], flush=True)
                continue
        given = optimise(source, way.after, folder / "optimised.onnx")
        if given is None:
            print(f"{name} {way}: skipped, not installed", flush=True)
            continue
        started, processor = time.monotonic(), time.process_time()
        report = fuse(given, folder / "fused.onnx", run=False)  # it is run and compared below
        seconds, processor_seconds = time.monotonic() - started, time.process_time() - processor
        fused = outputs(folder / "fused.onnx", x)
        yield {
            "model": name,
            "way": str(way),
            "exported": way.exported_as,
            "after": way.after,
            "nodes_before": report.nodes_before,
            "layers": len(report.layers),
            "missed": LAYERS[name] - len(report.layers),
            "near_misses": len(report.near_misses),
            "forms": dict(report.forms),
            "apart": len(report.apart),
            "nodes": report.nodes,
            "nodes_direct": direct.nodes(way.dynamic),
            "rel_l2_to_direct": rel_l2(expected, fused),
            "rel_l2_to_float64": rel_l2(exact, fused),
            "rel_l2_direct_to_float64": rel_l2(exact, expected),
            "worst_layer_mismatch": max(layer.mismatch for layer in report.layers),
            "seconds": seconds,
            "processor_seconds": processor_seconds,
            "peak_gib_of_the_process": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
        }


def page(rows: Sequence[Row]) -> str:
    """The rows as a table: nodes of the fused file, of the direct export where that has another number, relative L2."""
    lines = ["| | " + " | ".join(after or "as it is" for after in AFTERS) + " |", "|---" * (1 + len(AFTERS)) + "|"]
    found = {(row["model"], row["exported"], row["after"]): row for row in rows}
    for model, exported in dict.fromkeys((row["model"], row["exported"]) for row in rows):
        cells = [_cell(found.get((model, exported, after))) for after in AFTERS]
        lines.append(f"| {model.removeprefix('resnet').removesuffix('sn50')}, {exported} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _cell(row: Row | None) -> str:
    if row is None:
        return "–"
    other = f" (of {row['nodes_direct']})" if row["nodes"] != row["nodes_direct"] else ""
    missed = f", {row['missed']} missed" if row["missed"] else ""
    return f"{row['nodes']}{other}{missed}, {row['rel_l2_to_direct']:.1e}"


def write_page(path: Path, rows: Sequence[Row]) -> None:
    text = path.read_text(encoding="utf-8")
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise SystemExit(f"{path} has no {BEGIN} … {END}")
    with atomic_output(path) as temporary:
        temporary.write_text(f"{before}{BEGIN}\n\n{page(rows)}\n\n{END}{after}", encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", type=Path, help="holds a clone of Switchable-Normalization")
    parser.add_argument("--only", default="", help="only rows whose model and way contain this")
    parser.add_argument("--statistics", choices=STATISTICS, default="random", help="what the networks' layers hold")
    parser.add_argument("--keep", type=Path, help="keep the exported files here, one folder for each --statistics")
    parser.add_argument("--output", type=Path, help="write the rows here as JSON")
    parser.add_argument("--page", type=Path, help="write a table of the rows into this document")
    arguments = parser.parse_args()
    logging.disable(logging.WARNING)
    place = arguments.folder / "Switchable-Normalization" / "imagenet"
    if not place.is_dir():
        raise SystemExit(f"{place} isn't there: clone the authors' repository")
    sys.path.insert(0, str(place))
    models = importlib.import_module("models")
    rows: list[Row] = []
    for name in LAYERS:
        if not any(arguments.only in f"{name} {way}" for way in ways()):
            continue
        model, x = network(getattr(models, name), arguments.statistics)
        with tempfile.TemporaryDirectory() as folder:
            kept = Path(folder) if arguments.keep is None else arguments.keep / arguments.statistics
            kept.mkdir(parents=True, exist_ok=True)
            for row in run(name, model, x, arguments.only, kept, Path(folder)):
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
    equal = sum(row["nodes"] == row["nodes_direct"] for row in rows)
    print(
        f"{len(rows)} files, {equal} with the direct export's nodes, missed: {Counter(row['missed'] for row in rows)}"
    )
    if arguments.page:
        write_page(arguments.page, rows)


if __name__ == "__main__":
    main()

"""Runs exported files in real ONNX Runtimes, each minor version from 1.18 on, as Triton's releases carry them.

    python -m tools.ort_matrix ROOT MODEL.onnx … [--library LIBRARY] [--versions 1.18 1.22]

Each version is installed alone, by tools/get_ort_versions.py, into ROOT/VERSION. A process of its own loads each file
by the function inside it and, with --library, by the native operators, on input that is the same everywhere; the
outputs are compared with those of the ONNX Runtime that is installed here. Exits with 1 where one can't load a file or
gives other numbers.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np

from sn_deploy.compare.tolerances import TOLERANCES
from sn_deploy.errors import SnDeployError
from sn_deploy.runtime.native import ort_library
from sn_deploy.runtime.ort import OrtSession
from tools.get_ort_versions import install, versions

BATCH: Final = 3

_PROBE: Final = """
import json, sys
import numpy as np
import onnxruntime as ort
model, library, given, output = sys.argv[1:]
options = ort.SessionOptions()
options.intra_op_num_threads = 1
options.log_severity_level = 3
if library:
    options.register_custom_ops_library(library)
session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
results = session.run(None, dict(np.load(given)))
np.savez(output, **{one.name: value for one, value in zip(session.get_outputs(), results)})
print(ort.__version__)
"""


def inputs_of(model: Path) -> dict[str, Any]:
    """Random numbers for a file's inputs, the same everywhere.

    Raises:
        SnDeployError: an axis other than the first has no size.
    """
    generator = np.random.default_rng(0)
    with OrtSession(model, threads=1, native=False) as session:
        given = {}
        for info in session.inputs:
            axes = [
                BATCH if index == 0 and not isinstance(axis, int) else axis
                for index, axis in enumerate(info.shape or ())
            ]
            if not all(isinstance(axis, int) for axis in axes):
                raise SnDeployError(f"{info} has axes without a size", where=str(model))
            given[info.name] = generator.standard_normal(axes, dtype=np.float32).astype(info.dtype)
    return given


def outputs_here(model: Path, given: Mapping[str, Any]) -> dict[str, Any]:
    """What the installed ONNX Runtime makes of them by the function inside the file."""
    with OrtSession(model, threads=1, native=False) as session:
        return session.run(given)


def outputs_there(model: Path, library: Path | None, given: Path, packages: Sequence[Path]) -> dict[str, Any]:
    """What another version makes of them.

    Raises:
        SnDeployError: it can't load the file, with the end of what it said.
    """
    with tempfile.TemporaryDirectory() as scratch:
        output = Path(scratch) / "outputs.npz"
        arguments = [str(model), str(library or ""), str(given), str(output)]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, packages)), "OMP_NUM_THREADS": "1"}
        # -S: no packages but these.
        command = [sys.executable, "-S", "-c", _PROBE, *arguments]
        result = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
        if result.returncode != 0:
            raise SnDeployError(f"can't run it: {' '.join(result.stderr.split())[-300:]}", where=str(model))
        with np.load(output) as outputs:
            return dict(outputs)


def worst_rel_l2(found: Mapping[str, Any], expected: Mapping[str, Any]) -> float:
    """The largest relative L2 difference of an output; infinite for other names or shapes."""
    if found.keys() != expected.keys():
        return float("inf")
    worst = 0.0
    for name, value in expected.items():
        if found[name].shape != value.shape:
            return float("inf")
        wanted = value.astype(np.float64)
        worst = max(worst, float(np.linalg.norm(found[name].astype(np.float64) - wanted) / np.linalg.norm(wanted)))
    return worst


def tolerance_of(outputs: Mapping[str, Any]) -> float:
    """By the coarsest type of the outputs."""
    return max(TOLERANCES[value.dtype.name].rel_l2 for value in outputs.values())


def run_matrix(root: Path, models: Sequence[Path], library: Path | None, wanted: Sequence[str]) -> list[dict[str, Any]]:
    """A row for each version, file and way to run it: ``version``, ``model``, ``native``, ``rel_l2``, ``error``."""
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as scratch:
        prepared = []
        for index, model in enumerate(models):
            given = inputs_of(model)
            file = Path(scratch) / f"{index}.npz"
            np.savez(file, **given)
            prepared.append((model, file, outputs_here(model, given)))
        for version in wanted:
            packages = install(root, version)
            for model, file, expected in prepared:
                for own in [None, library] if library is not None else [None]:
                    row = {"version": version, "model": model.name, "native": own is not None}
                    try:
                        rel_l2 = worst_rel_l2(outputs_there(model, own, file, packages), expected)
                        failed = not rel_l2 <= tolerance_of(expected)
                        rows.append({**row, "rel_l2": rel_l2, "error": "other numbers" if failed else None})
                    except SnDeployError as error:
                        rows.append({**row, "rel_l2": None, "error": str(error)})
    return rows


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("root", type=Path, metavar="ROOT")
    parser.add_argument("models", type=Path, nargs="+", metavar="MODEL.onnx")
    parser.add_argument("--library", type=Path, default=ort_library(), help="with the native operators")
    parser.add_argument("--versions", nargs="+", metavar="1.18", help="minor or full versions; default: each minor one")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args(arguments)
    try:
        there = versions()
        wanted = [
            one for one in there if not options.versions or one in options.versions or _minor(one) in options.versions
        ]
        rows = run_matrix(options.root.resolve(), [one.resolve() for one in options.models], options.library, wanted)
    except SnDeployError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    for row in rows:
        how = "native operators" if row["native"] else "function inside"
        outcome = f"FAILS: {row['error']}" if row["error"] else f"rel. L2 {row['rel_l2']:.1e}"
        print(f"{row['version']:8} {row['model']:24} {how:17} {outcome}")
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1) + "\n")
    return 1 if not rows or any(row["error"] for row in rows) else 0


def _minor(version: str) -> str:
    return ".".join(version.split(".")[:2])


if __name__ == "__main__":
    sys.exit(main())

"""Takes every kind of model that the papers used through the whole package; the figures become docs/models.md.

    python -m tools.zoo FOLDER [--only TEXT] [--absent] [--effort 1] [--output docs/models.json]
                               [--document docs/models.md]

FOLDER holds clones of the public repositories under their own names (``Switchable-Normalization``, …; docs/models.md
lists them); a row whose repository isn't there is skipped. The models get random statistics, weights and affine
parameters (`tests.randomise`): the published checkpoints aren't needed to see whether a model is exported right.

Each row runs in a process of its own, and what an earlier run put into the JSON stays for rows that don't run.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import multiprocessing
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

import sn_deploy
from sn_deploy.atomic import atomic_output
from tools.rows import ROWS
from tools.rows.row import Place, Row
from tools.rows.table import markdown, write_into

_PACKAGES = ("torch", "torchvision", "onnx", "onnxscript", "onnxruntime", "numpy")


def run(name: str, repositories: Path, effort: float) -> dict[str, Any]:
    """The figures of one row, and what they were made with."""
    (row,) = (row for row in ROWS if row.name == name)
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as scratch:
        figures = row.run(Place(repositories, Path(scratch), effort))
    return {
        "number": row.number,
        "task": row.task,
        "name": row.name,
        **figures,
        "seconds": round(time.monotonic() - started),
        "versions": _versions(row),
        "commits": {need: _commit(repositories / need) for need in row.needs if not need.startswith("python:")},
    }


def _versions(row: Row) -> dict[str, str]:
    wanted = [name for name in _PACKAGES if name != "torchvision" or "python:torchvision" in row.needs]
    return {"sn_deploy": sn_deploy.__version__, **{name: importlib.metadata.version(name) for name in wanted}}


def _commit(repository: Path) -> str:
    command = ["git", "-C", str(repository), "rev-parse", "--short=7", "HEAD"]
    found = subprocess.run(command, capture_output=True, text=True, check=False)
    return found.stdout.strip() or "an unknown commit"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", type=Path, help="holds clones of the public repositories")
    parser.add_argument("--only", help="only rows whose task or name contains this")
    parser.add_argument("--absent", action="store_true", help="only rows that have no figures in the output yet")
    parser.add_argument("--effort", type=float, default=1.0, help="factor of the number of samples (default 1)")
    parser.add_argument("--output", type=Path, help="write the figures here as JSON; those of other rows stay")
    parser.add_argument("--document", type=Path, help="write the tables of all figures into this document")
    parser.add_argument("--list", action="store_true", help="only say what would run")
    arguments = parser.parse_args()

    results: dict[str, dict[str, Any]] = {}
    if arguments.output and arguments.output.exists():
        results = {result["name"]: result for result in json.loads(arguments.output.read_text())}
    failed = []
    for row in ROWS:
        missing = row.missing(Place(arguments.folder, Path()))
        if arguments.only and arguments.only not in f"{row.task} {row.name}":
            continue
        if arguments.absent and row.name in results:
            continue
        if missing or arguments.list:
            print(f"{row.name}: {f'skipped, {missing} not there' if missing else 'would run'}", flush=True)
            continue
        # A process of its own: the authors' modules share names, and memory is given back.
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            try:
                result = pool.apply(run, (row.name, arguments.folder, arguments.effort))
            except (Exception, SystemExit) as error:  # noqa: BLE001 - the other rows still count
                # The cause is the traceback of the other process.
                print(f"{row.name}: FAILED: {type(error).__name__}: {error}\n{error.__cause__ or ''}", flush=True)
                failed.append(row.name)
                continue
        results[row.name] = result
        print("\n".join(f"{key:>20}: {value}" for key, value in result.items()), flush=True)
        if arguments.output:
            with atomic_output(arguments.output) as temporary:
                temporary.write_text(json.dumps(_ordered(results), indent=1) + "\n")
    if arguments.document:
        write_into(arguments.document, _ordered(results))
    elif results:
        print(markdown(_ordered(results)))
    if failed:
        raise SystemExit(f"failed: {', '.join(failed)}")


def _ordered(results: dict[str, dict[str, Any]]) -> list[dict[str, Any]]:
    """In the order of the rows; figures of rows that are no more come to nothing."""
    return [results[row.name] for row in ROWS if row.name in results]


if __name__ == "__main__":
    main()

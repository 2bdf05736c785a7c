"""Takes every kind of model that the papers used through the whole package; the figures become docs/models.md.

    python -m tools.zoo FOLDER [--only TEXT] [--resume] [--effort 1] [--jobs 1]
                               [--output docs/models.json] [--document docs/models.md]

FOLDER holds clones of the public repositories under their own names (``Switchable-Normalization``, …; docs/models.md
lists them); a row whose repository isn't there is skipped. The models get random statistics, weights and affine
parameters (`tests.randomise`): the published checkpoints aren't needed to see whether a model is exported right.

Each row runs in a process of its own. Figures are written as they come, so that ``--resume`` goes on where a run was
stopped: rows that were made by the same code, versions, repositories and effort are not made again.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import multiprocessing
import platform
import subprocess
import tempfile
import time
from functools import partial
from multiprocessing.pool import ThreadPool
from pathlib import Path
from typing import Any

import sn_deploy
from sn_deploy.atomic import atomic_output
from tools.rows import ROWS
from tools.rows.row import Place, Row
from tools.rows.table import markdown, write_into

_PACKAGES = ("torch", "torchvision", "onnx", "onnx-ir", "onnxscript", "onnxruntime", "openvino", "numpy")

# What a row's figures were made with, and what they depend on.
_ORIGIN = ("effort", "revision", "versions", "commits")


def run(name: str, repositories: Path, effort: float) -> dict[str, Any]:
    """The figures of one row, and what they were made with."""
    (row,) = (row for row in ROWS if row.name == name)
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as scratch:
        try:
            figures = row.run(Place(repositories, Path(scratch), effort))
        except SystemExit as error:  # it would end the process, and whoever waits for it would wait for ever
            raise RuntimeError(str(error)) from error
    made = origin(row, repositories, effort)
    made["versions"] |= figures.pop("versions", {})
    return {
        "number": row.number,
        "task": row.task,
        "name": row.name,
        **figures,
        "seconds": round(time.monotonic() - started),
        **made,
    }


def origin(row: Row, repositories: Path, effort: float) -> dict[str, Any]:
    """The effort, and the versions of all that the row is made with."""
    repositories_needed = [need for need in row.needs if not need.startswith("python:") and "/" not in need]
    return {
        "effort": effort,
        "revision": _revision(),
        "versions": _versions(row),
        "commits": {need: _git(repositories / need, "rev-parse", "--short=7", "HEAD") for need in repositories_needed},
    }


def _versions(row: Row) -> dict[str, str]:
    wanted = [name for name in _PACKAGES if name != "torchvision" or "python:torchvision" in row.needs]
    found = {"Python": platform.python_version(), "sn_deploy": sn_deploy.__version__}
    for name in wanted:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:  # openvino is not needed
            continue
    return found


def _revision() -> str:
    """The commit of this code, and whether it was changed since; what the run writes itself doesn't count."""
    here = Path(__file__).parents[1]
    changed = _git(here, "status", "--porcelain", "--untracked-files=no", "--", ".", ":!docs")
    return _git(here, "rev-parse", "--short=7", "HEAD") + (" with changes" if changed else "")


def _git(repository: Path, *arguments: str) -> str:
    found = subprocess.run(["git", "-C", str(repository), *arguments], capture_output=True, text=True, check=False)
    return found.stdout.strip() if found.returncode == 0 else "an unknown commit"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", type=Path, help="holds clones of the public repositories")
    parser.add_argument("--only", help="only rows whose task or name contains this; the figures of others stay")
    parser.add_argument("--resume", action="store_true", help="keep rows that the same code and versions have made")
    parser.add_argument("--effort", type=float, default=1.0, help="factor of the number of samples (default 1)")
    parser.add_argument("--jobs", type=int, default=1, help="rows at a time (default 1)")
    parser.add_argument("--output", type=Path, help="write the figures here as JSON, row by row")
    parser.add_argument("--document", type=Path, help="write the tables of all figures into this document")
    parser.add_argument("--list", action="store_true", help="only say what would run")
    arguments = parser.parse_args()
    if arguments.document and not arguments.document.is_file():
        parser.error(f"--document {arguments.document}: there is no such file; it has the marks that tables go between")

    results: dict[str, dict[str, Any]] = {}
    if arguments.output and arguments.output.exists():
        results = {result["name"]: result for result in json.loads(arguments.output.read_text())}
    wanted = []
    for row in ROWS:
        missing = row.missing(Place(arguments.folder, Path()))
        if arguments.only and arguments.only not in f"{row.task} {row.name}":
            continue
        if arguments.resume and made_so(results.get(row.name), origin(row, arguments.folder, arguments.effort)):
            continue
        if missing or arguments.list:
            print(f"{row.name}: {f'skipped, {missing} not there' if missing else 'would run'}", flush=True)
            continue
        wanted.append(row.name)
    failed = []
    with ThreadPool(arguments.jobs) as pool:
        for name, outcome in pool.imap_unordered(partial(_run_apart, arguments.folder, arguments.effort), wanted):
            if isinstance(outcome, Exception):
                # The cause is the traceback of the other process.
                cause = outcome.__cause__ or ""
                print(f"{name}: FAILED: {type(outcome).__name__}: {outcome}\n{cause}", flush=True)
                failed.append(name)
                continue
            results[name] = outcome
            print("\n".join(f"{key:>20}: {value}" for key, value in outcome.items()), flush=True)
            if arguments.output:
                with atomic_output(arguments.output) as temporary:
                    temporary.write_text(json.dumps(_ordered(results), indent=1) + "\n")
    if arguments.document:
        write_into(arguments.document, _ordered(results))
    elif results:
        print(markdown(_ordered(results)))
    if failed:
        raise SystemExit(f"failed: {', '.join(failed)}")


def _run_apart(folder: Path, effort: float, name: str) -> tuple[str, dict[str, Any] | Exception]:
    """A row in a process of its own: the authors' modules share names, and memory is given back."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        try:
            return name, pool.apply(run, (name, folder, effort))
        except Exception as error:  # noqa: BLE001 - the other rows still count
            return name, error


def made_so(result: dict[str, Any] | None, wanted: dict[str, Any]) -> bool:
    """Whether figures are there that were made with all that. A row may add versions of its own (TensorFlow's)."""
    if result is None:
        return False
    found = {key: result.get(key) for key in _ORIGIN}
    versions = found["versions"] or {}
    return found | {"versions": {name: versions.get(name) for name in wanted["versions"]}} == wanted


def _ordered(results: dict[str, dict[str, Any]]) -> list[dict[str, Any]]:
    """In the order of the rows; figures of rows that are no more come to nothing."""
    return [results[row.name] for row in ROWS if row.name in results]


if __name__ == "__main__":
    main()

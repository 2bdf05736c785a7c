"""Evaluates an exported classifier on all of a data set, over as many processes and machines as Ray has.

    pip install 'sn-deploy[ort,ray]'
    python examples/ray_evaluate.py resnet50sn.onnx validation.npz --actors 8 --batch-size 32 --json accuracy.json

validation.npz holds the model's input under its name, samples along the first axis, and ``labels``. Each actor opens
the model once, for as many batches as come its way. The figures are those of ``sn-deploy check``: counts of samples, so
it doesn't matter who counts them. With data of another kind, `dataset` is what changes: ray.data.read_images or
read_parquet, and map_batches of your own preprocessing, which run on the same machines.

For the whole of a check (parity, layers, limits) over machines: sn-deploy check --shard 1/8, and sn-deploy merge.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing of this leaves the machines

import numpy as np
import ray
import ray.data

from sn_deploy.check.intervals import wilson
from sn_deploy.check.metrics.classification import rivals, targets_from_labels
from sn_deploy.errors import SnDeployError
from sn_deploy.runtime.ort import OrtSession


class Evaluate:
    """An actor: a session that stays open, and for each batch of samples who of them is right."""

    def __init__(self, model: str, threads: int) -> None:
        self.session = OrtSession(model, threads=threads, spinning=False)
        (self.input,) = (info.name for info in self.session.inputs)
        self.output = self.session.outputs[0].name

    def __call__(self, batch: dict[str, np.ndarray[Any, Any]]) -> dict[str, np.ndarray[Any, Any]]:
        """Rows ``index`` and ``right``."""
        scores = self.session.run({self.input: np.ascontiguousarray(batch["data"])})[self.output].astype(np.float64)
        right = rivals(scores, targets_from_labels(batch["label"], scores.shape[1])) == 0
        return {"index": batch["index"], "right": right}


def dataset(path: Path, name: str) -> ray.data.Dataset:
    """Rows ``data``, ``label`` and ``index``.

    Raises:
        SnDeployError: the file doesn't hold them.
    """
    with np.load(path) as arrays:
        missing = {name, "labels"} - set(arrays)
        if missing:
            raise SnDeployError(f"has no {', '.join(sorted(missing))}", where=str(path), expected=f"{name} and labels")
        data, labels = arrays[name], arrays["labels"]
    if len(data) != len(labels):
        raise SnDeployError(f"has {len(data)} samples and {len(labels)} labels", where=str(path))
    rows = [
        {"data": one, "label": label, "index": index}
        for index, (one, label) in enumerate(zip(data, labels, strict=True))
    ]
    return ray.data.from_items(rows)


def evaluate(model: Path, data: Path, *, actors: int, batch_size: int, threads: int = 1) -> dict[str, Any]:
    """The accuracy with its 95 % interval, and who was wrong.

    Raises:
        SnDeployError: the model or the data can't be read or don't fit.
    """
    with OrtSession(model, threads=threads) as session:
        names = [info.name for info in session.inputs]
    if len(names) != 1:
        raise SnDeployError(f"has the inputs {', '.join(names)}", where=str(model), expected="one")
    judged = dataset(data, names[0]).map_batches(
        Evaluate,
        fn_constructor_args=(str(model.resolve()), threads),
        batch_size=batch_size,
        concurrency=actors,
        num_cpus=threads,
    )
    rows = judged.take_all()
    hits = sum(bool(row["right"]) for row in rows)
    share = wilson(hits, len(rows))
    wrong = sorted(int(row["index"]) for row in rows if not row["right"])
    return {"samples": len(rows), "accuracy": share.value, "low": share.low, "high": share.high, "wrong": wrong}


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("data", type=Path)
    parser.add_argument("--actors", type=int, default=2)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--threads", type=int, default=1, help="of each actor")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args(arguments)
    try:
        found = evaluate(
            options.model,
            options.data,
            actors=options.actors,
            batch_size=options.batch_size,
            threads=options.threads,
        )
    except SnDeployError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    print(f"accuracy {found['accuracy']:.2%} ({found['low']:.2%} to {found['high']:.2%}) of {found['samples']} samples")
    if options.json:
        options.json.write_text(json.dumps(found) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())

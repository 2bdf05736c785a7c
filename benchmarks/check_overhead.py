"""What ``sn-deploy check`` costs beside the backends that it runs.

    python benchmarks/check_overhead.py --output benchmarks/results/check_overhead.json

ResNet-50 with SN at 224, batches of 8, two backends of ONNX Runtime: the function body as the reference and the native
operator. Each figure is a share of the time that both take. ``whole`` is all the wall time of the run outside their
calls; in it are ``comparing`` (parity and top-1, top-5), ``waiting`` for data, and the rest (casts, names). While a
batch runs the next one is loaded by another thread, on a core that the backends want, too: ``data_alone`` is the time
that loading takes on its own, which bounds what it takes from them. One run for each kind of data.
"""

from __future__ import annotations

import argparse
import contextlib
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from function_body import look_trained_
from interleaved import command_line, machine, write_results
from PIL import Image

import sn_deploy
from sn_deploy.atomic import check_writable
from sn_deploy.check.backends.open import BackendOptions, Backends, open_backends
from sn_deploy.check.batch import Batch, Source
from sn_deploy.check.comparison import Comparison
from sn_deploy.check.data.open import DataOptions, open_data
from sn_deploy.check.limits import Limits
from sn_deploy.check.run import Plan, run_comparison
from sn_deploy.models import resnetv1sn50

BATCH = 8


class Timed:
    """Sums up the time in calls of a function."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function, self.seconds = function, 0.0

    def __call__(self, *arguments: Any, **named: Any) -> Any:
        start = time.perf_counter()
        try:
            return self.function(*arguments, **named)
        finally:
            self.seconds += time.perf_counter() - start


class Waiting:
    """A source that sums up the time until each batch is there."""

    def __init__(self, source: Source) -> None:
        self.source, self.seconds, self.batches = source, 0.0, source.batches

    def describe(self) -> dict[str, Any]:
        return self.source.describe()

    def __iter__(self) -> Iterator[Batch]:
        batches = iter(self.source)
        while True:
            start = time.perf_counter()
            batch = next(batches, None)
            self.seconds += time.perf_counter() - start
            if batch is None:
                return
            yield batch


def shares_of(backends: Backends, source: Source) -> dict[str, float]:
    """Each part's time over that of the backends, in one run."""
    runs = [Timed(backend.runner.run) for backend in backends.all]
    for backend, run in zip(backends.all, runs, strict=True):
        backend.runner.run = run  # type: ignore[method-assign]
    waiting, update = Waiting(source), Timed(Comparison.update)
    with contextlib.ExitStack() as stack:
        stack.callback(setattr, Comparison, "update", Comparison.update)
        Comparison.update = lambda *arguments: update(*arguments)  # type: ignore[method-assign]
        start = time.perf_counter()
        run_comparison(waiting, backends, Plan(Limits()))
        wall = time.perf_counter() - start
    for backend, run in zip(backends.all, runs, strict=True):
        backend.runner.run = run.function  # type: ignore[method-assign]
    spent = sum(run.seconds for run in runs)
    start = time.perf_counter()
    for _ in source:
        pass
    alone = time.perf_counter() - start
    shares = {
        "whole": wall - spent,
        "comparing": update.seconds,
        "waiting": waiting.seconds,
        "data_alone": alone,
    }
    return {name: round(seconds / spent, 5) for name, seconds in shares.items()} | {"backends_s": round(spent, 2)}


def write_data(folder: Path, samples: int) -> dict[str, str]:
    """Kind of data -> what ``--data`` names: the same number of samples of each."""
    generator = np.random.default_rng(0)
    np.save(folder / "x.npy", generator.standard_normal((samples, 3, 224, 224), dtype=np.float32))
    images = folder / "images"
    images.mkdir()
    for number in range(samples):
        # Smooth, as photographs are: noise takes a JPEG decoder several times as long.
        coarse = generator.integers(0, 256, (12, 16, 3), dtype=np.uint8)
        Image.fromarray(coarse).resize((500, 375), Image.Resampling.BICUBIC).save(images / f"{number:04d}.jpg")
    return {"random": "random", "npy": str(folder / "x.npy"), "jpeg 500x375": str(images)}


def summary(rows: Mapping[str, list[dict[str, float]]]) -> dict[str, dict[str, float]]:
    """The median over the runs of each share."""
    return {
        kind: {name: round(float(np.median([run[name] for run in runs])), 5) for name in runs[0]}
        for kind, runs in rows.items()
    }


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, help="JSON file of the results")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--batches", type=int, default=8, help="in a run")
    parser.add_argument("--runs", type=int, default=5, help="of each kind of data, in turns")
    arguments = parser.parse_args()
    if arguments.output is not None:
        check_writable(arguments.output)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        torch.manual_seed(0)
        sn_deploy.export(
            look_trained_(resnetv1sn50()), torch.zeros(1, 3, 224, 224), folder / "net.onnx", dynamic="batch"
        )
        kinds = write_data(folder, BATCH * arguments.batches)
        backends = open_backends(BackendOptions(files=[folder / "net.onnx"], threads=arguments.threads))
        rows: dict[str, list[dict[str, float]]] = {kind: [] for kind in kinds}
        for _ in range(arguments.runs):
            for kind, data in kinds.items():
                limit = BATCH * arguments.batches
                source = open_data(DataOptions(data, BATCH, limit), backends.inputs)
                rows[kind].append(shares_of(backends, source))
    shares = summary(rows)
    print(f"{'shares of the backends’ time':30s} {'whole':>9s} {'comparing':>10s} {'waiting':>9s} {'data alone':>11s}")
    for kind, row in shares.items():
        parts = (row["whole"], row["comparing"], row["waiting"], row["data_alone"])
        print(f"{kind:30s} " + " ".join(f"{part:10.3%}" for part in parts))
    results = {
        "command": command_line(),
        "machine": machine(["onnxruntime", "numpy", "pillow"], arguments.threads),
        "resnet50_at_224_batch_8": shares,
    }
    write_results(results, arguments.output)


if __name__ == "__main__":
    main()

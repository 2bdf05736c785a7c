"""What does serving cost: throughput through Triton with one caller and with eight, beside the session in this process.

    make triton
    PYTHONPATH=build/triton/client python benchmarks/serving.py --output benchmarks/results/serving.json

For the demo's network, where a request is nearly all overhead, and for ResNet-50 v1 with SN at 224. Triton runs the
model by the tests' Python backend, two instances of one thread each, and batches of up to 16 with no delay; here it is
one session of one thread that all callers share. Everything takes turns: each round loads each once, in a new random
order, with the same number of requests of one sample. ``ratio`` is the throughput over that of the session with as many
callers in the same round. NVIDIA's own ONNX Runtime backend passes tensors on without a second process: these figures
say what HTTP, gRPC and scheduling cost at most.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from interleaved import machine, write_results

import sn_deploy
from sn_deploy.check.bootstrap import median_interval
from sn_deploy.check.load import load
from sn_deploy.models import resnetv1sn50
from sn_deploy.models.digits import load_pretrained
from sn_deploy.runtime.ort import OrtSession
from sn_deploy.runtime.triton import TritonModel
from sn_deploy.serve import ServeOptions, serve_triton

sys.path.insert(0, str(Path(__file__).parents[1]))
from tests.randomise import randomise_
from tests.serve.server import Triton

LEVELS = (1, 8)
NETS = {"digits": (1, 8, 8), "resnet50": (3, 224, 224)}
# Requests of each level and round, and rounds.
REQUESTS = {"digits": (480, 15), "resnet50": (16, 7)}


def export(name: str, folder: Path) -> Path:
    """The net as a file with a batch of any size."""
    torch.manual_seed(0)
    model = load_pretrained() if name == "digits" else randomise_(resnetv1sn50(), 0).eval()
    path = folder / f"{name}.onnx"
    sn_deploy.export(model, torch.zeros(1, *NETS[name]), path, dynamic="batch")
    return path


def measure(name: str, runners: Mapping[str, Any], inputs: Mapping[str, Any], rounds: int) -> list[dict[str, Any]]:
    """A row for each runner and number of callers."""
    requests, own_rounds = REQUESTS[name]
    turns = [(runner, level) for runner in runners for level in LEVELS]
    found: dict[tuple[str, int], list[Any]] = {turn: [] for turn in turns}
    shuffle = random.Random(0)
    for index in range(-1, rounds or own_rounds):  # the first one doesn't count
        shuffle.shuffle(turns)
        for runner, level in turns:
            result = load(runner, runners[runner], 1, inputs, level, requests // level)
            if index >= 0:
                found[runner, level].append(result)
    rows = []
    for (runner, level), results in found.items():
        throughput = np.array([result.throughput for result in results])
        session = np.array([result.throughput for result in found["session", level]])
        low, high = median_interval(throughput / session)
        rows.append(
            {
                "net": name,
                "runner": runner,
                "callers": level,
                "requests": requests // level * level,
                "rounds": len(results),
                "samples_per_s": round(float(np.median(throughput)), 2),
                "median_ms": round(float(np.median([result.median_ms for result in results])), 3),
                "p99_ms": round(float(np.median([result.p99_ms for result in results])), 3),
                "ratio": round(float(np.median(throughput / session)), 4),
                "ratio_low": round(low, 4),
                "ratio_high": round(high, 4),
            }
        )
    return rows


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--triton", type=Path, default=Path("build/triton"), help="what tools/get_triton.py filled")
    parser.add_argument("--only", choices=list(NETS))
    parser.add_argument("--rounds", type=int, default=0)
    parser.add_argument("--output", type=Path)
    options = parser.parse_args(arguments)
    rows: list[dict[str, Any]] = []
    names = [options.only] if options.only else list(NETS)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        repository = folder / "repository"
        files = {name: export(name, folder) for name in names}
        for name, file in files.items():
            served = ServeOptions(
                name, max_batch=16, instances=2, threads=1, device="cpu", warmup=False, server_path=str(repository)
            )
            serve_triton(file, repository, served)
        with Triton(options.triton.resolve(), repository, folder) as server:
            for name, file in files.items():
                runners = {
                    "session": OrtSession(file, threads=1, spinning=False),
                    "triton, gRPC": TritonModel(f"grpc://127.0.0.1:{server.grpc}/{name}"),
                    "triton, HTTP": TritonModel(f"http://127.0.0.1:{server.http}/{name}"),
                }
                image = np.random.default_rng(0).standard_normal((1, *NETS[name])).astype(np.float32)
                (only,) = (info.name for info in runners["session"].inputs)
                rows += measure(name, runners, {only: image}, options.rounds)
                for runner in runners.values():
                    runner.close()
    for row in rows:
        interval = f"{row['ratio']:.3f} ({row['ratio_low']:.3f}-{row['ratio_high']:.3f})"
        print(
            f"{row['net']:10} {row['runner']:14} {row['callers']:2} callers {row['samples_per_s']:9.1f} samples/s"
            f"  median {row['median_ms']:8.2f} ms  of the session's {interval}"
        )
    command = " ".join(["python", "benchmarks/serving.py", *(arguments or sys.argv[1:])])
    facts = machine(["onnxruntime", "numpy", "tritonclient"], 1)
    write_results({"command": command, "machine": facts, "rows": rows}, options.output)
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""Graphs drawn of ONNX's operators through shape inference: refused or inferred, and the process lives.

    python -m tools.soak_inference COUNT [SEED] [--risky COUNT]

COUNT graphs of operators that ONNX's inference is taken to survive (sn_deploy/graph/inference_risk.py), those left out
that have a node of which it isn't; and as many as ``--risky`` says of all operators, which are inferred in another
process first. Each within 20 s and 512 MiB. A graph that ends the process is named, and by its seed can be drawn
again. Exit code 0: none did.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import onnx

from sn_deploy.errors import SnDeployError
from sn_deploy.graph import inference_guard
from sn_deploy.graph.inference import infer_shapes
from sn_deploy.graph.inference_risk import HARMLESS, is_risky
from sn_deploy.onnx_file import model_of
from tools.drawn_graphs import drawn_model

BATCH: Final = 500
MOST_S: Final = 20.0
MOST_MIB: Final = 512  # more than before a graph
# What takes it ends with an error, not with the machine.
ADDRESS_SPACE: Final = 6 << 30


def outcome(seed: str, mode: str) -> str:
    """What became of one graph.

    Args:
        mode: ``safe``, ``any`` (of all operators), or ``unguarded``: as safe, with nothing looked at, which is deadly.
    """
    try:
        model = model_of(drawn_model(seed, None if mode == "any" else HARMLESS), Path("drawn"))
    except SnDeployError:
        return "no model"
    in_another = mode != "unguarded" and is_risky(model)
    if in_another and mode == "safe":
        return "left out"
    start, before = time.monotonic(), most_memory()
    try:
        infer_shapes(model)
        found = "inferred here after another process" if in_another else "inferred here"
    except SnDeployError as error:
        found = "ended the other process" if "breaks down" in str(error) else "refused"
    seconds, memory = time.monotonic() - start, most_memory() - before
    return found if seconds <= MOST_S and memory <= MOST_MIB else f"took {seconds:.0f} s, {memory} MiB: {seed}"


def most_memory() -> int:
    """MiB that this process held at most."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10


def work(first: int, end: int, seed: str, mode: str) -> None:
    """Takes graphs in this process, and tells before each which one it is."""
    resource.setrlimit(resource.RLIMIT_AS, (ADDRESS_SPACE, ADDRESS_SPACE))
    if mode == "unguarded":
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        inference_guard.is_risky = lambda model: False
    counts: Counter[str] = Counter()
    for index in range(first, end):
        os.write(1, f"{index}\n".encode())
        counts[outcome(f"{seed}/{index}", mode)] += 1
    os.write(1, json.dumps({"counts": counts, "memory": most_memory()}).encode() + b"\n")


def take(count: int, seed: str, mode: str) -> tuple[Counter[str], int, list[str]]:
    """Takes graphs in processes of their own: what became of them, the MiB at most, and those that ended theirs."""
    counts: Counter[str] = Counter()
    memory, deaths, index = 0, [], 0
    while index < count:
        own = ["--work", str(index), str(min(index + BATCH, count)), seed, mode]
        command = [sys.executable, "-m", "tools.soak_inference", *own]
        done = subprocess.run(command, capture_output=True, check=False)
        last = done.stdout.decode().strip().rpartition("\n")[2]
        if last.startswith("{"):
            answer = json.loads(last)
            counts.update(answer["counts"])
            memory, index = max(memory, answer["memory"]), index + BATCH
        elif last:
            said = done.stderr.decode(errors="replace").strip()[-200:]
            deaths.append(f"{mode} {seed}/{last}: {done.returncode} {said}")
            index = int(last) + 1
        else:
            raise RuntimeError(done.stderr.decode(errors="replace"))
    return counts, memory, deaths


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; returns the exit code."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    if given[:1] == ["--work"]:
        work(int(given[1]), int(given[2]), given[3], given[4])
        return 0
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("count", type=int, metavar="COUNT")
    parser.add_argument("seed", nargs="?", default="0", metavar="SEED")
    parser.add_argument("--risky", type=int, default=0, metavar="COUNT")
    options = parser.parse_args(given)
    start, faults, lines = time.monotonic(), [], []
    for mode, count in (("safe", options.count), ("any", options.risky)):
        counts, memory, deaths = take(count, options.seed, mode)
        faults += deaths + [what for what in counts if what.startswith("took")]
        told = ", ".join(f"{number} {what}" for what, number in counts.most_common())
        lines.append(
            f"{count} graphs of {mode} operators: {told}; {len(deaths)} ended the process; at most {memory} MiB"
        )
    for fault in faults:
        print(fault)
    told = "; ".join(lines)
    print(f"{told}; onnx {onnx.__version__}, {time.monotonic() - start:.0f} s, {len(faults)} faults")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())

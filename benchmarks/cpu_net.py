"""ResNet-50 with SN at 224 on the CPU: every way to run it, over the same net with its norms folded away.

    python benchmarks/cpu_net.py --output benchmarks/results/cpu_net.json

Each combination of batch and threads is a cell, measured in a process of its own and written as soon as it is there:
ended, and called again, it goes on with the cells that are missing. ``--again`` measures anew what it is asked for,
``--batches 1 --threads 2`` asks for one cell alone; the others stay in the file. ``--write`` puts the tables of all
cells into the README and docs/performance-cpu.md, ``--show`` measures nothing and prints them. About twenty minutes
where nothing else runs.

Each cell holds, for every backend (`cpu_backends.BACKENDS`):

- ``wall``: time on the clock. On a machine that others use, too, it is theirs as much as ours.
- ``processor``: processor time of the process, user and system, all threads together, in the same calls. What others do
  hardly changes it; but a thread that waits takes none, so it shows what work costs, not how well threads share it.
- ``memory_mib``: by how much a process that does nothing else grows at most, over the imported libraries, while the
  model is opened and run three times. Weights are 98 MiB; torch.compile's compiler is counted, too.

The ratios' baseline is the floor.
"""

from __future__ import annotations

import argparse
import functools
import json
import multiprocessing
import tempfile
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from cpu_backends import BACKENDS, EAGER, FLOOR, INPUT, images, open_backend, write_models
from cpu_tables import CLOCKS, all_tables, write_pages
from interleaved import command_line, machine, summary, table, times_of, write_results

from sn_deploy.atomic import check_writable
from sn_deploy.check.machine import load_between, read_counters
from sn_deploy.check.memory import measure_memory

PACKAGES = ["onnxruntime", "openvino", "torch", "onnx", "numpy"]
ROUNDS = {1: 60, 2: 30}  # of a batch; LEAST_ROUNDS of larger ones
LEAST_ROUNDS = 15


class ProcessorTimed:
    """A call that keeps the processor time that the process spends in each."""

    def __init__(self, call: Callable[[], object]) -> None:
        self.call, self.spent_ns = call, list[int]()

    def __call__(self) -> object:
        start = time.process_time_ns()
        result = self.call()
        self.spent_ns.append(time.process_time_ns() - start)
        return result


def measure_times(folder: Path, batch: int, threads: int, rounds: int) -> dict[str, Any]:
    """Wall and processor time of all backends in turns, after a look at what they give."""
    import torch

    torch.set_num_threads(threads)
    x = {INPUT: images(batch)}
    runners = {name: open_backend(name, folder, threads) for name in BACKENDS}
    check_agreement({name: runner.run(x) for name, runner in runners.items()})
    calls = {name: ProcessorTimed(functools.partial(runner.run, x)) for name, runner in runners.items()}
    before = read_counters()
    wall_ms = times_of(calls, rounds=rounds)
    load = load_between(before, read_counters())
    # The last ones: those before warmed up.
    processor_ms = {name: np.array(call.spent_ns[-rounds:]) / 1e6 for name, call in calls.items()}
    return {
        "rounds": rounds,
        "others_share_of_processors": None if load.others is None else round(load.others, 3),
        "wall": summary(wall_ms, FLOOR),
        "processor": summary(processor_ms, FLOOR),
    }


def measure_all_memory(folder: Path, batch: int, threads: int) -> dict[str, float]:
    """MiB of each backend (see above)."""
    found = {}
    for name, backend in BACKENDS.items():
        opener = functools.partial(open_backend, name, folder, threads)
        mib = measure_memory(opener, {INPUT: images(batch)}, imports=["cpu_backends", backend.library])
        found[name] = round(mib, 1)
    return found


def check_agreement(outputs: Mapping[str, np.ndarray]) -> None:
    """Exits where an output isn't PyTorch's. The floor's numbers mean nothing, but have to be ordinary ones."""
    for name, output in outputs.items():
        difference = np.linalg.norm(output - outputs[EAGER]) / np.linalg.norm(outputs[EAGER])
        # Subnormal or infinite activations would make the floor's time another one.
        fine = 1e-3 < np.abs(output).max() < 1e6 if name == FLOOR else difference < 1e-5
        if not fine:
            raise SystemExit(f"{name}: relative L2 difference of {difference:.1e} from {EAGER}")


def measure_cell(batch: int, threads: int, rounds: int) -> dict[str, Any]:
    """All of one cell, in the process that this is called in."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_models(folder, batch)
        facts = machine(PACKAGES, threads)
        memory = measure_all_memory(folder, batch, threads)
        return {"machine": facts, **measure_times(folder, batch, threads, rounds), "memory_mib": memory}


def cell_name(batch: int, threads: int) -> str:
    """Of one cell in the file."""
    return f"batch {batch}, {threads} thread{'s' if threads > 1 else ''}"


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, required=True, help="JSON file of the results; kept, and added to")
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 2, 8])
    parser.add_argument("--threads", type=int, nargs="+", default=[2, 1])
    parser.add_argument("--rounds", type=int, help="of every cell; default: 60 at batch 1, 30 at 2, else 15")
    parser.add_argument("--again", action="store_true", help="measure cells that the file has, too")
    parser.add_argument(
        "--write", action="store_true", help="put the tables into the README and docs/performance-cpu.md"
    )
    parser.add_argument("--show", action="store_true", help="only print the tables of what the file has")
    return parser.parse_args()


def main() -> None:
    """The command."""
    arguments = parse()
    check_writable(arguments.output)
    results: dict[str, Any] = {"cells": {}}
    if arguments.output.exists():
        results = json.loads(arguments.output.read_text(encoding="utf-8"))
    cells = results["cells"]
    if arguments.show:
        print(all_tables(cells))
        return
    for batch in arguments.batches:
        for threads in arguments.threads:
            name = cell_name(batch, threads)
            if name in cells and not arguments.again:
                print(f"{name}: measured before", flush=True)
                continue
            rounds = arguments.rounds or ROUNDS.get(batch, LEAST_ROUNDS)
            # A process of its own: no thread pool, compiled code or memory of an earlier cell.
            with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as process:
                cell = process.submit(measure_cell, batch, threads, rounds).result()
            cells[name] = {"command": command_line(), **cell}
            write_results(results, arguments.output)
            for clock in CLOCKS:
                print(f"\n{name}: {clock}\n{table(cell[clock])}", flush=True)
            print(f"\n{name}: memory\n{json.dumps(cell['memory_mib'], indent=1)}", flush=True)
    if arguments.write:
        write_pages(cells)


if __name__ == "__main__":
    main()

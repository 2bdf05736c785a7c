"""What measuring costs, beside the calls that are measured.

    python benchmarks/latency_overhead.py --output benchmarks/results/latency_overhead.json

``whole`` is the time that `sn_deploy.check.latency.measure` spends outside the backends' calls, statistics and all, as
a share of the time in them: ResNet-18 with SN at 224, two backends, the default number of rounds. ``between`` is the
same for the rounds alone, without the statistics at the end, on the demo's net, whose call takes about a tenth of a
millisecond. ``within`` is what a timed call of that net takes over one of a plain loop: the median over blocks of
calls, of each in turn.
"""

from __future__ import annotations

import argparse
import functools
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from function_body import look_trained_
from interleaved import command_line, machine, write_results

import sn_deploy
from sn_deploy.atomic import check_writable
from sn_deploy.check.bootstrap import median_interval
from sn_deploy.check.latency import measure
from sn_deploy.check.rounds import take_turns
from sn_deploy.models import resnetv1sn18
from sn_deploy.models.digits import load_pretrained
from sn_deploy.runtime.ort import OrtSession

CALLS = 50  # in a block


class Counted:
    """A session that sums up the time in it."""

    def __init__(self, session: OrtSession) -> None:
        self.session, self.spent_ns = session, 0

    def run(self, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        start = time.perf_counter_ns()
        outputs = self.session.run(inputs)
        self.spent_ns += time.perf_counter_ns() - start
        return outputs


def opened(model: torch.nn.Module, x: torch.Tensor, threads: int) -> OrtSession:
    """The exported model."""
    with tempfile.TemporaryDirectory() as folder:
        sn_deploy.export(model, x, Path(folder) / "model.onnx")
        return OrtSession(Path(folder) / "model.onnx", threads=threads, spinning=False)


def added_share(session: OrtSession, measuring: Callable[[Mapping[str, Counted]], object]) -> float:
    """Time outside the calls over time in them, of one measurement of two backends."""
    backends = {"a": Counted(session), "b": Counted(session)}
    start = time.perf_counter_ns()
    measuring(backends)
    wall_ns = time.perf_counter_ns() - start
    spent_ns = sum(backend.spent_ns for backend in backends.values())
    return round((wall_ns - spent_ns) / spent_ns, 4)


def within_ratio(session: OrtSession, x: Mapping[str, np.ndarray]) -> float:
    """A timed call's mean time over that of a call in a plain loop, of one block of each."""
    timed = take_turns({"a": lambda: session.run(x)}, rounds=CALLS, warmup=CALLS).times_ms["a"].sum()
    for _ in range(CALLS):
        session.run(x)
    start = time.perf_counter_ns()
    for _ in range(CALLS):
        session.run(x)
    return float(timed / ((time.perf_counter_ns() - start) / 1e6))


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, help="JSON file of the results")
    parser.add_argument("--repeats", type=int, default=5, help="of each measurement")
    parser.add_argument("--blocks", type=int, default=300)
    arguments = parser.parse_args()
    if arguments.output is not None:
        check_writable(arguments.output)
    torch.manual_seed(0)
    net = opened(look_trained_(resnetv1sn18()), torch.zeros(1, 3, 224, 224), threads=2)
    image = {net.inputs[0].name: np.zeros((1, 3, 224, 224), np.float32)}
    digits = opened(load_pretrained(), torch.zeros(1, 1, 8, 8), threads=1)
    digit = {digits.inputs[0].name: np.zeros((1, 1, 8, 8), np.float32)}

    def rounds(backends: Mapping[str, Counted]) -> None:
        calls = {name: functools.partial(backend.run, digit) for name, backend in backends.items()}
        take_turns(calls, rounds=20_000)

    repeats = range(arguments.repeats)
    whole = [added_share(net, lambda backends: measure(backends, {1: image})) for _ in repeats]
    between = [added_share(digits, rounds) for _ in repeats]
    within = [within_ratio(digits, digit) for _ in range(arguments.blocks)]
    low, high = median_interval(within)
    print(f"whole: {', '.join(f'{share:.2%}' for share in whole)}")
    print(f"between: {', '.join(f'{share:.2%}' for share in between)}")
    print(f"within: {np.median(within):.4f} ({low:.4f} to {high:.4f})")
    results: dict[str, Any] = {
        "command": command_line(),
        "machine": machine(["onnxruntime", "numpy"], 2),
        "whole": whole,
        "between": between,
        "within": round(float(np.median(within)), 4),
        "within_low": round(low, 4),
        "within_high": round(high, 4),
    }
    write_results(results, arguments.output)


if __name__ == "__main__":
    main()

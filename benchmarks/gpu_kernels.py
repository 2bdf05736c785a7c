"""The CUDA kernels on a GPU: the best tactic of each layer of ResNet-50, what its 53 layers take together, and how near
large tensors come to the speed of a copy.

    cmake -S plugins -B build/plugins -G Ninja -DSN_WITH_CUDA=ON && ninja -C build/plugins
    python benchmarks/gpu_kernels.py --library build/plugins/cuda/libsn_deploy_cuda.so --output gpu_kernels.json

Beside the kernels, in the same rounds: the two-kernel fallback, torch eager and torch.compile on sn_deploy.nn's layers.
Everything but torch's "launched" rows runs from CUDA graphs, with inputs that are not in the cache. Without a GPU
nothing is measured and the exit code is 2; with ``--rehearse``, and the library that stands in for a GPU, every step
runs on tiny layers, and the times mean nothing. Called again with the same output it goes on with what is missing; the
exit code is 3 while something is.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gpu_layers import Layer, OnDevice, plain, resnet50_layers
from gpu_timing import FAILURES, UNFINISHED, Clock, GpuClock, RehearsalClock, Timed, in_turns, reason_of, summary
from interleaved import command_line, write_results

from sn_deploy.atomic import check_writable
from sn_deploy.errors import SnDeployError
from sn_deploy.runtime.cuda import WORKSPACE_ALIGNMENT, CudaKernels, Layout, Tactic

LAYOUTS: tuple[Layout, ...] = ("linear", "channels last")
GOALS_US = {1: 135, 8: 160, 32: 330, 128: 1350}  # the 53 layers in float16
GOAL_OF_A_COPY = 0.85
LARGE_BYTES = 50e6
# (layer, batch): X of more than 50 MB in float16.
LARGE = [
    (Layer(64, 112, 112), 128), (Layer(256, 56, 56), 64), (Layer(512, 28, 28), 128), (Layer(1024, 14, 14), 256),
    (Layer(2048, 7, 7), 512), (Layer(64, 512, 512), 4), (Layer(3, 2048, 2048), 8),
]  # fmt: skip
AGREES = 3e-3  # relative L2 between two implementations that both round Y to float16


@dataclass(frozen=True)
class Work:
    """What is timed, and how often."""

    batches: Sequence[int]
    layers: Sequence[Layer]
    large: Sequence[tuple[Layer, int]]
    rounds: int
    launches: int = 20  # of one layer in a graph


@dataclass
class Bench:
    """What all parts work with, and what they found."""

    kernels: CudaKernels
    clock: Clock
    work: Work
    compiled: bool
    deadline: float
    save: Callable[[], None] = lambda: None
    results: dict[str, Any] = field(default_factory=dict)
    cut: bool = False

    def __post_init__(self) -> None:
        self.workspaces = [self._workspace(1 << 20)]  # all are kept: graphs hold their addresses
        self.facts = self.clock.facts()

    def stream(self) -> int:
        """The stream that torch works on."""
        return int(torch.cuda.current_stream().cuda_stream) if self.clock.device == "cuda" else 0

    def launcher(self, tensors: OnDevice, tactic: Tactic) -> Callable[[int], None]:
        """A launch of one tactic, with a workspace."""
        need = self.kernels.workspace_bytes(tensors.problem)
        if need > self.workspaces[-1].nbytes:
            self.workspaces.append(self._workspace(need))
        return tensors.launcher(self.kernels, tactic, self.workspaces[-1], self.stream)

    def _workspace(self, size: int) -> torch.Tensor:
        room = torch.empty(size + WORKSPACE_ALIGNMENT, dtype=torch.uint8, device=self.clock.device)
        skip = -room.data_ptr() % WORKSPACE_ALIGNMENT
        return room[skip : skip + size]

    def sets(self, moved_bytes: float) -> int:
        """How many sets of tensors it takes to go round outside the cache."""
        return int(np.clip(np.ceil(3 * self.facts["l2_bytes"] / max(moved_bytes, 1)), 1, 64))

    def late(self) -> bool:
        """Whether the time is up: what is left is left for another call, and said to be."""
        self.cut = self.cut or time.monotonic() > self.deadline
        return self.cut


# --- Tactics --------------------------------------------------------------------------------------------------------


def check_against_torch(tensors: OnDevice, launch: Callable[[int], None], tactic: Tactic) -> None:
    """Nothing wrong is timed."""
    launch(0)
    y = tensors.y[0].float()
    expected = tensors.torch_call(tensors.torch_module())(0).float()
    error = float((y - expected).norm() / expected.norm())
    if not error <= AGREES:
        raise SnDeployError(f"relative L2 to torch is {error:.2e}", where=f"{tensors.layer.name}, {tactic.name}")


def time_tactics(bench: Bench, layer: Layer, batch: int, layout: Layout) -> dict[str, Any]:
    """The time of a launch by each tactic, the best one, and the one that is chosen where nothing is timed."""
    launches = bench.work.launches
    sets = min(bench.sets(layer.moved_bytes(batch)), launches)
    tensors = OnDevice(layer, batch, bench.clock.device, layout=layout, sets=sets)
    timed = {}
    for tactic in bench.kernels.tactics(tensors.problem):
        launch = bench.launcher(tensors, tactic)
        check_against_torch(tensors, launch, tactic)
        timed[str(tactic.code)] = bench.clock.graph(repeated(launch, launches))
    times = in_turns(timed, max(bench.work.rounds // 3, 3), warmup=1)
    microseconds = {code: round(float(np.median(values)) / launches, 3) for code, values in times.items()}
    return {
        "us": {Tactic(int(code)).name: us for code, us in microseconds.items()},
        "best": int(min(microseconds, key=lambda code: microseconds[code])),
        "chosen": bench.kernels.choose(tensors.problem).name,
    }


def repeated(call: Callable[[int], object], times: int) -> Callable[[], None]:
    """The call with 0, 1, … as one piece of work."""

    def work() -> None:
        for index in range(times):
            call(index)

    return work


def find_tactics(bench: Bench) -> None:
    """The best tactic of each distinct layer, by batch and layout."""
    table = bench.results["tactics"]
    for batch in bench.work.batches:
        for layout in LAYOUTS:
            for layer in dict.fromkeys([*bench.work.layers, *plain(bench.work.layers)]):
                own = table.setdefault(str(batch), {}).setdefault(layout, {})
                if layer.name in own:
                    continue
                if bench.late():
                    return
                own[layer.name] = time_tactics(bench, layer, batch, layout)
            bench.save()


# --- The 53 layers --------------------------------------------------------------------------------------------------


def best_tactic(bench: Bench, tensors: OnDevice, batch: int) -> Tactic:
    """As timed; as chosen where the time was up before."""
    found = bench.results["tactics"].get(str(batch), {}).get(tensors.layout, {}).get(tensors.layer.name)
    return Tactic(found["best"]) if found else bench.kernels.choose(tensors.problem)


def one_after_the_other(calls: Sequence[Callable[[int], object]], sets: int) -> Callable[[], None]:
    """All layers with the first set of tensors, then with the second, …"""

    def work() -> None:
        for index in range(sets):
            for call in calls:
                call(index)

    return work


def kernel_rows(bench: Bench, batch: int, net: Sequence[OnDevice], sets: int) -> dict[str, Timed]:
    """The ways to run the net's layers by the kernels, in one layout."""
    kernels, layout = bench.kernels, net[0].layout
    ways: dict[str, Callable[[OnDevice], Tactic]] = {
        "best tactics": lambda tensors: best_tactic(bench, tensors, batch),
        "chosen tactics": lambda tensors: kernels.choose(tensors.problem),
        "two kernels": lambda tensors: kernels.fallback(tensors.problem),
    }
    rows = {}
    for name, tactic_of in ways.items():
        launches = [bench.launcher(tensors, tactic_of(tensors)) for tensors in net]
        rows[f"{name}, {layout}"] = bench.clock.graph(one_after_the_other(launches, sets))
    return rows


def torch_rows(bench: Bench, net: Sequence[OnDevice], sets: int) -> dict[str, Timed]:
    """The same by torch."""
    modules = [tensors.torch_module() for tensors in net]
    eager = [tensors.torch_call(module) for tensors, module in zip(net, modules, strict=True)]
    work = one_after_the_other(eager, sets)
    rows = {"torch eager, launched": bench.clock.launched(work), "torch eager": bench.clock.graph(work)}
    if bench.compiled and not bench.late():
        compiled = [torch.compile(module, dynamic=False) for module in modules]
        calls = [tensors.torch_call(module) for tensors, module in zip(net, compiled, strict=True)]
        try:
            rows["torch.compile"] = bench.clock.graph(one_after_the_other(calls, sets))
        except FAILURES as error:
            print(f"torch.compile is left out: {reason_of(error)}", flush=True)
    return rows


def time_net(bench: Bench, layers: Sequence[Layer], batch: int) -> dict[str, Any]:
    """All layers, by every way, in turns."""
    moved = sum(layer.moved_bytes(batch) for layer in layers)
    sets = bench.sets(moved)
    nets = [
        [OnDevice(layer, batch, bench.clock.device, layout=layout, sets=sets) for layer in layers] for layout in LAYOUTS
    ]
    timed: dict[str, Timed] = {}
    for net in nets:
        timed.update(kernel_rows(bench, batch, net, sets))
    timed.update(torch_rows(bench, nets[0], sets))
    times = in_turns(timed, bench.work.rounds)
    return {"moved_bytes": moved, "us": summary({name: values / sets for name, values in times.items()})}


def time_nets(bench: Bench) -> None:
    """The layers alone, then with what follows them, at each batch."""
    for key, layers in (("the layers alone", plain(bench.work.layers)), ("with ReLU and residual", bench.work.layers)):
        for batch in bench.work.batches:
            own = bench.results["resnet50"].setdefault(key, {})
            if str(batch) in own:
                continue
            if bench.late():
                return
            try:
                own[str(batch)] = time_net(bench, layers, batch)
            except torch.cuda.OutOfMemoryError:
                own[str(batch)] = {"left_out": "not enough memory on the GPU"}
            bench.save()


# --- Large tensors --------------------------------------------------------------------------------------------------


def time_large(bench: Bench) -> None:
    """Each large layer by its tactics, beside a copy of X to Y."""
    rows = bench.results["large"]
    for layer, batch in bench.work.large:
        for layout in LAYOUTS:
            if any((row["layer"], row["layout"]) == (f"{batch} x {layer.name}", layout) for row in rows):
                continue
            if bench.late():
                return
            tensors = OnDevice(layer, batch, bench.clock.device, layout=layout, sets=2)
            timed = {"copy": bench.clock.graph(repeated(lambda i, t=tensors: t.y[i % 2].copy_(t.x[i % 2]), 4))}
            for tactic in bench.kernels.tactics(tensors.problem):
                launch = bench.launcher(tensors, tactic)
                check_against_torch(tensors, launch, tactic)
                timed[tactic.name] = bench.clock.graph(repeated(launch, 4))
            times = in_turns(timed, max(bench.work.rounds // 2, 3), warmup=1)
            us = {name: float(np.median(values)) / 4 for name, values in times.items()}
            best = min((name for name in us if name != "copy"), key=lambda name: us[name])
            row: dict[str, Any] = {"layer": f"{batch} x {layer.name}", "layout": layout}
            row |= {"x_bytes": tensors.x[0].nbytes, "us": {name: round(value, 2) for name, value in us.items()}}
            row |= {"best": best, "share_of_copy": round(us["copy"] / us[best], 4)}
            row |= {"copy_gb_per_s": round(tensors.moved_bytes / us["copy"] / 1e3, 1)}
            rows.append(row)
        bench.save()


# --- What came of it ------------------------------------------------------------------------------------------------


def report(results: dict[str, Any]) -> str:
    """The tables."""
    lines = ["A rehearsal: its times mean nothing."] if results["rehearsal"] else []
    lines += ["Large tensors: the best tactic's speed as a share of a copy's"]
    for row in results.get("large", []):
        lines.append(
            f"  {row['layer']:28s} {row['layout']:14s} {row['best']:20s} {row['share_of_copy']:7.1%} of "
            f"{row['copy_gb_per_s']:.1f} GB/s"
        )
    for key, batches in results.get("resnet50", {}).items():
        lines.append(f"ResNet-50, all SN layers, {key}: µs")
        for batch, net in batches.items():
            for name, row in net.get("us", {}).items():
                lines.append(f"  batch {batch:>3s}  {name:32s} {row['median_us']:10.1f}")
    return "\n".join([*lines, *([] if results["rehearsal"] else goals(results))])


def goals(results: dict[str, Any]) -> list[str]:
    """What was aimed at, and what was reached."""
    lines = []
    for batch, goal in GOALS_US.items():
        rows = results.get("resnet50", {}).get("the layers alone", {}).get(str(batch), {}).get("us", {})
        ours = [row["median_us"] for name, row in rows.items() if name.startswith("best tactics")]
        if ours:
            lines.append(
                f"goal: batch {batch} in {goal} µs: {min(ours):.1f} ({'met' if min(ours) <= goal else 'missed'})"
            )
    shares = [row["share_of_copy"] for row in results.get("large", []) if row["x_bytes"] > LARGE_BYTES]
    if shares:
        verdict = "met" if min(shares) >= GOAL_OF_A_COPY else "missed"
        lines.append(f"goal: {GOAL_OF_A_COPY:.0%} of a copy above 50 MB: {min(shares):.1%} at least ({verdict})")
    return lines


def rehearsal(batches: Sequence[int]) -> Work:
    """Tiny layers, of every kind."""
    layers = [Layer(8, 5, 5, "relu"), Layer(16, 4, 4, "add relu"), Layer(16, 4, 4, "none")]
    return Work(batches[:1], layers, [(Layer(8, 6, 6), 1)], rounds=2, launches=1)


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--library", type=Path, help="libsn_deploy_cuda.so; the package's own if none is named")
    parser.add_argument("--output", type=Path, help="JSON file for the figures")
    parser.add_argument("--batches", type=int, nargs="+", default=list(GOALS_US))
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument(
        "--budget", type=float, default=300, metavar="SECONDS", help="what isn't begun by then is for another call"
    )
    parser.add_argument("--no-compile", action="store_true", help="leave torch.compile out")
    parser.add_argument(
        "--rehearse", action="store_true", help="on the host, with the library that stands in for a GPU"
    )
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; returns the exit code."""
    options = parse(arguments)
    if not options.rehearse and not torch.cuda.is_available():
        print("no GPU: not measured", file=sys.stderr)
        return 2
    if options.output is not None:
        check_writable(options.output)
    clock: Clock = RehearsalClock() if options.rehearse else GpuClock()
    torch._dynamo.config.recompile_limit = 1000  # each layer has its own code
    work = (
        rehearsal(options.batches)
        if options.rehearse
        else Work(options.batches, resnet50_layers(), LARGE, options.rounds)
    )
    deadline = time.monotonic() + options.budget
    bench = Bench(CudaKernels(options.library), clock, work, compiled=not options.no_compile, deadline=deadline)
    bench.results = {
        "command": command_line(), "machine": bench.facts, "rehearsal": options.rehearse,
        "large": [], "tactics": {}, "resnet50": {}, **earlier(options.output, bench.facts, options.rehearse),
    }  # fmt: skip
    bench.save = lambda: write_results(bench.results, options.output)
    for part in (time_large, find_tactics, time_nets):
        part(bench)
    bench.results["complete"] = not bench.cut
    bench.save()
    print(report(bench.results))
    if not bench.results["complete"]:
        print("to be continued: call again", file=sys.stderr)
        return UNFINISHED
    return 0


def earlier(output: Path | None, facts: dict[str, Any], rehearsal: bool) -> dict[str, Any]:
    """What an earlier call with the same output measured on the same GPU and versions."""
    if output is None or not output.is_file():
        return {}
    known = json.loads(output.read_text(encoding="utf-8"))
    same = all(known["machine"].get(key) == facts.get(key) for key in ("gpu_name", "torch"))
    if not same or known["rehearsal"] != rehearsal:
        return {}
    return {key: known[key] for key in ("large", "tactics", "resnet50")}


if __name__ == "__main__":
    try:
        sys.exit(main())
    except SnDeployError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)

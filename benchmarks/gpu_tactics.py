"""Every tactic of the CUDA kernels on each SN layer of ResNet-50 in fp16, in half a minute: for work on the kernels.

    python benchmarks/gpu_tactics.py --library build/gpu/cuda/libsn_deploy_cuda.so [--output gpu_tactics.json]

Layers with what follows them (ReLU; the residual and ReLU), from CUDA graphs of 8 launches, in turns, beside copies of
X to Y. At most four sets of tensors go round: at batch 32 and 128 mostly more than the cache holds; at batch 1 X is in
an H200's cache, as it is behind a convolution. `benchmarks/gpu_kernels.py` takes its time, goes round outside the
cache, holds each tactic against torch first, and has torch beside it: what is to be known of a release comes from
there.

A tactic that fails is noted, and the rest goes on; the exit code is 1 then. Without a GPU it is 2.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gpu_kernels import repeated
from gpu_layers import Layer, OnDevice, resnet50_layers
from gpu_timing import Clock, GpuClock, Timed, all_made, ended_if_it_hangs, in_turns
from interleaved import command_line, write_results

from sn_deploy.errors import SnDeployError
from sn_deploy.runtime.cuda import WORKSPACE_ALIGNMENT, CudaKernels, Layout

CACHE_BYTES = 180e6  # of tensors to go round, where four sets are as many; an H200's cache is a third of it
WORKSPACE_BYTES = 64 << 20
LAYOUTS: Mapping[str, Layout] = {"last": "channels last", "linear": "linear"}


def some_sets(layer: Layer, batch: int, clock: Clock, layout: Layout) -> OnDevice:
    """The layer's tensors, at most four sets of them."""
    sets = int(np.clip(np.ceil(CACHE_BYTES / layer.moved_bytes(batch)), 1, 4))
    return OnDevice(layer, batch, clock.device, layout=layout, sets=sets)


def launchers(kernels: CudaKernels, tensors: OnDevice, clock: Clock) -> dict[str, Callable[[int], object]]:
    """Name of each tactic -> what launches it on one of the sets."""
    room = torch.empty(WORKSPACE_BYTES + WORKSPACE_ALIGNMENT, dtype=torch.uint8, device=clock.device)
    workspace = room[-room.data_ptr() % WORKSPACE_ALIGNMENT :][:WORKSPACE_BYTES]

    return {
        tactic.name: tensors.launcher(kernels, tactic, workspace, lambda: stream_of(clock))
        for tactic in kernels.tactics(tensors.problem)
    }


def stream_of(clock: Clock) -> int:
    """The current stream's address; 0 on the host."""
    return int(torch.cuda.current_stream().cuda_stream) if clock.device == "cuda" else 0


def times_us(
    clock: Clock, calls: Mapping[str, Callable[[int], object]], *, needed: Collection[str], where: str
) -> tuple[dict[str, float], dict[str, str]]:
    """Median µs of each call, from CUDA graphs, in turns; and why the rest failed.

    Args:
        needed: calls without which the others, of which one is needed too, mean nothing.
        where: for the error.

    A call that never ends is named, and ends the process.

    Raises:
        SnDeployError: what is needed doesn't run.
    """

    def make(name: str, call: Callable[[int], object]) -> Timed:
        with ended_if_it_hangs(f"{where}: {name}", clock.patience_s):
            return clock.graph(repeated(call, clock.launches))

    timed, failed = all_made({name: lambda name=name, call=call: make(name, call) for name, call in calls.items()})
    if set(needed) & set(failed) or len(timed) <= len(needed):
        raise SnDeployError(next(iter(failed.values()), "there are no tactics"), where=where)
    with ended_if_it_hangs(f"{where}: one of {', '.join(timed)}", clock.patience_s):
        times = in_turns(timed, clock.rounds, warmup=1)
    return {name: round(float(np.median(values)) / clock.launches, 2) for name, values in times.items()}, failed


def make_parser(text: str | None, batches: Sequence[int]) -> argparse.ArgumentParser:
    """The options of benchmarks that time tactics.

    Args:
        text: what the script does.
        batches: what is measured if none are named.
    """
    parser = argparse.ArgumentParser(description=text, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--library", type=Path, help="libsn_deploy_cuda.so; the package's own if none is named")
    parser.add_argument("--output", type=Path, help="JSON file for the figures")
    parser.add_argument("--batches", type=int, nargs="+", default=list(batches))
    return parser


def time_layer(kernels: CudaKernels, clock: Clock, layer: Layer, batch: int, layout: str) -> dict[str, Any]:
    """µs of each tactic, of a copy, and the tactic that is chosen where nothing is timed.

    Raises:
        SnDeployError: nothing runs.
    """
    tensors = some_sets(layer, batch, clock, LAYOUTS[layout])
    sets = len(tensors.x)
    calls = launchers(kernels, tensors, clock)
    calls["copy"] = lambda index: tensors.y[index % sets].copy_(tensors.x[index % sets])
    us, failed = times_us(clock, calls, needed={"copy"}, where=f"{batch} x {layer.name}")
    row = {"copy_us": us.pop("copy"), "us": us, "chosen": kernels.choose(tensors.problem).name}
    return {**row, "failed": failed} if failed else row


def totals(layers: dict[Layer, int], rows: dict[str, dict[str, Any]]) -> dict[str, float]:
    """All layers of the net, one after the other, by sums of the rows."""
    total = {"best_us": 0.0, "chosen_us": 0.0, "copy_us": 0.0}
    for layer, count in layers.items():
        row = rows[layer.name]
        total["best_us"] += count * min(row["us"].values())
        total["chosen_us"] += count * row["us"].get(row["chosen"], float("nan"))
        total["copy_us"] += count * row["copy_us"]
    return {name: round(value, 1) for name, value in total.items()}


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; returns the exit code."""
    parser = make_parser(__doc__, [1, 8, 32, 128])
    parser.add_argument("--layouts", nargs="+", choices=LAYOUTS, default=["last"])
    options = parser.parse_args(arguments)
    if not torch.cuda.is_available():
        print("no GPU: not measured", file=sys.stderr)
        return 2
    kernels, clock = CudaKernels(options.library), GpuClock()
    layers = dict(Counter(resnet50_layers()))
    results: dict[str, Any] = {"command": command_line(), "machine": clock.facts(), "layouts": {}}
    failures = 0
    for layout in options.layouts:
        for batch in options.batches:
            rows = {layer.name: time_layer(kernels, clock, layer, batch, layout) for layer in layers}
            for layer, count in layers.items():
                row = rows[layer.name]
                failures += len(row.get("failed", {}))
                for name, why in row.get("failed", {}).items():
                    print(f"{layout:6s} batch {batch:3d}  {layer.name}: {name} failed: {why}", flush=True)
                best = min(row["us"], key=row["us"].get)
                print(
                    f"{layout:6s} batch {batch:3d}  {count:2d} x {layer.name:28s} copy {row['copy_us']:6.1f}  "
                    f"{best} {row['us'][best]:.1f} µs, chosen {row['chosen']} {row['us'].get(row['chosen'], 0):.1f}",
                    flush=True,
                )
            total = totals(layers, rows)
            results["layouts"].setdefault(layout, {})[str(batch)] = {"total": total, "layers": rows}
            print(f"{layout:6s} batch {batch:3d}  all layers: {total}", flush=True)
            write_results(results, options.output)
    if failures:
        print(f"{failures} tactics failed", file=sys.stderr)
    return 1 if failures else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except SnDeployError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(1)  # 2 is for what is missing

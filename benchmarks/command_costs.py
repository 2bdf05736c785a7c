"""What two proofs cost beside the commands that make them: ``check --layers``, and the whole file's run of ``fuse``.

    python benchmarks/command_costs.py --output benchmarks/results/command_costs.json

Each command is a process of its own, with one thread, in turns with the same one without that proof, Python's start
included: ResNet-50 v1 with SN at 224, random images; ``check`` of PyTorch, the function inside the file and the native
operators, two batches of 8; ``fuse`` of what torch's TorchScript exporter writes at opset 13. What is compared is the
processor time of the process and its children: what others do on the machine hardly changes it. ``peak_gib`` is the
most that is resident, the median over the rounds. ``fuse_bytes_a_number`` is what a number more in a layer's input adds
to the peak of ``fuse --no-run``, taken of one layer at two sizes.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import random
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, Final

import numpy as np
from interleaved import command_line, machine, write_results

from sn_deploy.atomic import check_writable
from sn_deploy.check.latency import ratio_of

WITH, WITHOUT = "with", "without"
_NET: Final = ("--model", "sn_deploy.models:resnetv1sn50")
_CHECK: Final = ("check", "net.onnx", *_NET, "--data", "x.npy", "--batch-size", "8", "--no-latency", "--threads", "1")
_FUSE: Final = ("fuse", "torch.onnx", "-o", "fused.onnx")
COMMANDS: Final = {
    "check --layers": {WITH: (*_CHECK, "--layers"), WITHOUT: _CHECK},
    "fuse, the whole file's run": {WITH: _FUSE, WITHOUT: (*_FUSE, "--no-run")},
}
SAMPLES, OPSET = 16, 13
CHANNELS: Final = 64
SIDES: Final = (128, 256)  # of the one layer's image


def write_files(folder: Path) -> None:
    """What the commands read; in a process of its own, as torch's memory isn't the commands'."""
    import torch

    import sn_deploy
    from sn_deploy.models import resnetv1sn50
    from sn_deploy.nn import SwitchNorm2d

    torch.manual_seed(0)  # as the commands' own model is made
    model, image = resnetv1sn50().eval(), torch.zeros(1, 3, 224, 224)
    torch.onnx.export(model, (image,), folder / "torch.onnx", dynamo=False, opset_version=OPSET)
    sn_deploy.export(model, image, folder / "net.onnx", dynamic="batch")
    for side in SIDES:
        layer, x = SwitchNorm2d(CHANNELS).eval(), torch.zeros(1, CHANNELS, side, side)
        torch.onnx.export(layer, (x,), folder / f"layer{side}.onnx", dynamo=False, opset_version=OPSET)
    torch.save(model.state_dict(), folder / "net.pth")
    np.save(folder / "x.npy", np.random.default_rng(0).standard_normal((SAMPLES, 3, 224, 224), dtype=np.float32))


def run(arguments: tuple[str, ...], folder: Path) -> tuple[float, float]:
    """Processor seconds, and GiB at the peak."""
    command = [sys.executable, "-m", "sn_deploy", *arguments]
    if arguments[0] == "check":
        command += ["--checkpoint", "net.pth"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(command, cwd=folder, env=environment, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        raise SystemExit(f"{' '.join(arguments)} ended with {process.returncode}")
    return usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 2**20


def measure(name: str, folder: Path, rounds: int) -> dict[str, Any]:
    """One command with the proof and without it, in turns."""
    seconds: dict[str, list[float]] = {WITH: [], WITHOUT: []}
    memory: dict[str, list[float]] = {WITH: [], WITHOUT: []}
    order = [WITH, WITHOUT]
    for _ in range(rounds):
        random.shuffle(order)
        for one in order:
            spent, peak = run(COMMANDS[name][one], folder)
            seconds[one].append(spent)
            memory[one].append(peak)
    ratio, low, high = ratio_of(np.array(seconds[WITH]), np.array(seconds[WITHOUT]))
    row: dict[str, Any] = {"rounds": rounds, "ratio": ratio, "ratio_low": low, "ratio_high": high}
    for one in (WITH, WITHOUT):
        row[one] = {
            "arguments": " ".join(COMMANDS[name][one]),
            "processor_s": round(float(np.median(seconds[one])), 2),
            "peak_gib": round(float(np.median(memory[one])), 2),
        }
    return {key: round(value, 3) if isinstance(value, float) else value for key, value in row.items()}


def bytes_a_number(folder: Path) -> float:
    """What a number more of a layer's input adds to the memory that ``fuse`` takes at its peak."""
    peaks = [run(("fuse", f"layer{side}.onnx", "-o", "fused.onnx", "--no-run"), folder)[1] for side in SIDES]
    small, large = (CHANNELS * side * side for side in SIDES)
    return round((peaks[1] - peaks[0]) * 2**30 / (large - small), 1)


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, help="JSON file of the results")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--only", nargs="+", default=list(COMMANDS), choices=list(COMMANDS))
    arguments = parser.parse_args()
    if arguments.output is not None:
        check_writable(arguments.output)
    results: dict[str, Any] = {
        "command": command_line(),
        "machine": machine(["onnxruntime", "onnx", "torch", "numpy"], 1),
        "resnet50_at_224": {},
    }
    random.seed(0)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        child = multiprocessing.get_context("spawn").Process(target=write_files, args=(folder,))
        child.start()
        child.join()
        if child.exitcode != 0:
            raise SystemExit("the nets couldn't be written")
        results["fuse_bytes_a_number"] = bytes_a_number(folder)
        print(results["fuse_bytes_a_number"], "bytes a number")
        for one in arguments.only:
            results["resnet50_at_224"][one] = measure(one, folder, arguments.rounds)
            print(one, results["resnet50_at_224"][one], flush=True)
            write_results(results, arguments.output)


if __name__ == "__main__":
    main()

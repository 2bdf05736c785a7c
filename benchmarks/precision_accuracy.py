"""What half precision, int8 and FP8 cost in accuracy, with every rounding that a GPU does, on the CPU.

    python benchmarks/precision_accuracy.py --output benchmarks/results/precision_accuracy.json

The nets are those whose engines gpu_engines.py measures (gpu_nets.py). Each is exported in float32, converted and
quantized, and run beside that file as `sn-deploy check` does it with ``ort-rounded``. ResNet-50's ranges are taken from
the 16 random images that it is tried on; the demo's from 512 of those that it was trained on, and it is tried on the
445 held-out ones, and on 1,000 of all. In int8 and FP8 SN computes in float16 where nothing else is said. Each row has
``rel_l2`` to the float32 file and ``top1_agreement`` with it; the demo's has its ``accuracy``. No times.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from gpu_nets import NETS, Net
from interleaved import command_line, machine, write_results

import sn_deploy
from sn_deploy.atomic import check_writable
from sn_deploy.check import Limits, check
from sn_deploy.check.digits_data import load_digits_split
from sn_deploy.precision import convert_precision, quantize

Array = np.ndarray[Any, Any]
IMAGES, CALIBRATION, OF_ALL = 16, 512, 1000
RESNETS: Final = ("resnet50 v1", "resnet50 v2")
METHODS: Final = ("minmax", "percentile", "entropy")
IN_FLOAT32: Final = "int8, SN in fp32"
_ANY_ERROR: Final = 10.0  # nothing is judged here


def forms(source: Path, ranges: Array, methods: tuple[str, ...]) -> Iterator[tuple[str, Path]]:
    """Names and files of a float32 file in other precisions; each is there until the next one is asked for."""
    path = source.with_name("other.onnx")
    common: dict[str, Any] = {"max_rel_l2": _ANY_ERROR, "samples": ranges}
    for precision in ("fp16", "bf16"):
        convert_precision(source, path, precision=precision, **common)
        yield precision, path
    for method in methods:
        quantize(source, path, precision="int8", float_type="fp16", method=method, **common)
        yield f"int8, {method}", path
    quantize(source, path, precision="int8", **common)
    yield IN_FLOAT32, path
    quantize(source, path, precision="fp8", float_type="fp16", **common)
    yield "fp8", path


def row_of(source: Path, path: Path, images: Array, labels: Array | None, *, float32: bool) -> dict[str, float]:
    """How far one file is from the other on these images."""
    kind = "ort" if float32 else "ort-rounded"  # which has nothing to round
    result = check(
        source,
        data=images if labels is None else (images, labels),
        backends=f"other={kind}:{path}",
        limits=Limits(tolerances={"*": {"rel_l2": _ANY_ERROR, "worst_rel_l2": _ANY_ERROR}}),
    )
    (parity,) = result.parity["other"]
    figures = {metric.name: metric.value for metric in result.metrics if metric.backend == "other"}
    kept = ("top1_agreement", *(["top1_accuracy"] if labels is not None else []))
    return {"rel_l2": float(f"{parity.rel_l2:.4g}"), **{name: round(figures[name], 6) for name in kept}}


def measure(net: Net, folder: Path, progress: str) -> dict[str, Any]:
    """Every precision of one net."""
    source = folder / "float32.onnx"
    sn_deploy.export(net.make(), torch.zeros(1, *net.image), source, dynamic="batch")
    sets: dict[str, tuple[Array, Array | None]]
    if net.name in RESNETS:
        ranges = net.draw(IMAGES)
        sets, methods = {"random": (ranges, None)}, METHODS
    else:
        digits = load_digits_split()
        ranges, methods = digits.train_images[:CALIBRATION], ("percentile",)
        every = np.concatenate([digits.test_images, digits.train_images])[:OF_ALL]
        labels = np.concatenate([digits.test_labels, digits.train_labels])[:OF_ALL]
        sets = {"held out": (digits.test_images, digits.test_labels), f"{OF_ALL} of all": (every, labels)}
    rows: dict[str, dict[str, dict[str, float]]] = {name: {} for name in sets}
    for name, path in forms(source, ranges, methods):
        for of, (images, known) in sets.items():
            rows[of][name] = row_of(source, path, images, known, float32=name == IN_FLOAT32)
            print(f"{progress}, {of}, {name}: {rows[of][name]}", flush=True)
    if net.name not in RESNETS:
        images, known = sets["held out"]
        rows["held out"]["fp32"] = row_of(source, source, images, known, float32=True)
    return {of: {"images": len(sets[of][0]), **found} for of, found in rows.items()}


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, help="JSON file of the results")
    parser.add_argument("--nets", nargs="+", default=[*RESNETS, "digits"], choices=[*RESNETS, "digits"])
    arguments = parser.parse_args()
    if arguments.output is not None:
        check_writable(arguments.output)
    results: dict[str, Any] = {
        "command": command_line(),
        "machine": machine(["onnxruntime", "onnx", "torch", "numpy"], torch.get_num_threads()),
        "nets": {},
    }
    for name in arguments.nets:
        with tempfile.TemporaryDirectory() as folder:
            results["nets"][name] = measure(NETS[name], Path(folder), name)
        write_results(results, arguments.output)


if __name__ == "__main__":
    main()

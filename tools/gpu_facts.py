"""What a machine has for the GPU checks, as one JSON object; exit code 2, with the reason, where no GPU is usable.

    python tools/gpu_facts.py [OUTPUT.json]

Needs nothing but the standard library and, to see a GPU, torch.
"""

from __future__ import annotations

import importlib
import importlib.util
import json
import platform
import shutil
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

PROGRAMS = ("nvidia-smi", "nvcc", "compute-sanitizer", "cmake", "ninja")
PACKAGES = ("torch", "triton", "numpy", "onnx", "onnxruntime", "onnxruntime-gpu", "tensorrt", "hypothesis", "pytest")


def versions() -> dict[str, str]:
    """Package -> version of those that are installed."""
    found = {}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def gpu_facts() -> dict[str, Any]:
    """What torch says of the first GPU.

    Raises:
        RuntimeError: it can't use one; the message says why.
    """
    if importlib.util.find_spec("torch") is None:
        raise RuntimeError("torch is not installed")
    torch = importlib.import_module("torch")
    if not torch.cuda.is_available():
        raise RuntimeError(f"torch {torch.__version__} finds none")
    properties = torch.cuda.get_device_properties(0)
    ones = torch.ones(8, device="cuda")
    if float(ones.sum()) != 8:  # a GPU that torch has no code for fails here, or above
        raise RuntimeError("torch computes wrongly on it")
    return {
        "name": properties.name,
        "compute_capability": f"{properties.major}.{properties.minor}",
        "multiprocessors": properties.multi_processor_count,
        "memory_gib": round(properties.total_memory / 2**30, 1),
        "l2_mib": round(properties.L2_cache_size / 2**20, 1),
        "cuda_of_torch": torch.version.cuda,
    }


def nvidia_smi() -> str:
    """The lines of `nvidia-smi` that name driver, clocks, power and what else runs; empty without it."""
    query = (
        "name,driver_version,clocks.sm,clocks.max.sm,clocks.mem,power.draw,power.limit,temperature.gpu,utilization.gpu"
    )
    command = ["nvidia-smi", f"--query-gpu={query}", "--format=csv"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip()


def main() -> int:
    """Command line; returns the exit code."""
    facts: dict[str, Any] = {"python": platform.python_version(), "packages": versions()}
    facts["programs"] = {name: shutil.which(name) for name in PROGRAMS}
    facts["nvidia_smi"] = nvidia_smi()
    why = None
    try:
        facts["gpu"] = gpu_facts()
    except Exception as error:  # noqa: BLE001 - whatever torch meets here, it is the reason
        why = str(error).splitlines()[0]
        facts["no_gpu"] = why
    text = json.dumps(facts, indent=1)
    if len(sys.argv) > 1:
        Path(sys.argv[1]).write_text(text + "\n", encoding="utf-8")
    print(text)
    if why is not None:
        print(f"no GPU: {why}", file=sys.stderr)
        return 2
    print(facts["gpu"]["name"])
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""The parts of tools/gpu_check.py: what each runs, what it needs, and how long it may take."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

from tools.parts import ROOT, Part, Place, junit

KERNELS = "cuda/libsn_deploy_cuda.so"
LAUNCHES = "cuda/tests/check_launches"
HOST_KERNELS = "cuda/tests/libsn_deploy_cuda_host.so"
ORT_CUDA = "onnxruntime_cuda/libsn_deploy_ort_cuda.so"
TENSORRT = ("tensorrt/libsn_deploy_trt10.so", "tensorrt/libsn_deploy_trt11.so")
SANITIZERS = ("memcheck", "racecheck", "initcheck", "synccheck")
SANITIZER_FOUND = 9  # compute-sanitizer's exit code when it has something to report


def _python(*arguments: str | Path) -> list[str]:
    return [sys.executable, *map(str, arguments)]


def _pytest(*files: str, marker: str = "gpu") -> Callable[[Place], list[str]]:
    def command(place: Place) -> list[str]:
        paths = [str(ROOT / "tests/gpu" / file) for file in files]
        # Warnings of other versions than the project's CI has are no failures here.
        own = ["-q", "-rs", "--maxfail=30", "-W", "default", "-p", "no:cacheprovider", f"--junitxml={junit(place)}"]
        return _python("-m", "pytest", *paths, "-m", marker, *own)

    return command


def _without(*names: str) -> Callable[[Place], str | None]:
    """What of the build folder is missing; one of a part's names is enough where they are alternatives."""

    def missing(place: Place) -> str | None:
        if any((place.build / name).is_file() for name in names):
            return None
        return f"{' or '.join(names)} is not in {place.build}"

    return missing


def _no_need_to_build(place: Place) -> str | None:
    if (place.build / KERNELS).is_file() and (place.build / LAUNCHES).is_file():
        return f"built already, in {place.build}"
    absent = [name for name in ("cmake", "nvcc") if shutil.which(name) is None]
    return f"{' and '.join(absent)} not found, to build it with" if absent else None


def _build(place: Place) -> list[str]:
    settings = "-DSN_WITH_CUDA=ON -DSN_WITH_TESTS=OFF -DCMAKE_CUDA_ARCHITECTURES=native -DCMAKE_BUILD_TYPE=Release"
    # The custom-op library's header can't be fetched everywhere; TensorRT's are used if they are found.
    settings += " -DSN_WITH_ORT=ON" if os.environ.get("ORT_INCLUDE_DIR") else " -DSN_WITH_ORT=OFF"
    script = (
        f'cmake -S "$1" -B "$2" {settings} ${{ORT_INCLUDE_DIR:+-DORT_INCLUDE_DIR="$ORT_INCLUDE_DIR"}} '
        '&& cmake --build "$2" -j && cmake --build "$2" -j --target check_launches'
    )
    return ["bash", "-c", script, "bash", str(ROOT / "plugins"), str(place.build)]


def find_sanitizer() -> str | None:
    """compute-sanitizer: SN_COMPUTE_SANITIZER, on the PATH, or where toolkits put it."""
    named = os.environ.get("SN_COMPUTE_SANITIZER")
    places = [named, shutil.which("compute-sanitizer"), "/usr/local/cuda/bin/compute-sanitizer"]
    return next((place for place in places if place and Path(place).is_file()), None)


def _sanitizer(tool: str, limit_s: int) -> Part:
    def command(place: Place) -> list[str]:
        own = [find_sanitizer() or "compute-sanitizer", "--tool", tool, f"--error-exitcode={SANITIZER_FOUND}"]
        return [*own, str(place.build / LAUNCHES), "quick"]

    def missing(place: Place) -> str | None:
        if find_sanitizer() is None:
            return "compute-sanitizer was not found (nvidia-cuda-sanitizer-api; SN_COMPUTE_SANITIZER names it)"
        return _without(LAUNCHES)(place)

    return Part(tool, f"compute-sanitizer's {tool} over every tactic", limit_s, command, missing)


def _benchmark(script: str) -> Callable[[Place], list[str]]:
    def command(place: Place) -> list[str]:
        output = place.output / f"{Path(script).stem}.json"
        # Time to end by itself, with all that it has measured.
        budget = max(place.seconds - 30, 0.6 * place.seconds)
        return _python(ROOT / "benchmarks" / script, "--output", output, "--budget", f"{budget:.0f}")

    return command


def _kernels_benchmark(place: Place) -> list[str]:
    return [*_benchmark("gpu_kernels.py")(place), "--library", str(place.build / KERNELS)]


def _engines_benchmark(place: Place) -> list[str]:
    # The nets' files may have been made ahead, where no GPU waits for them.
    files = os.environ.get("SN_GPU_NETS") or place.output / "gpu-nets"
    own = ["--plugins", str(place.build / "tensorrt"), "--files", str(files)]
    return [*_benchmark("gpu_engines.py")(place), *own]


def _kernels_rehearsal(place: Place) -> list[str]:
    library = place.build / HOST_KERNELS
    return [*_benchmark("gpu_kernels.py")(place), "--rehearse", "--no-compile", "--library", str(library)]


def _engines_rehearsal(place: Place) -> list[str]:
    own = ["--rehearse", "--nets", "digits", "--precisions", "fp16", "int8", "--batches", "32", "128", "--rounds", "2"]
    return [*_benchmark("gpu_engines.py")(place), *own]


# In the order of what is to be known first; what the kernels do wrongly would spoil all behind it.
PARTS: tuple[Part, ...] = (
    Part(
        "device",
        "the GPU, its state, and what is installed",
        120,
        lambda place: _python(ROOT / "tools/gpu_facts.py", place.output / "device.json"),
        is_check=False,
    ),
    Part("build", "the kernels, compiled here", 300, _build, _no_need_to_build, is_check=False),
    Part(
        "launches",
        "every tactic, layout, type and epilogue against float64, by a program that needs CUDA alone",
        60,
        lambda place: [str(place.build / LAUNCHES)],
        _without(LAUNCHES),
    ),
    Part(
        "kernels",
        "the same from Python: drawn cases, edges, large tensors, bad requests",
        240,
        _pytest("test_agreement.py", "test_errors.py"),
        _without(KERNELS),
        is_pytest=True,
    ),
    Part(
        "bits",
        "1,000 runs, batches, streams and CUDA graphs give the same bits",
        120,
        _pytest("test_repeatability.py"),
        _without(KERNELS),
        is_pytest=True,
    ),
    _sanitizer("memcheck", 120),
    _sanitizer("racecheck", 180),
    _sanitizer("initcheck", 120),
    _sanitizer("synccheck", 120),
    Part(
        "kernel-times",
        "the kernels beside a copy, torch eager and torch.compile",
        300,
        _kernels_benchmark,
        _without(KERNELS),
        rehearsal=_kernels_rehearsal,
    ),
    Part(
        "engines",
        "TensorRT engines with the plugin against float64",
        300,
        _pytest("test_tensorrt.py"),
        _without(*TENSORRT),
        is_pytest=True,
    ),
    Part(
        "build-and-run",
        "sn-deploy build, and engines run, checked and looked into as users do",
        300,
        _pytest("test_build_and_run.py"),
        _without(*TENSORRT),
        is_pytest=True,
    ),
    Part(
        "engine-times",
        "engines of the demo's net and ResNet-50 in every precision beside the same nets with batch norms, and torch",
        420,
        _engines_benchmark,
        _without(*TENSORRT),
        rehearsal=_engines_rehearsal,
    ),
    Part(
        "onnxruntime",
        "the custom-op library in ONNX Runtime's CUDA provider",
        120,
        _pytest("test_onnxruntime.py"),
        _without(ORT_CUDA),
        is_pytest=True,
    ),
    Part(
        "huge",
        "tensors of more than 2^31 elements",
        180,
        _pytest("test_sizes_past_int32.py"),
        _without(KERNELS),
        is_pytest=True,
    ),
)

"""The parts of tools/gpu_check.py: what each runs, what it needs, and how long it may take."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from tools.parts import ROOT, Part, Place, junit

KERNELS = "cuda/libsn_deploy_cuda.so"
TRIAL = "cuda/libsn_deploy_convolution.so"
LAUNCHES = "cuda/tests/check_launches"
HOST_KERNELS = "cuda/tests/libsn_deploy_cuda_host.so"
ORT_CUDA = "onnxruntime_cuda/libsn_deploy_ort_cuda.so"
TENSORRT = ("tensorrt/libsn_deploy_trt10.so", "tensorrt/libsn_deploy_trt11.so")
TRIAL_PLUGINS = ("tensorrt/libsn_deploy_convolution_trt10.so", "tensorrt/libsn_deploy_convolution_trt11.so")
HANGS_S = 100  # a test that takes longer is looked into
SANITIZER_FOUND = 9  # compute-sanitizer's exit code when it has something to report


def _python(*arguments: str | Path) -> list[str]:
    return [sys.executable, *map(str, arguments)]


def _pytest(*files: str, without: str = "") -> Callable[[Place], list[str]]:
    def command(place: Place) -> list[str]:
        paths = [str(ROOT / "tests/gpu" / file) for file in files]  # or one test in a file
        # Warnings of other versions than the project's CI has are no failures here.
        own = ["-q", "-rs", "--maxfail=30", "-W", "default", "-p", "no:cacheprovider", f"--junitxml={junit(place)}"]
        # Where one hangs, the log says in which line; and what took long.
        own += ["-o", f"faulthandler_timeout={HANGS_S}", "--durations=15"]
        own += ["-k", f"not {without}"] if without else []
        return _python("-m", "pytest", *paths, "-m", "gpu", *own)

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
        '&& cmake --build "$2" -j && cmake --build "$2" -j --target check_launches sn_deploy_convolution'
    )
    return ["bash", "-c", script, "bash", str(ROOT / "plugins"), str(place.build)]


def find_sanitizer() -> str | None:
    """compute-sanitizer: SN_COMPUTE_SANITIZER, on the PATH, or where toolkits put it."""
    named = os.environ.get("SN_COMPUTE_SANITIZER")
    places = [named, shutil.which("compute-sanitizer"), "/usr/local/cuda/bin/compute-sanitizer"]
    return next((place for place in places if place and Path(place).is_file()), None)


# Where the tool can't look into programs, on some virtual machines, that is no fault of the program. What it says goes
# on as it comes: who is ended because the time is up must have said how far it got.
_SANITIZED = """
trap '' TERM
exec 3>&1
said=$("$@" 2>&1 | while IFS= read -r line; do printf '%s\\n' "$line"; printf '%s\\n' "$line" >&3; done
  exit "${PIPESTATUS[0]}"); code=$?
case $said in *"Device not supported"* | *"terminated before first instrumented API call"*)
  echo "compute-sanitizer can't look into programs here"; exit 2;; esac
exit $code
"""


def _sanitizer(tool: str, limit_s: int) -> Part:
    def command(place: Place) -> list[str]:
        own = [find_sanitizer() or "compute-sanitizer", "--tool", tool, f"--error-exitcode={SANITIZER_FOUND}"]
        return ["bash", "-c", _SANITIZED, "bash", *own, str(place.build / LAUNCHES), "quick"]

    def missing(place: Place) -> str | None:
        if find_sanitizer() is None:
            return "compute-sanitizer was not found (nvidia-cuda-sanitizer-api; SN_COMPUTE_SANITIZER names it)"
        return _without(LAUNCHES)(place)

    return Part(tool, f"compute-sanitizer's {tool} over every tactic", limit_s, command, missing, least_s=60)


def _benchmark(script: str) -> Callable[[Place], list[str]]:
    def command(place: Place) -> list[str]:
        output = place.output / f"{Path(script).stem}.json"
        # Time to end by itself, with all that it has measured.
        budget = max(place.seconds - 45, 0.5 * place.seconds)
        return _python(ROOT / "benchmarks" / script, "--output", output, "--budget", f"{budget:.0f}")

    return command


def _kernels_benchmark(place: Place) -> list[str]:
    return [*_benchmark("gpu_kernels.py")(place), "--library", str(place.build / KERNELS)]


def _tactics_benchmark(place: Place) -> list[str]:
    output = place.output / "gpu_tactics.json"
    return _python(ROOT / "benchmarks/gpu_tactics.py", "--library", place.build / KERNELS, "--output", output)


def _expansions_benchmark(place: Place) -> list[str]:
    output = place.output / "gpu_expansions.json"
    trial = ["--trial", place.build / TRIAL] if (place.build / TRIAL).is_file() else []
    own = ["--library", place.build / KERNELS, *trial, "--output", output]
    return _python(ROOT / "benchmarks/gpu_expansions.py", *own)


def _engines_benchmark(*more: str) -> Callable[[Place], list[str]]:
    def command(place: Place) -> list[str]:
        # The nets' files may have been made ahead, where no GPU waits for them.
        prepared = place.prepared / "nets" if place.prepared is not None else None
        files = os.environ.get("SN_GPU_NETS") or prepared or place.output / "gpu-nets"
        own = ["--plugins", str(place.build / "tensorrt"), "--files", str(files)]
        return [*_benchmark("gpu_engines.py")(place), *own, "--timings", str(place.output / "timings"), *more]

    return command


def _fused_engines_benchmark(place: Place) -> list[str]:
    own = ["--nets", "resnet50 v1, fused convolutions", "--precisions", "fp16"]
    return [*_engines_benchmark(*own)(place), "--output", str(place.output / "gpu_fused_engines.json")]


def _kernels_rehearsal(place: Place) -> list[str]:
    library = place.build / HOST_KERNELS
    return [*_benchmark("gpu_kernels.py")(place), "--rehearse", "--no-compile", "--library", str(library)]


def _engines_rehearsal(*more: str) -> Callable[[Place], list[str]]:
    def command(place: Place) -> list[str]:
        own = ["--rehearse", "--nets", "digits", "--precisions", "fp16", "int8", "--batches", "32", "128"]
        return [*_engines_benchmark(*more)(place), *own, "--rounds", "2"]

    return command


def _tests(
    name: str, what: str, limit_s: int, least_s: int, needs: Sequence[str], *files: str, without: str = ""
) -> Part:
    command = _pytest(*files, without=without)
    return Part(name, what, limit_s, command, _without(*needs), is_pytest=True, least_s=least_s)


# In the order of what is to be known first. What the kernels do wrongly would spoil all behind it; then comes what the
# project promises in figures; then the rest. How long each takes on a GPU is a guess, but for what docs/guides/gpu.md
# says.
PARTS: tuple[Part, ...] = (
    Part(
        "device",
        "the GPU, its state, and what is installed",
        120,
        lambda place: _python(ROOT / "tools/gpu_facts.py", place.output / "device.json"),
        is_check=False,
    ),
    Part("build", "the kernels, compiled here", 300, _build, _no_need_to_build, is_check=False, least_s=90),
    Part(
        "launches",
        "every tactic, layout, type and epilogue against float64, by a program that needs CUDA alone",
        90,
        lambda place: [str(place.build / LAUNCHES)],
        _without(LAUNCHES),
    ),
    Part(
        "tactics",
        "what each tactic takes on each SN layer of ResNet-50 in fp16: what work on the kernels asks for first",
        150,
        _tactics_benchmark,
        _without(KERNELS),
        least_s=40,
    ),
    Part(
        "expansions",
        "an expanding 1 x 1 convolution and its SN layer in one kernel, a trial, beside both as they are",
        200,
        _expansions_benchmark,
        _without(KERNELS),
        least_s=60,
    ),
    _tests(
        "kernels",
        "the same as launches from Python: drawn cases, edges, large tensors, bad requests",
        240,
        60,
        [KERNELS],
        "test_agreement.py",
        "test_errors.py",
    ),
    _tests(
        "bits",
        "1,000 runs, batches, streams and CUDA graphs give the same bits",
        120,
        30,
        [KERNELS],
        "test_repeatability.py",
    ),
    Part(
        "goals",
        "what goals are set for: ResNet-50 and the demo's net in fp16, beside the same nets with batch norms",
        480,
        _engines_benchmark("--goals"),
        _without(*TENSORRT),
        rehearsal=_engines_rehearsal("--goals"),
        least_s=100,
    ),
    _tests(
        "first-engines",
        "TensorRT takes the plugin: one layer in each type and form, an engine each",
        150,
        45,
        TENSORRT,
        "test_tensorrt.py::test_one_layer",
    ),
    _tests(
        "engines",
        "TensorRT engines with the plugin against float64",
        400,
        120,
        TENSORRT,
        "test_tensorrt.py",
        without="test_one_layer",  # they were the first
    ),
    _tests(
        "build-and-run",
        "sn-deploy build, and engines run, checked and looked into as users do",
        480,
        240,
        TENSORRT,
        "test_build_and_run.py",
    ),
    Part(
        "fused-engines",
        "ResNet-50 in fp16 with expanding convolutions and their SN layers in one kernel, a trial, beside batch norms",
        480,
        _fused_engines_benchmark,
        _without(*TRIAL_PLUGINS),
        least_s=100,
    ),
    Part(
        "kernel-times",
        "the kernels beside a copy, torch eager and torch.compile",
        300,
        _kernels_benchmark,
        _without(KERNELS),
        rehearsal=_kernels_rehearsal,
        least_s=200,
    ),
    _sanitizer("memcheck", 120),
    _sanitizer("racecheck", 180),
    _sanitizer("initcheck", 120),
    _sanitizer("synccheck", 120),
    _tests(
        "onnxruntime",
        "the custom-op library in ONNX Runtime's CUDA provider",
        120,
        45,
        [ORT_CUDA],
        "test_onnxruntime.py",
    ),
    _tests("huge", "tensors of more than 2^31 elements", 180, 60, [KERNELS], "test_sizes_past_int32.py"),
    Part(
        "engine-times",
        "the same nets in every precision at every batch, static and dynamic, beside torch",
        480,
        _engines_benchmark(),
        _without(*TENSORRT),
        rehearsal=_engines_rehearsal(),
        least_s=100,
    ),
)

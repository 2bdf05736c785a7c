"""The parts of tools/soak.py: what each runs, what it needs, and how long it may take."""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Callable
from typing import Any

from tools.parts import Part, Place

Arguments = tuple[object, ...]

THREADS, ADDRESSES, FUZZERS = "native-threads", "native-tests", "native-fuzz"
KERNEL_THREADS = "tensorrt/threads"
# Of the short, the usual and the long form: seconds of a stress; runs of a fuzzer; seconds of one in C++, in Python.
STRESS_S = (10, 120, 300)
FUZZ_RUNS, FUZZ_S = (-1, 1_000_000, 1_000_000), (7, 3600, 3600)
PYTHON_FUZZ_S = (10, 300, 3600)


def of_form(place: Place, values: tuple[Any, Any, Any]) -> Any:
    """That of the form which is run."""
    return values[("short", "usual", "long").index(place.form)]


def module(
    name: str, short: Arguments, usual: Arguments, long: Arguments | None = None
) -> Callable[[Place], list[str]]:
    """``python -m tools.NAME`` with the arguments of each form; the long one is the usual one where it isn't given."""

    def command(place: Place) -> list[str]:
        return [sys.executable, "-m", f"tools.{name}", *map(str, of_form(place, (short, usual, long or usual)))]

    return command


def needs(folder: str, *files: str) -> Callable[[Place], str | None]:
    """What of a build folder is missing."""

    def missing(place: Place) -> str | None:
        absent = next((file for file in files if not (place.build / folder / file).is_file()), None)
        return None if absent is None else f"{folder}/{absent} is not in {place.build} (see the Makefile)"

    return missing


def _ctest(folder: str, short: str, usual: str = ".") -> Callable[[Place], list[str]]:
    """Those tests of a build folder whose names match, two at a time."""

    def command(place: Place) -> list[str]:
        own = ["ctest", "--test-dir", str(place.build / folder), "--output-on-failure", "--parallel", "2"]
        return [*own, "-R", of_form(place, (short, usual, usual))]

    return command


def _stress(name: str, folder: str, what: str) -> Part:
    def command(place: Place) -> list[str]:
        seconds = of_form(place, STRESS_S)
        return [sys.executable, "-m", "tools.soak_stress", str(place.build / folder), str(seconds)]

    return Part(name, what, 1800, command, needs(folder, "onnxruntime/tests/stress_onnxruntime"))


def _fuzzer(name: str, program: str, what: str) -> Part:
    def command(place: Place) -> list[str]:
        own = [place.build / FUZZERS / program, place.output / "corpus" / name]
        limits = [of_form(place, FUZZ_RUNS), of_form(place, FUZZ_S)]
        return [sys.executable, "-m", "tools.soak_fuzz", *map(str, [*own, *limits])]

    return Part(name, what, FUZZ_S[-1] + 300, command, needs(FUZZERS, program))


def _python_fuzzer(name: str, of: str, what: str) -> Part:
    def command(place: Place) -> list[str]:
        limits = (str(of_form(place, FUZZ_RUNS)), str(of_form(place, PYTHON_FUZZ_S)))
        return [sys.executable, "-m", "tools.soak_fuzz", of, str(place.output / "corpus" / name), *limits]

    def missing(place: Place) -> str | None:
        return None if importlib.util.find_spec("atheris") else "atheris isn't installed (`make soak` brings it)"

    return Part(name, what, PYTHON_FUZZ_S[-1] + 600, command, missing)


def _creators(place: Place) -> list[str]:
    # The folder that the environment names, before the run of a part sets its own.
    count = of_form(place, (60, 1000, 1000))
    return [sys.executable, "-m", "tools.soak_creators", os.environ.get("SN_PLUGIN_BUILD", ""), str(count)]


def _no_tensorrt(place: Place) -> str | None:
    names = ("TENSORRT_TEST_ROOT", "SN_PLUGIN_BUILD")
    return next((f"{name} is not set (`make soak` sets it)" for name in names if not os.environ.get(name)), None)


PARTS: tuple[Part, ...] = (
    Part(
        "thread-tests",
        "the C++ tests under ThreadSanitizer",
        900,
        _ctest(THREADS, "Thread|Order|Wave|Registration"),
        needs(THREADS, "tests/test_cpu"),
    ),
    Part(
        "kernel-threads",
        "the CUDA kernels on the host, a thread for each of a GPU's, under ThreadSanitizer",
        1800,
        _ctest(KERNEL_THREADS, r"^cuda\.", r"^cuda\."),  # the folder's other tests aren't built
        needs(KERNEL_THREADS, "cuda/tests/test_cuda"),
    ),
    _stress("threads", THREADS, "8 threads, several sessions, mixed shapes in ONNX Runtime under ThreadSanitizer"),
    _stress("addresses", ADDRESSES, "the same under AddressSanitizer and UndefinedBehaviorSanitizer"),
    _fuzzer("fuzz-node", "onnxruntime/tests/fuzz_node", "the custom op's attributes, types and shapes, by libFuzzer"),
    _fuzzer("fuzz-plugin-10", "tensorrt/tests/fuzz_plugin10", "the plugin's fields and methods, TensorRT 10's headers"),
    _fuzzer("fuzz-plugin-11", "tensorrt/tests/fuzz_plugin11", "the same with TensorRT 11's"),
    Part(
        "damaged-files",
        "damaged ONNX files through fuse: refused with a reason, within 30 s and 6 GiB",
        3600,
        lambda place: [
            *(sys.executable, "-X", "faulthandler", "-m", "tests.fuse.mutations", "0"),
            str(of_form(place, (200, 1500, 10_000))),
        ],
    ),
    Part(
        "documents",
        "damaged checkpoints, samples, parts, sidecars, configs and models through the commands that read them",
        7200,
        module("soak_documents", (300,), (10_000,), (1_000_000, 0, "--seconds", 3600)),
    ),
    Part(
        "inference",
        "graphs drawn of ONNX's operators through shape inference: the process lives",
        7200,
        module("soak_inference", (200, 0, "--risky", 20), (20_000, 0, "--risky", 500), (200_000, 0, "--risky", 4000)),
    ),
    _python_fuzzer("fuzz-fuse", "tools.fuzz_fuse", "damaged ONNX models through fuse, guided by coverage (atheris)"),
    _python_fuzzer(
        "fuzz-checkpoints",
        "tools.fuzz_checkpoints",
        "damaged and hostile checkpoints and samples through their readers, guided by coverage (atheris)",
    ),
    Part(
        "kills",
        "export, fuse, specialise, calibrate and serve, killed while they work: the old file or the whole new one",
        3600,
        module("soak_kills", (10,), (200,)),
    ),
    Part(
        "agreement",
        "drawn cases of every CPU backend against float64",
        5400,
        module("soak_agreement", (500,), (10_000,)),
    ),
    Part(
        "repeats",
        "runs of each backend with the same bits, whatever the threads and the batch",
        900,
        module("soak_inferences", ("repeats", 100), ("repeats", 1000)),
    ),
    Part(
        "inferences",
        "changing shapes in 8 sessions at once: results and memory",
        1800,
        module("soak_inferences", ("inferences", 4000), ("inferences", 100_000)),
    ),
    Part(
        "sessions",
        "sessions made, run and closed: memory",
        900,
        module("soak_inferences", ("sessions", 100), ("sessions", 1000)),
    ),
    Part(
        "creators",
        "the plugin in TensorRT's real registry, made and destroyed: memory",
        1200,
        _creators,
        _no_tensorrt,
    ),
)

"""The parts of tools/soak.py: what each runs, what it needs, and how long it may take."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable

from tools.parts import Part, Place

THREADS, ADDRESSES, FUZZERS = "native-threads", "native-tests", "native-fuzz"
# Seconds of a stress, and of a fuzzer; their numbers of cases.
SHORT_S, LONG_S = 10, 300
FUZZ_SHORT_S, FUZZ_LONG_RUNS, FUZZ_LONG_S = 7, 1_000_000, 3600


def module(name: str, short: tuple[object, ...], long: tuple[object, ...]) -> Callable[[Place], list[str]]:
    """``python -m tools.NAME`` with the arguments of the short or the long form."""
    return lambda place: [sys.executable, "-m", f"tools.{name}", *map(str, short if place.short else long)]


def needs(folder: str, *files: str) -> Callable[[Place], str | None]:
    """What of a build folder is missing."""

    def missing(place: Place) -> str | None:
        absent = next((file for file in files if not (place.build / folder / file).is_file()), None)
        return None if absent is None else f"{folder}/{absent} is not in {place.build} (see the Makefile)"

    return missing


def _ctest(folder: str, short: str) -> Callable[[Place], list[str]]:
    """All tests of a build folder; in the short form those whose names match."""

    def command(place: Place) -> list[str]:
        own = ["ctest", "--test-dir", str(place.build / folder), "--output-on-failure"]
        return [*own, "-R", short] if place.short else own

    return command


def _stress(name: str, folder: str, what: str) -> Part:
    def command(place: Place) -> list[str]:
        seconds = SHORT_S if place.short else LONG_S
        return [sys.executable, "-m", "tools.soak_stress", str(place.build / folder), str(seconds)]

    return Part(name, what, 1800, command, needs(folder, "onnxruntime/tests/stress_onnxruntime"))


def _fuzzer(name: str, program: str, what: str) -> Part:
    def command(place: Place) -> list[str]:
        limits = ("-1", FUZZ_SHORT_S) if place.short else (FUZZ_LONG_RUNS, FUZZ_LONG_S)
        own = [place.build / FUZZERS / program, place.output / "corpus" / name, *limits]
        return [sys.executable, "-m", "tools.soak_fuzz", *map(str, own)]

    return Part(name, what, FUZZ_LONG_S + 300, command, needs(FUZZERS, program))


def _creators(place: Place) -> list[str]:
    # The folder that the environment names, before the run of a part sets its own.
    count = 60 if place.short else 1000
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
            str(200 if place.short else 10_000),
        ],
    ),
    Part(
        "documents",
        "damaged checkpoints, samples, parts and sidecars through the commands that read them",
        3600,
        module("soak_documents", (300,), (30_000,)),
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

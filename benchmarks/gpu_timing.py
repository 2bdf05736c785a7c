"""Times on a GPU, taken in turns; and on the host, so that a benchmark can be rehearsed where no GPU is."""

from __future__ import annotations

import contextlib
import os
import random
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final, Protocol

import numpy as np
import torch

from sn_deploy.check.machine import machine_facts
from sn_deploy.errors import SnDeployError

Work = Callable[[], object]
Timed = Callable[[], float]  # does the work once, and gives its time in µs
Make = Callable[[], Timed]  # prepares what is timed; may fail alone

# A millisecond: long enough for two events and a graph of some thousand kernels, as torch eager's are, to be queued
# behind it, so that no launch shows in what is timed.
_HEAD_START_CYCLES = 2_000_000
UNFINISHED = 3  # the exit code of a benchmark whose time was up
# Of a capture: the first runs of a library allocate, and choose kernels.
_WARM_RUNS = 3


class Clock(Protocol):
    """Where work runs, and how it is timed."""

    device: str
    launches: int  # of a tactic in one measurement
    rounds: int  # of measurements of tactics
    patience_s: float  # with a tactic that doesn't end

    def graph(self, work: Work) -> Timed:
        """The work as one CUDA graph: what its kernels take, without the host."""

    def launched(self, work: Work) -> Timed:
        """The work launched piece by piece from Python, as a program does."""

    def facts(self) -> dict[str, Any]:
        """What the figures depend on."""


class GpuClock:
    """Between two events of the current device."""

    device = "cuda"
    launches = 8
    rounds = 3
    patience_s = 40.0

    def graph(self, work: Work) -> Timed:
        """See `Clock`."""
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(_WARM_RUNS):
                work()
        torch.cuda.synchronize()
        captured = torch.cuda.CUDAGraph()
        with torch.cuda.graph(captured):
            work()
        return self.replayed(captured.replay)

    def replayed(self, replay: Work) -> Timed:
        """A CUDA graph that is there already."""

        def timed() -> float:
            torch.cuda._sleep(_HEAD_START_CYCLES)
            return self._between_events(replay)

        return timed

    def launched(self, work: Work) -> Timed:
        """See `Clock`."""
        for _ in range(_WARM_RUNS):
            work()
        torch.cuda.synchronize()
        return lambda: self._between_events(work)

    def facts(self) -> dict[str, Any]:
        """See `Clock`."""
        properties = torch.cuda.get_device_properties(0)
        return {
            **machine_facts(),
            "gpu_name": properties.name,
            "compute_capability": f"{properties.major}.{properties.minor}",
            "multiprocessors": properties.multi_processor_count,
            "l2_bytes": properties.L2_cache_size,
            "state_at_start": gpu_state(),
            "torch": torch.__version__,
            "cuda_of_torch": torch.version.cuda,
        }

    @staticmethod
    def _between_events(work: Work) -> float:
        first, last = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        first.record()
        work()
        last.record()
        last.synchronize()
        return first.elapsed_time(last) * 1e3


class RehearsalClock:
    """The host's clock around work on the host. Its times mean nothing."""

    device = "cpu"
    launches = 1  # the host is slow
    rounds = 1
    patience_s = 600.0

    def graph(self, work: Work) -> Timed:
        """See `Clock`."""
        return self.launched(work)

    def launched(self, work: Work) -> Timed:
        """See `Clock`."""
        work()

        def timed() -> float:
            start = time.perf_counter()
            work()
            return (time.perf_counter() - start) * 1e6

        return timed

    def facts(self) -> dict[str, Any]:
        """See `Clock`."""
        return {**machine_facts(), "l2_bytes": 0, "torch": torch.__version__}


def gpu_state() -> dict[str, str]:
    """The first GPU's clocks, power and temperature now; empty where nvidia-smi doesn't tell."""
    names = ("clocks.sm", "clocks.max.sm", "clocks.mem", "power.draw", "power.limit", "temperature.gpu")
    command = ["nvidia-smi", "--id=0", f"--query-gpu={','.join(names)}", "--format=csv,noheader"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    except (OSError, subprocess.SubprocessError):
        return {}
    return dict(zip(names, (cell.strip() for cell in done.stdout.split(",")), strict=False))


def in_turns(timed: Mapping[str, Timed], rounds: int, warmup: int = 3) -> dict[str, np.ndarray]:
    """Name -> times in µs, one a round. Each round runs everything once, in a new random order."""
    order, shuffle = list(timed), random.Random(0)
    times: dict[str, list[float]] = {name: [] for name in timed}
    for index in range(warmup + rounds):
        shuffle.shuffle(order)
        for name in order:
            microseconds = timed[name]()
            if index >= warmup:
                times[name].append(microseconds)
    return {name: np.array(values) for name, values in times.items()}


def summary(times_us: Mapping[str, np.ndarray]) -> dict[str, dict[str, float]]:
    """Name -> median and spread, in µs."""
    return {
        name: {
            "median_us": round(float(np.median(values)), 3),
            "p10_us": round(float(np.percentile(values, 10)), 3),
            "p90_us": round(float(np.percentile(values, 90)), 3),
        }
        for name, values in times_us.items()
    }


def reason_of(error: BaseException) -> str:
    """Why something was left out, in a line."""
    text = str(error).strip() or type(error).__name__
    return text.splitlines()[0][:300]


@contextlib.contextmanager
def ended_if_it_hangs(name: str, patience_s: float) -> Iterator[None]:
    """Ends the process, exit code 1, and says in what, if what is within it takes longer.

    A kernel that never ends can't be waited for, and whoever ends the process from outside doesn't know which it was.
    """

    def end() -> None:
        print(f"{name}: still running after {patience_s:g} s: ended", flush=True)
        os._exit(1)

    timer = threading.Timer(patience_s, end)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


# What a step of a measurement may fail with, and the rest goes on: CUDA (out of memory), compilers, other libraries.
FAILURES: Final = (SnDeployError, RuntimeError, ImportError, OSError, ValueError, TypeError, AttributeError, KeyError)


def all_made(makers: Mapping[str, Make]) -> tuple[dict[str, Timed], dict[str, str]]:
    """What can be timed, and why the rest can't."""
    timed: dict[str, Timed] = {}
    left_out: dict[str, str] = {}
    for name, make in makers.items():
        try:
            timed[name] = make()
        except FAILURES as error:
            left_out[name] = reason_of(error)
    return timed, left_out

"""Long runs of the CPU backends in one process: bits, results and memory.

    python -m tools.soak_inferences inferences 100000 [--sessions 8]
    python -m tools.soak_inferences sessions 1000
    python -m tools.soak_inferences repeats 1000

``inferences``: so many calls with changing shapes, from as many threads as sessions, native operator and functions in
turns; each result has to have the bits of that input's first one, which is held against float64. ``sessions``: so many
times a session is made, run and closed. Both: resident memory, after the first third of the run, may grow by 1 %.
``repeats``: so many runs of each backend give the same bits; so do other numbers of threads, and, where the sample is
alone, other batches.

Exit code 0: all held. 1: something didn't. 2: wrong call, or no custom-op library.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import re
import sys
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import onnx

from sn_deploy.graph.op import OP_TYPES
from sn_deploy.runtime.ort import OrtSession
from tests.cases import Case, make_case
from tests.fused_forms import Array, fused_roundings, inputs_of
from tests.native.library import library_path
from tests.native.models import operator_model
from tests.optimise.test_operator import blocked_model, blocks_of, plain_of
from tests.single_node import single_node_model

CHANNELS = 20
WEIGHTS = (0.5, 0.3, 0.2)
MOST_GROWTH = 0.01
SHAPES = [(n, CHANNELS, h, w) for n, h, w in [(1, 7, 7), (2, 14, 13), (3, 1, 9), (4, 28, 28), (1, 56, 55), (8, 5, 5)]]


class SoakError(Exception):
    """What didn't hold."""


def resident_kib() -> int:
    """Resident memory now, with what the allocator only keeps given back."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    found = re.search(r"^VmRSS:\s+(\d+) kB", Path("/proc/self/status").read_text(), re.M)
    assert found is not None
    return int(found.group(1))


class Memory:
    """The most resident memory in the part of a run that settles, from a tenth to a third of it, and after that."""

    def __init__(self) -> None:
        self.settled = self.most = 0

    def look(self, share: float) -> None:
        """Takes a look, at that share of the run."""
        if share < 0.1:
            return
        now = resident_kib()
        if share <= 1 / 3:
            self.settled = max(self.settled, now)
        self.most = max(self.most, now)

    def checked(self) -> str:
        """In words; fails where it grew."""
        growth = self.most / self.settled - 1
        text = f"memory {self.settled / 1024:.1f} MiB, at most {growth:+.2%} of it later"
        if growth > MOST_GROWTH:
            raise SoakError(text)
        return text


def case_of(shape: tuple[int, ...]) -> Case:
    """The same layer for every shape; X differs."""
    layer = make_case(SHAPES[0], "float32", mean_weights=WEIGHTS, var_weights=WEIGHTS, ddof=1, seed=5).folded
    x = make_case(shape, "float32", mean_weights=WEIGHTS, var_weights=WEIGHTS, ddof=1, seed=sum(shape), mean=3.0).x
    return Case(layer, x)


CASES = [case_of(shape) for shape in SHAPES]


class Backend:
    """One way to run an operator, with a session for any shape."""

    def __init__(self, op: str, kind: str, threads: int) -> None:
        self.op, self.block = op, {"blocks of 8": 8, "blocks of 16": 16}.get(kind)
        folded, free = CASES[0].folded, [None, CHANNELS, None, None]
        library: str | None = library_path()
        if kind == "function":
            model: onnx.ModelProto = single_node_model(folded, free, "float32", op_type=op)
            library = None
        elif self.block is None:
            model = operator_model(op, folded, free, "float32")
        else:
            model = blocked_model(op, CASES[0], self.block)
        self.session = OrtSession(
            model.SerializeToString(), threads=threads, native=False, custom_op_library=library, spinning=False
        )
        self.inputs = [self.given(case) for case in CASES]

    def given(self, case: Case) -> dict[str, Array]:
        """The inputs of a case, on blocks where the operator is."""
        plain = inputs_of(self.op, case)
        return {n: blocks_of(a, self.block, 0.0) for n, a in plain.items()} if self.block else plain

    def run(self, inputs: dict[str, Array]) -> Array:
        """Y as it comes."""
        return self.session.run(inputs)["Y"]

    def plain(self, y: Array) -> Array:
        """Y as (N, C, H, W)."""
        return plain_of(y, self.block)[:, :CHANNELS] if self.block else y


KINDS = ("native", "function", "blocks of 8", "blocks of 16")


def checked_first(backend: Backend) -> list[Array]:
    """The result of each input, held against float64."""
    found = [backend.run(inputs) for inputs in backend.inputs]
    for case, y in zip(CASES, found, strict=True):
        if not fused_roundings(backend.op, backend.plain(y), case) <= 1:
            raise SoakError(f"{backend.op} {case}: not within its bound")
    return found


def inferences(count: int, sessions: int) -> str:
    """See the top of the file."""
    backends = [Backend(OP_TYPES[i % 3], KINDS[i % 4], 1 + i % 3) for i in range(sessions)]
    firsts = [checked_first(backend) for backend in backends]
    memory, steps = Memory(), 30
    calls = -(-count // (steps * sessions))
    wrong = threading.Event()

    def work(index: int, step: int) -> None:
        for which in np.random.default_rng([step, index]).integers(0, len(CASES), calls):
            y = backends[index].run(backends[index].inputs[which])
            if not np.array_equal(y, firsts[index][which]):
                wrong.set()

    with ThreadPoolExecutor(sessions) as pool:
        for step in range(steps):
            list(pool.map(work, range(sessions), [step] * sessions))
            memory.look((step + 1) / steps)
    if wrong.is_set():
        raise SoakError("a result had other bits than the first time")
    return f"{calls * steps * sessions} inferences in {sessions} sessions at once, no wrong result; {memory.checked()}"


def sessions_made(count: int) -> str:
    """See the top of the file."""
    memory = Memory()
    first: dict[int, Array] = {}
    for i in range(count):
        backend = Backend(OP_TYPES[i % 3], KINDS[i % 4], 1 + i % 2)
        y = backend.run(backend.inputs[1])
        backend.session.close()
        if not np.array_equal(first.setdefault(i % 12, y), y):
            raise SoakError("a result had other bits than the first time")
        if (i + 1) % max(1, count // 40) == 0:
            memory.look((i + 1) / count)
    return f"{count} sessions made, run and closed; {memory.checked()}"


def repeats(count: int) -> str:
    """See the top of the file."""
    told = []
    for kind in KINDS:
        backends = {threads: Backend("SwitchNormAddRelu", kind, threads) for threads in (1, 2, 3)}
        firsts = checked_first(backends[1])
        for i in range(count):
            which, threads = i % len(CASES), 1 + i % 3
            if backends[threads].run(backends[threads].inputs[which]).tobytes() != firsts[which].tobytes():
                raise SoakError(f"{kind}: run {i} with {threads} threads had other bits")
        worst = alone(backends[1], firsts)
        told.append(f"{kind}: alone and in its batch {'the same bits' if worst == 0 else f'within {worst:.1e}'}")
        if worst > 0 and kind != "function":
            raise SoakError(told[-1])
    return f"{count} runs of each backend with 1, 2 and 3 threads: the same bits; {'; '.join(told)}"


def alone(backend: Backend, firsts: Sequence[Array]) -> float:
    """The largest difference of a sample's result alone from that in its batch."""
    worst = 0.0
    for inputs, whole in zip(backend.inputs, firsts, strict=True):
        for n in range(len(whole)):
            y = backend.run({name: np.ascontiguousarray(array[n : n + 1]) for name, array in inputs.items()})
            worst = max(worst, float(np.abs(y - whole[n : n + 1]).max()))
    return worst


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["inferences", "sessions", "repeats"])
    parser.add_argument("count", type=int)
    parser.add_argument("--sessions", type=int, default=8, help="at once, of inferences")
    options = parser.parse_args(arguments)
    if options.count < 1 or options.sessions < 1:
        parser.error("COUNT and --sessions must be 1 or more")
    if library_path() is None:
        print("no custom-op library", file=sys.stderr)
        return 2
    work: dict[str, Callable[[], str]] = {
        "inferences": lambda: inferences(options.count, options.sessions),
        "sessions": lambda: sessions_made(options.count),
        "repeats": lambda: repeats(options.count),
    }
    try:
        print(work[options.what]())
    except SoakError as failure:
        print(f"error: {failure}")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())

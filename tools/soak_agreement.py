"""Drawn cases of every CPU backend against the float64 oracle, with the worst of each and what it leaves of its bound.

    python -m tools.soak_agreement CASES [--backend NAME …] [--seed SEED]

Rank 2 to 5, odd and tiny extents, every type, plain and fused operators, weights down to one-hot, and means up to
10,000 deviations. The margin is the bound (tests/tolerances.py) over the error; where it is below 1 the backend is
wrong. In half precision it can't be much above 1: the bound is hardly more than what storing Y in that type costs at
worst, which some element of many always meets. Exit code 0: no backend is wrong. 1: one is. 2: wrong call, or no
custom-op library.
"""

from __future__ import annotations

import argparse
import random
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import onnx
import onnx.inliner

from sn_deploy.graph.op import OP_TYPES
from sn_deploy.runtime.ort import OrtSession
from tests.cases import DTYPES, Case, make_case
from tests.fused_forms import Array, exact_and_bound, inputs_of, roundings_of
from tests.native.library import library_path
from tests.native.models import operator_model, run
from tests.optimise.test_operator import blocked_model, blocks_of, plain_of
from tests.single_node import single_node_model

MOST_RATIO = 1e4  # |mean| / deviation


def draw(random_: random.Random, *, blocked: bool) -> tuple[str, Case]:
    """One operator and case."""
    rank = 4 if blocked else random_.choice([2, 3, 4, 4, 5])
    channels = random_.choice([random_.randint(1, 9), random_.randint(1, 70)])
    extents = {
        2: lambda: (),
        3: lambda: (random_.choice([random_.randint(1, 9), random_.randint(1, 600)]),),
        4: lambda: (random_.randint(1, 17), random_.randint(1, 17)),
        5: lambda: tuple(random_.randint(1, 5) for _ in range(3)),
    }[rank]()
    dtype = "float32" if blocked else random_.choice(list(DTYPES))
    deviation = random_.choice([1.0, 0.01, 30.0])
    # In half precision a mean of 10,000 deviations leaves no digit of them: X itself would be constant.
    most = {"float32": MOST_RATIO, "float16": 300, "bfloat16": 30}[dtype]
    ratio = random_.choice([0.0, 1.0, most, 10 ** random_.uniform(-1, np.log10(most))]) * random_.choice([-1, 1])
    count = channels if rank == 2 else int(np.prod(extents))
    case = make_case(
        (random_.randint(0, 4), channels, *extents),
        dtype,
        mean_weights=_weights(random_, rank),
        var_weights=_weights(random_, rank),
        ddof=random_.randint(0, 1) if count > 1 else 0,
        seed=random_.randrange(2**32),
        mean=float(np.clip(ratio * deviation, -30000, 30000)),
        deviation=deviation,
    )
    return random_.choice(list(OP_TYPES)), case


def _weights(random_: random.Random, rank: int) -> tuple[float, float, float]:
    masks = [mask for mask in range(1, 8) if rank > 2 or mask != 1]
    mask = random_.choice(masks)
    shares = [np.exp(random_.uniform(-6, 6)) if mask >> branch & 1 else 0.0 for branch in range(3)]
    shares[0] = 0.0 if rank == 2 else shares[0]
    total = sum(shares)
    return tuple(float(share / total) for share in shares)  # type: ignore[return-value]


def _session_run(model: onnx.ModelProto, op: str, case: Case) -> Array:
    with OrtSession(model.SerializeToString(), threads=1, native=False) as session:
        return session.run(inputs_of(op, case))["Y"]


def _function(op: str, case: Case) -> Array:
    return _session_run(single_node_model(case.folded, case.x.shape, case.dtype, op_type=op), op, case)


def _function_any_rank(op: str, case: Case) -> Array:
    shape = [None] * case.x.ndim
    return _session_run(single_node_model(case.folded, shape, case.dtype, op_type=op, ranks={2, 3, 4, 5}), op, case)


def _inlined(op: str, case: Case) -> Array:
    model = single_node_model(case.folded, case.x.shape, case.dtype, op_type=op)
    return _session_run(onnx.inliner.inline_local_functions(model), op, case)


def _native(op: str, case: Case) -> Array:
    model = operator_model(op, case.folded, [None] * case.x.ndim, case.dtype)
    return run(model, inputs_of(op, case), library_path(), threads=1 + case.x.shape[0] % 3)["Y"]


def _blocked(op: str, case: Case) -> Array:
    channels = case.x.shape[1]
    block = 8 if channels % 2 else 16
    given = {name: blocks_of(array, block, np.nan) for name, array in inputs_of(op, case).items()}
    model = blocked_model(op, case, block)
    return plain_of(run(model, given, library_path(), threads=1 + channels % 3)["Y"], block)[:, :channels]


@dataclass(frozen=True)
class Backend:
    """How a case is run, and what it needs: the library, tensors on blocks."""

    run: Callable[[str, Case], Array]
    native: bool = False
    blocked: bool = False


BACKENDS = {
    "function": Backend(_function),
    "function of any rank": Backend(_function_any_rank),
    "inlined function": Backend(_inlined),
    "native operator": Backend(_native, native=True),
    "native operator on blocks": Backend(_blocked, native=True, blocked=True),
}


def worst_of(backend: Backend, cases: int, seed: int) -> dict[str, tuple[float, str]]:
    """For each type of X the largest error, in units of its bound, over drawn cases, and the case."""
    random_ = random.Random(seed)
    worst: dict[str, tuple[float, str]] = {}
    for _ in range(cases):
        op, case = draw(random_, blocked=backend.blocked)
        error = roundings_of(backend.run(op, case), case, *exact_and_bound(op, case))
        if error > worst.get(case.dtype, (0.0, ""))[0]:
            worst[case.dtype] = error, f"{op} {case}"
    return worst


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cases", type=int, help="of each backend")
    parser.add_argument("--backend", nargs="+", choices=BACKENDS, default=list(BACKENDS))
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    if options.cases < 1:
        parser.error(f"{options.cases} cases; expected 1 or more")
    margins = []
    for name in options.backend:
        if BACKENDS[name].native and library_path() is None:
            print(f"{name}: no custom-op library", file=sys.stderr)
            return 2
        worst = worst_of(BACKENDS[name], options.cases, options.seed)
        for dtype, (error, where) in worst.items():
            print(f"{name}, {dtype}: worst margin {1 / error:.2f} in {options.cases} cases, at {where}", flush=True)
        if any(not error <= 1 for error, _ in worst.values()):
            return 1
        margins.append(f"{name} {' / '.join(f'{1 / worst[dtype][0]:.2f}' for dtype in DTYPES if dtype in worst)}")
    print(f"{options.cases} cases each; worst margins ({' / '.join(DTYPES)}): {', '.join(margins)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())

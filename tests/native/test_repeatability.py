"""The custom op's bits depend on the sample alone: not on threads, batch, memory or what runs beside it."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from sn_deploy.runtime.ort import OrtSession
from tests.cases import DTYPES, Case, make_case
from tests.fused_forms import Array, inputs_of
from tests.native.models import chain_model, operator_model, run

SHAPES = [(5, 64, 14, 14), (4, 300, 7, 7), (3, 2, 170, 171), (6, 40)]


def case_of(shape: tuple[int, ...], dtype: str = "float32") -> Case:
    weights = (0.5, 0.3, 0.2) if len(shape) > 2 else (0.0, 0.6, 0.4)
    return make_case(shape, dtype, mean_weights=weights, var_weights=weights, ddof=1, seed=8, mean=1.0)


def bits(array: Array) -> bytes:
    return np.ascontiguousarray(array).tobytes()


def outputs(case: Case, library: str, threads: int) -> bytes:
    model = operator_model("SwitchNormAddRelu", case.folded, [None] * case.x.ndim, case.dtype)
    return bits(run(model, inputs_of("SwitchNormAddRelu", case), library, threads)["Y"])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_any_number_of_threads(library: str, shape: tuple[int, ...], dtype: str) -> None:
    case = case_of(shape, dtype)
    alone = outputs(case, library, 1)
    assert outputs(case, library, 2) == alone
    assert outputs(case, library, 3) == alone


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_any_batch(library: str, shape: tuple[int, ...]) -> None:
    case = case_of(shape)
    model = operator_model("SwitchNorm", case.folded, [None] * len(shape), "float32")
    with OrtSession(model.SerializeToString(), threads=2, custom_op_library=library) as session:
        whole = session.run({"X": case.x})["Y"]
        for n in range(shape[0]):
            assert bits(session.run({"X": case.x[n : n + 1]})["Y"]) == bits(whole[n : n + 1])


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_in_place_is_what_it_is_elsewhere(library: str, shape: tuple[int, ...]) -> None:
    case = case_of(shape)
    names = ["batch", *shape[1:]]
    kept = run(chain_model(case.folded, names, keep=True), {"X": case.x}, library)
    reused = run(chain_model(case.folded, names, keep=False), {"X": case.x}, library)
    assert bits(reused["C"]) == bits(kept["C"])
    # What is still needed is not written over.
    assert bits(kept["A"]) == bits(case.x + np.float32(1))
    one = run(operator_model("SwitchNorm", case.folded, shape, "float32"), {"X": kept["A"]}, library)["Y"]
    assert bits(one) == bits(kept["B"])


def test_runs_at_the_same_time(library: str) -> None:
    case = case_of((4, 64, 14, 14))
    model = operator_model("SwitchNorm", case.folded, [None] * 4, "float32")
    with OrtSession(model.SerializeToString(), threads=2, custom_op_library=library) as session:
        alone = [bits(session.run({"X": case.x[n:]})["Y"]) for n in range(4)]
        with ThreadPoolExecutor(4) as pool:
            together = list(pool.map(lambda i: bits(session.run({"X": case.x[i % 4 :]})["Y"]), range(60)))
    assert together == [alone[i % 4] for i in range(60)]


def test_the_library_stays_when_its_last_session_ends(library: str) -> None:
    # Unloaded, it would lose what it made once for all sessions, and make it again: a leak with each time.
    case = case_of((1, 4, 3, 3))
    run(operator_model("SwitchNorm", case.folded, [None] * 4, "float32"), {"X": case.x}, library)
    assert str(Path(library).resolve()) in Path("/proc/self/maps").read_text()

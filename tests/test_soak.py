"""tools/soak.py's parts in little: what they measure, and that each finds a planted fault."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.cases import Case
from tests.fused_forms import Array
from tests.native.library import library_path, why_no_library
from tools import soak, soak_agreement, soak_inferences, soak_stress
from tools.parts import Part, Place, Result, State, last_line
from tools.soak_agreement import BACKENDS, Backend, worst_of
from tools.soak_inferences import Memory, SoakError
from tools.soak_parts import PARTS

REPORT = """WARNING: ThreadSanitizer: data race (pid=1)
  Write of size 8 at 0x7b080017e740 by thread T58:
    #0 operator delete(void*, unsigned long) ../../tsan_new_delete.cpp:150 (libtsan.so.2+0x86c3d)
    #1 {writer} (lib{one}.so.1+0x13d8241)
    #2 spread switch_norm.cpp:227 (libsn_deploy_ort.so+0x7eae)

  Previous read of size 8 at 0x7b080017e740 by thread T63 (mutexes: read M1461):
{reader}

  Thread T58 (tid=2, running) created by main thread at:
    #0 pthread_create tsan_interceptors_posix.cpp:1001 (libtsan.so.2+0x5e686)
    #1 main stress.cpp:302 (stress_onnxruntime+0x892e)
"""
LOST = "    [failed to restore the stack]"
OURS = "    #0 layer kernels.inc:184 (libsn_deploy_ort.so+0x13)\n    #1 <null> <null> (libonnxruntime.so.1.32.0+0x4)"
THEIRS = "    #0 <null> <null> (libonnxruntime.so.1.32.0+0x4)\n    #1 layer kernels.inc:184 (libsn_deploy_ort.so+0x13)"


@pytest.mark.parametrize(
    ("writer", "reader", "ours"),
    [
        ("onnxruntime", THEIRS, False),
        ("onnxruntime", LOST, False),
        ("onnxruntime", OURS, True),
        ("sn_deploy_ort", THEIRS, True),
        ("sn_deploy_ort", LOST, True),
        ("c", OURS, True),
    ],
)
def test_a_report_is_laid_to_whoever_made_the_access(writer: str, reader: str, ours: bool) -> None:
    report = REPORT.format(writer="f", one=writer, reader=reader)
    assert soak_stress.reports_of(f"==================\n{report}==================\nnothing\n") == [report]
    assert soak_stress.is_ours(report) == ours


def test_the_loaders_own_memory_is_its_own() -> None:
    report = """WARNING: ThreadSanitizer: data race (pid=3884)
  Write of size 8 at 0x7b8c00494800 by thread T20:
    #0 free ../../../../src/libsanitizer/tsan/tsan_interceptors_posix.cpp:706 (libtsan.so.2+0x47e82)
    #1 free ../include/rtld-malloc.h:50 (ld-linux-x86-64.so.2+0x11785)
    #2 __GI__dl_deallocate_tls ../elf/dl-tls.c:682 (ld-linux-x86-64.so.2+0x11785)

  Previous write of size 8 at 0x7b8c00494800 by thread T2:
    #0 malloc ../../../../src/libsanitizer/tsan/tsan_interceptors_posix.cpp:647 (libtsan.so.2+0x3ebb8)
    #1 malloc ../include/rtld-malloc.h:56 (ld-linux-x86-64.so.2+0x10d35)
    #2 tls_get_addr_tail ../elf/dl-tls.c:961 (ld-linux-x86-64.so.2+0x10d35)

  Thread T2 (tid=5837, finished) created by thread T72 at:
    #0 pthread_create ../../../../src/libsanitizer/tsan/tsan_interceptors_posix.cpp:1001 (libtsan.so.2+0x5e686)
    #1 <null> <null> (libonnxruntime.so.1.32.0+0x1411168)
    #2 work /plugins/onnxruntime/tests/stress.cpp:264 (stress_onnxruntime+0x4418)
"""
    assert not soak_stress.is_ours(report)
    assert soak_stress.is_ours(
        report.replace("tls_get_addr_tail ../elf/dl-tls.c:961 (ld-linux", "f (libsn_deploy_ort.so").replace(
            "rtld-malloc.h:56 (ld-linux-x86-64.so.2", "x.h:1 (libc.so.6"
        )
    )


def test_a_report_that_cant_be_read_is_ours() -> None:
    assert soak_stress.is_ours("WARNING: ThreadSanitizer: something new (pid=1)\n")


@pytest.mark.parametrize("name", BACKENDS)
def test_500_drawn_cases_of_each_backend(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    if BACKENDS[name].native and library_path() is None:
        pytest.skip(why_no_library())
    assert soak_agreement.main(["500", "--backend", name, "--seed", "1"]) == 0
    assert "worst margin" in capsys.readouterr().out


def test_a_backend_that_is_wrong_is_found(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    right = BACKENDS["function"].run

    def wrong(op: str, case: Case) -> Array:
        y = right(op, case)
        return y if y.size < 1000 else np.asarray(y * np.asarray(1.0 + 2**-6, y.dtype), y.dtype)

    assert worst_of(Backend(wrong), 20, 0) != worst_of(BACKENDS["function"], 20, 0)
    monkeypatch.setitem(BACKENDS, "function", Backend(wrong))
    assert soak_agreement.main(["20", "--backend", "function"]) == 1
    assert "worst margin 0." in capsys.readouterr().out


@pytest.mark.parametrize(
    ("what", "count"), [("repeats", "24"), ("inferences", "160"), ("sessions", "24")], ids=lambda value: str(value)
)
def test_the_long_runs_in_little(
    what: str, count: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    if library_path() is None:
        pytest.skip(why_no_library())
    # So short a run hasn't settled, and this process has others' memory to give back.
    monkeypatch.setattr(soak_inferences, "MOST_GROWTH", 1.0)
    assert soak_inferences.main([what, count]) == 0, capsys.readouterr().out


def test_memory_that_grows_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    def looked(grows: Callable[[int], float]) -> Memory:
        memory = Memory()
        for step in range(1, 51):
            monkeypatch.setattr(soak_inferences, "resident_kib", lambda step=step: int(100_000 * grows(step)))
            memory.look(step / 50)
        return memory

    assert "+0.50%" in looked(lambda step: 1.005 if step == 40 else 1.0).checked()
    with pytest.raises(SoakError, match=r"\+1\.6"):
        looked(lambda step: 1.0 + step * 0.0005).checked()


def test_a_result_of_other_bits_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    if library_path() is None:
        pytest.skip(why_no_library())
    right = soak_inferences.Backend.run
    calls: list[int] = []

    def wrong(self: soak_inferences.Backend, inputs: dict[str, Array]) -> Array:
        calls.append(1)
        y = right(self, inputs)
        return y if len(calls) != 100 else np.nextafter(y, np.float32(9))

    monkeypatch.setattr(soak_inferences.Backend, "run", wrong)
    for what in (lambda: soak_inferences.inferences(400, 2), lambda: soak_inferences.repeats(100)):
        calls.clear()
        with pytest.raises(SoakError, match="other bits"):
            what()


def test_parts_are_taken_and_gone_on_with(tmp_path: Path) -> None:
    def part(name: str, program: str) -> Part:
        return Part(name, "", 60, lambda _: [sys.executable, "-c", program])

    parts = [part("good", "print('so and so many')"), part("bad", "raise SystemExit(1)")]
    state = State(tmp_path / soak.RESULTS)
    soak.take_all(parts, Place(tmp_path, tmp_path), state, time.monotonic() + 100)
    assert State(tmp_path / soak.RESULTS).results["good"].reason == "so and so many"
    assert soak.exit_code(parts, state) == 1
    state.record(parts[1], Result("left out"))
    assert soak.exit_code(parts, state) == 0
    assert soak.exit_code(parts[1:], state) == 2


def test_the_plan_names_every_part(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    for form in ([], ["--short"], ["--long"]):
        assert soak.main([str(tmp_path / "never"), "--dry-run", *form]) == 0
        said = capsys.readouterr().out
        assert all(f"\n{part.name} " in f"\n{said}" for part in PARTS)
    assert not (tmp_path / "never").exists()
    assert soak.main([str(tmp_path / "none"), "--build", str(tmp_path), "--only", "threads"]) == 2
    assert "is not in" in capsys.readouterr().out


def test_of_ctest_the_tally_is_told_and_not_the_time() -> None:
    said = "100% tests passed, 0 tests failed out of 169\n\nTotal Test time (real) =  86.61 sec\n"
    assert last_line(said) == "100% tests passed, 0 tests failed out of 169"
    assert last_line("\n") == "it said nothing"

"""tools/gpu_check.py without a GPU: what it plans, how it runs parts, and that it survives whatever they do."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from tools import gpu_check
from tools.gpu_check import RESULTS, collect, exit_code, take_all, to_do
from tools.gpu_parts import PARTS
from tools.parts import ROOT, Part, Place, Result, State, junit

FORMS = ("plugin", "floor")


def python_part(name: str, program: str, limit_s: int = 60, **more: object) -> Part:
    return Part(name, f"the part {name}", limit_s, lambda _: [sys.executable, "-c", program], **more)  # type: ignore[arg-type]


FACTS = python_part("device", "print('a GPU')", is_check=False)


@pytest.fixture
def place(tmp_path: Path) -> Place:
    (tmp_path / "output").mkdir()
    return Place(tmp_path / "output", tmp_path / "build")


def taken(place: Place, *parts: Part, budget: float = 100) -> tuple[dict[str, Result], int]:
    """What comes of the parts, from the file that it leaves."""
    take_all(parts, place, State(place.output / RESULTS), time.monotonic() + budget)
    state = State(place.output / RESULTS)
    return state.results, exit_code(parts, state)


def test_parts_pass_fail_and_are_left_out(place: Place) -> None:
    results, code = taken(
        place,
        FACTS,
        python_part("good", "print('seen'); print('12 launches')"),
        python_part("bad", "print('wrong'); raise SystemExit(1)"),
        python_part("absent", "import sys; print('no such thing', file=sys.stderr); sys.exit(2)"),
        python_part("needy", "", missing=lambda _: "nothing to do it with"),
        Part("unknown", "", 60, lambda _: ["/no/such/program"]),
    )
    assert results["good"].status == "passed"
    assert results["good"].reason == "12 launches"
    assert (results["bad"].status, results["bad"].reason) == ("failed", "exit code 1: wrong")
    assert (results["absent"].status, results["absent"].reason) == ("left out", "no such thing")
    assert (results["needy"].status, results["needy"].reason) == ("left out", "nothing to do it with")
    assert results["unknown"].status == "failed"
    assert code == 1
    assert "12 launches" in (place.output / "log.txt").read_text()


def test_what_is_unfinished_goes_on(place: Place) -> None:
    mark = place.output / "mark"
    program = f"import pathlib, sys; p = pathlib.Path({str(mark)!r}); sys.exit(0 if p.exists() else (p.touch(), 3)[1])"
    part = python_part("long", program)
    results, code = taken(place, FACTS, part)
    assert (results["long"].status, code) == ("unfinished", 0)
    results, code = taken(place, FACTS, part)
    assert (results["long"].status, code) == ("passed", 0)


def test_all_figures_come_into_one_file(place: Place) -> None:
    (place.output / "gpu_engines.json").write_text('{"nets": {"a": 1}}')
    (place.output / "gpu_kernels.json").write_text("cut off {")
    State(place.output / RESULTS).record(python_part("one", ""), Result("passed", 1.5, "well"))
    found = json.loads(collect(place.output).read_text())
    assert found["gpu_engines"] == {"nets": {"a": 1}}
    assert found["gpu_check"]["parts"]["one"]["status"] == "passed"
    assert set(found) == {"gpu_check", "gpu_engines"}


def test_a_rehearsal_runs_what_the_host_can(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert gpu_check.main([str(tmp_path / "never"), "--rehearse", "--dry-run"]) == 0
    said = capsys.readouterr().out
    assert said.count("--rehearse") == 3
    assert "would run" in said
    assert "kernel-times" in said
    assert "memcheck" not in said


def test_a_part_that_hangs_is_ended_with_all_that_it_started(place: Place) -> None:
    child = "import subprocess, sys, time; subprocess.run([sys.executable, '-c', 'import time; time.sleep(600)'])"
    start = time.monotonic()
    results, code = taken(place, FACTS, python_part("hangs", child, limit_s=1), python_part("next", "print('on')"))
    assert time.monotonic() - start < 30
    assert results["hangs"].status == "timed out"
    assert results["next"].status == "passed"
    assert code == 1


def test_a_second_call_goes_on(place: Place) -> None:
    once = place.output / "once"
    part = python_part("counted", f"open({str(once)!r}, 'a').write('x')")
    late = python_part("late", "print('done')", missing=lambda _: None)
    results, code = taken(place, FACTS, part, late, budget=0)
    assert results["late"].reason == "the budget is spent: call again to go on"
    assert code == 2
    for _ in range(2):
        results, code = taken(place, FACTS, part, late)
        assert (results["late"].status, code) == ("passed", 0)
    assert once.read_text() == "x"


def test_what_the_budget_ends_is_no_failure_and_goes_on(place: Place) -> None:
    sleeps = python_part("sleeps", "import time; time.sleep(60)", limit_s=100, least_s=0)
    facts = replace(FACTS, least_s=0)
    results, code = taken(place, facts, sleeps, python_part("next", "print('on')"), budget=1.5)
    assert results["sleeps"].status == "unfinished"
    assert results["sleeps"].reason.startswith("the time for all parts was up ")
    assert results["next"].reason == "the budget is spent: call again to go on"
    assert code == 0
    state = State(place.output / RESULTS)
    assert to_do([FACTS, sleeps, python_part("next", "")], state) == ["sleeps", "next"]
    results, code = taken(place, FACTS, python_part("sleeps", "print('short')"), python_part("next", "print('on')"))
    assert (results["sleeps"].status, results["next"].status, code) == ("passed", "passed", 0)


def test_what_is_likely_to_take_longer_than_is_left_is_not_begun(place: Place) -> None:
    results, code = taken(place, FACTS, python_part("long", "", limit_s=300, least_s=200), python_part("short", ""))
    assert results["long"].reason == "the budget is spent: call again to go on"
    assert (results["short"].status, code) == ("passed", 0)


def test_what_failed_before_comes_last(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    parts = [FACTS, python_part("bad", "raise SystemExit(1)"), python_part("good", "print('on')")]
    taken(place, *parts[:2])
    capsys.readouterr()
    assert taken(place, *parts)[1] == 1
    said = capsys.readouterr().out
    assert said.index("good ") < said.index("bad ")


def test_preparing(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    build = tmp_path / "build"
    (build / "cuda").mkdir(parents=True)
    (build / "cuda/libsn_deploy_cuda.so").write_bytes(b"a library")
    folder = tmp_path / "prepared"
    assert gpu_check.main(["--prepare", str(folder), "--build", str(build), "--nets", "digits"]) == 0
    said = capfd.readouterr().out
    assert f"not there: {build / 'tensorrt/libsn_deploy_trt11.so'}" in said
    assert said.rstrip().endswith(" MB")
    assert (folder / "build/cuda/libsn_deploy_cuda.so").read_bytes() == b"a library"
    assert (folder / "site/polygraphy/__init__.py").is_file()
    nets = {path.name for path in (folder / "nets").iterdir()}
    forms = {f"digits.{form}.{precision}.onnx" for form in FORMS for precision in ("fp32", "fp16", "bf16", "int8")}
    assert nets == {*forms, "digits.samples.npy"}
    assert np.load(folder / "nets/digits.samples.npy").shape == (1000, 1, 8, 8)
    # What was prepared is what a run takes.
    assert gpu_check.main([str(tmp_path / "never"), "--prepared", str(folder), "--dry-run"]) == 0
    said = capfd.readouterr().out
    assert f"--files {folder / 'nets'}" in said
    assert f"--library {folder / 'build/cuda/libsn_deploy_cuda.so'}" in said
    assert f"libsn_deploy_trt11.so is not in {folder / 'build'}" in said
    before = (folder / "nets/digits.plugin.fp16.onnx").stat().st_mtime_ns
    assert gpu_check.main(["--prepare", str(folder), "--nets", "digits"]) == 0
    assert (folder / "nets/digits.plugin.fp16.onnx").stat().st_mtime_ns == before


def test_a_run_that_was_ended_is_taken_up(place: Place) -> None:
    part = python_part("ended", "print('whole')")
    State(place.output / RESULTS).record(part, Result("running"))
    assert taken(place, FACTS, part)[0]["ended"].status == "passed"


def test_without_a_gpu_nothing_else_is_tried(place: Place) -> None:
    facts = python_part("device", "import sys; print('no GPU: none', file=sys.stderr); sys.exit(2)", is_check=False)
    results, code = taken(place, facts, python_part("check", "raise SystemExit(1)"))
    assert (results["check"].status, results["check"].reason) == ("left out", "no GPU: none")
    assert code == 2


def pytest_part(place: Place, body: str, limit_s: int = 60) -> Part:
    test = place.output / "test_it.py"
    test.write_text(body)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(test), f"--junitxml={junit(place)}"]
    return Part("tests", "", limit_s, lambda _: command, is_pytest=True)


@pytest.mark.parametrize(
    ("program", "status", "reason"),
    [
        ("echo '12 launches'", "passed", "12 launches"),
        ("echo 'Race reported'; echo '1 hazard'; exit 9", "failed", "exit code 9: 1 hazard"),
        ("echo 'Device not supported'; exit 1", "left out", "compute-sanitizer can't look into programs here"),
        ("echo '3 launches'; sleep 3", "timed out", "after 1 s; 3 launches"),
    ],
)
def test_what_a_sanitizer_says(
    place: Place, monkeypatch: pytest.MonkeyPatch, program: str, status: str, reason: str
) -> None:
    tool = place.output / "sanitizer"
    tool.write_text(f"#!/bin/sh\n{program}\n")
    tool.chmod(0o755)
    monkeypatch.setenv("SN_COMPUTE_SANITIZER", str(tool))
    launches = place.build / "cuda/tests/check_launches"
    launches.parent.mkdir(parents=True)
    launches.touch()
    part = next(part for part in PARTS if part.name == "racecheck")
    part = replace(part, least_s=0, limit_s=1 if status == "timed out" else 30)
    results, _ = taken(place, FACTS, part)
    assert (results["racecheck"].status, results["racecheck"].reason) == (status, reason)
    assert program.split("'")[1] in (place.output / "log.txt").read_text()


@pytest.mark.parametrize(
    ("limit_s", "budget", "status", "reason"),
    [(6, 100, "timed out", "after 6 s; "), (60, 7, "unfinished", "the time for all parts was up ")],
)
def test_what_pytest_has_found_until_its_time_is_up(
    place: Place, limit_s: int, budget: float, status: str, reason: str
) -> None:
    body = "import time\ndef test_a(): pass\ndef test_b(): assert False, 'so'\ndef test_c(): time.sleep(60)"
    facts = replace(FACTS, least_s=0)
    part = replace(pytest_part(place, body, limit_s), least_s=0)
    usual = signal.signal(signal.SIGINT, signal.SIG_IGN)  # as in the background of a shell
    try:
        results, _ = taken(place, facts, part, budget=budget)
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, usual)
    assert results["tests"].status == status
    assert results["tests"].reason.startswith(reason)
    assert "1 passed, 1 failed, 0 skipped" in results["tests"].reason
    assert "AssertionError: so" in (place.output / "log.txt").read_text()
    assert not junit(place).exists()


@pytest.mark.parametrize(
    ("body", "status", "reason"),
    [
        ("def test_a(): pass\ndef test_b(): pass", "passed", "2 passed, 0 failed, 0 skipped"),
        ("def test_a(): pass\ndef test_b(): assert False", "failed", "1 passed, 1 failed, 0 skipped"),
        (
            "import pytest\ndef test_a(): pytest.skip('no wings')",
            "left out",
            "0 passed, 0 failed, 1 skipped (no wings)",
        ),
        ("import os\ndef test_a(): os._exit(3)", "failed", ""),
        ("import nothing_of_that_name", "failed", "0 passed, 1 failed, 0 skipped"),
    ],
)
def test_what_pytest_says(place: Place, body: str, status: str, reason: str) -> None:
    results, _ = taken(place, FACTS, pytest_part(place, body))
    assert results["tests"].status == status
    assert results["tests"].reason.startswith(reason)
    assert not junit(place).exists()


def test_the_plan_names_every_part(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert gpu_check.main([str(tmp_path / "never"), "--dry-run"]) == 0
    said = capsys.readouterr().out
    assert all(f"\n{part.name} " in f"\n{said}" for part in PARTS)
    assert not (tmp_path / "never").exists()


def test_every_file_that_a_part_runs_is_there(place: Place) -> None:
    for part in PARTS:
        for word in part.command(place):
            if word.startswith(str(ROOT)) and not word.startswith(str(place.output)):
                assert Path(word.partition("::")[0]).exists(), word


def test_wrong_calls(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    for arguments in (["--only", "nonsense"], ["--budget", "0"], ["--budget", "soon"], ["--prepared", "nowhere"]):
        with pytest.raises(SystemExit, match="2"):
            gpu_check.main([str(tmp_path / "output"), *arguments])
    for arguments in ([], [str(tmp_path / "output"), "--prepare", str(tmp_path / "prepared")]):
        with pytest.raises(SystemExit, match="2"):
            gpu_check.main(arguments)
    (tmp_path / "file").touch()
    assert gpu_check.main([str(tmp_path / "file")]) == 2
    (tmp_path / "gpu_check.json").write_text("{}")
    assert gpu_check.main([str(tmp_path)]) == 2
    assert "error: " in capsys.readouterr().err


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_the_whole_of_it_where_no_gpu_is(tmp_path: Path) -> None:
    command = [sys.executable, str(ROOT / "tools/gpu_check.py"), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 2, done.stdout + done.stderr
    results = json.loads((tmp_path / "gpu_check.json").read_text())["parts"]
    assert {result["status"] for result in results.values()} == {"left out"}
    assert all(result["reason"].startswith("no GPU: ") for result in results.values())

"""A probe may do anything: crash, hang, exit, print. The doctor gets an answer each time."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from sn_deploy.doctor.isolate import MARKER, Outcome, run_probe


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], str]:
    """Makes a module with that source which can be imported, and returns its name."""
    monkeypatch.syspath_prepend(str(tmp_path))

    def make(source: str) -> str:
        (tmp_path / "patient.py").write_text(source)
        return "patient"

    return make


@pytest.mark.parametrize(
    ("source", "error"),
    [
        ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", "crashes when it is loaded (SIGSEGV)"),
        ("import os; os.abort()", "crashes when it is loaded (SIGABRT)"),
        (
            "import os, sys; sys.stderr.write('no licence\\n'); sys.stderr.flush(); os._exit(3)",
            "ends the process when it is loaded (exit 3: no licence)",
        ),
        ("import sys; sys.exit(4)", "SystemExit: 4"),
        (
            "raise ImportError('libx.so.1: cannot open\\n shared object')",
            "ImportError: libx.so.1: cannot open shared object",
        ),
        ("import nowhere_to_be_found", "needs the module nowhere_to_be_found, which is missing"),
        ("import sys; sys.stdout.write('no marker'); raise KeyError('x')", "KeyError: 'x'"),
        ("raise KeyboardInterrupt", "KeyboardInterrupt: "),
        ("def", "SyntaxError: invalid syntax (patient.py, line 1)"),
    ],
)
def test_a_broken_module_is_described(module: Callable[[str], str], source: str, error: str) -> None:
    assert run_probe("module", module(source)) == Outcome({}, error=error)


def test_a_module_that_hangs_is_given_up(module: Callable[[str], str]) -> None:
    outcome = run_probe("module", module("import time; time.sleep(600)"), timeout_s=1)
    assert outcome.error == "gave no answer in 1 s"


def test_a_missing_module_is_missing_and_not_broken() -> None:
    assert run_probe("module", "nowhere_to_be_found") == Outcome({}, missing=True)


@pytest.mark.parametrize(
    "noise",
    [
        "print('hello')",
        "import sys; sys.stdout.buffer.write(b'\\xff\\xfe no newline')",
        "import atexit, os; atexit.register(os.abort)",
        "import threading, time; threading.Thread(target=time.sleep, args=(600,)).start()",
        f"print({MARKER!r}[:-1])",
    ],
)
def test_noise_and_a_bad_end_dont_matter(module: Callable[[str], str], noise: str) -> None:
    outcome = run_probe("module", module(f"__version__ = '1.2.3'\n{noise}\n"), timeout_s=30)
    assert outcome == Outcome({"version": "1.2.3"})
    assert outcome.usable


def test_the_version_may_be_in_the_metadata_alone() -> None:
    assert run_probe("module", "click").found["version"].count(".") >= 1


def test_a_library_that_is_none_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "lib.so").write_bytes(b"junk")
    outcome = run_probe("library", str(tmp_path / "lib.so"), "symbol")
    assert not outcome.usable
    assert outcome.error.startswith("OSError: ")


def test_the_probes_know_the_real_libraries() -> None:
    ort = run_probe("onnxruntime")
    assert ort.error == ""
    assert "CPUExecutionProvider" in ort.found["providers"]
    torch = run_probe("torch")
    assert torch.error == ""
    assert set(torch.found) == {"version", "cuda", "devices", "reason"}

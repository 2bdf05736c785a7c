"""A function in a process of its own: what it says comes back, however it ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from sn_deploy import child
from sn_deploy.errors import SnDeployError
from sn_deploy.python_words import naming_arguments


def say(*words: str) -> None:
    """Answers with its arguments and its input."""
    sys.stdout.buffer.write("|".join(words).encode() + b"|" + sys.stdin.buffer.read())


def die(number: str) -> None:
    """Ends by a signal."""
    sys.stderr.write("first\nlast \udc80\n")
    sys.stderr.flush()
    os.kill(os.getpid(), int(number))


def complain() -> None:
    """Prints the error of a public function."""
    try:
        with naming_arguments():
            raise SnDeployError("too many", mend="give --threads 1")
    except SnDeployError as error:
        sys.stdout.write(str(error))


def hang() -> None:
    """Doesn't come back."""
    time.sleep(600)


def test_what_it_says_comes_back() -> None:
    ended = child.call(f"{__name__}:say", "a b", "", "é", content=b"\x00\xff")
    assert ended == child.Ended(0, "a b||é|".encode() + b"\x00\xff", b"")
    assert (ended.how, ended.last_words) == ("exit code 0", "")


def test_its_errors_name_options() -> None:
    """As the texts here do, until they reach who called."""
    assert child.call(f"{__name__}:complain").stdout == b"too many; give --threads 1"


def test_a_path_in_the_search_path_that_is_no_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [tmp_path, *sys.path])  # as many a program does, in vain
    assert child.call(f"{__name__}:say", "a").returncode == 0


def test_it_sees_the_modules_that_this_process_sees(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "only_here.py").write_text("def f(): raise SystemExit(3)")
    assert child.call("only_here:f").how == "exit code 1"
    monkeypatch.syspath_prepend(str(tmp_path))
    assert child.call("only_here:f").how == "exit code 3"


@pytest.mark.parametrize(
    ("number", "how"),
    [(signal.SIGABRT, "SIGABRT"), (signal.SIGSEGV, "SIGSEGV"), (signal.SIGRTMIN + 1, f"signal {signal.SIGRTMIN + 1}")],
)
def test_how_it_ended(number: int, how: str) -> None:
    ended = child.call(f"{__name__}:die", str(int(number)))
    assert (ended.returncode, ended.how) == (-number, how)
    assert ended.last_words.startswith("last")


def test_it_is_given_up_where_it_hangs() -> None:
    with pytest.raises(subprocess.TimeoutExpired):
        child.call(f"{__name__}:hang", timeout_s=1)


@pytest.mark.parametrize("program", ["", "/nowhere/python"])
def test_where_no_process_can_be_started(program: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", program)
    with pytest.raises(OSError, match=r".+"):
        child.call(f"{__name__}:say")

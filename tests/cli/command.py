"""`sn-deploy`, run within the test's own process."""

from __future__ import annotations

from pathlib import Path

import pytest

from sn_deploy.cli import main


def exit_code(*arguments: str | Path) -> int:
    """Of ``sn-deploy ARGUMENTS``."""
    try:
        main([str(argument) for argument in arguments])
    except SystemExit as stopped:
        return int(stopped.code or 0)
    return 0


def run(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> tuple[int, str, str]:
    """The exit code, and what was printed to the standard output and to the standard error."""
    code = exit_code(*arguments)
    printed = capsys.readouterr()
    return code, printed.out, printed.err


def run_folded(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> tuple[int, str, str]:
    """The same with one space for each run of spaces and ends of lines, wherever the terminal broke them."""
    code, out, err = run(capsys, *arguments)
    return code, " ".join(out.split()), " ".join(err.split())

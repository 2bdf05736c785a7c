"""The command line's frame: exit codes, one-line errors, and no heavy imports where none are needed."""

from __future__ import annotations

import subprocess
import sys

import click
import pytest

import sn_deploy
from sn_deploy import cli
from sn_deploy.errors import CheckFailedError, SnDeployError


def code_of(*arguments: str) -> int:
    try:
        cli.main(list(arguments))
    except SystemExit as exit_:
        return int(exit_.code or 0)
    return 0


def raising(error: BaseException) -> click.Command:
    """A command that raises ``error``."""

    def callback() -> None:
        raise error

    return click.Command("planted", callback=callback)


@pytest.mark.parametrize(
    ("error", "code", "text"),
    [
        (
            SnDeployError("is [2, 3]", where="X", expected="a file", mend="do this"),
            2,
            "error: X: is [2, 3] (expected a",
        ),
        (CheckFailedError("differs"), 1, "error: differs"),
        (KeyboardInterrupt(), 130, "interrupted"),
        (click.UsageError("no such option"), 2, "no such option"),
    ],
)
def test_errors_are_one_line_with_their_code(
    error: BaseException, code: int, text: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(cli.cli, "get_command", lambda ctx, name: raising(error))
    assert code_of("planted") == code
    assert text in capsys.readouterr().err


@pytest.mark.parametrize(("error", "code"), [(SnDeployError("differs"), 2), (CheckFailedError("differs"), 1)])
def test_a_traceback_on_request(
    error: SnDeployError, code: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(cli.cli, "get_command", lambda ctx, name: raising(error))
    assert code_of("--traceback", "planted") == code
    said = capsys.readouterr().err
    assert "Traceback (most recent call last)" in said
    assert said.endswith("error: differs\n")


def test_a_fault_of_ours_is_no_failed_check(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(cli.cli, "get_command", lambda ctx, name: raising(ZeroDivisionError("oh")))
    monkeypatch.setattr(sys, "argv", ["sn-deploy", "planted"])
    with pytest.raises(SystemExit) as ended:
        cli.program()
    assert ended.value.code == 70
    said = capsys.readouterr().err
    assert "ZeroDivisionError: oh" in said
    assert said.endswith("error: sn-deploy itself is at fault; please report it, with the traceback above\n")


def test_an_exit_code_of_click_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    def callback() -> None:
        click.get_current_context().exit(3)

    monkeypatch.setattr(cli.cli, "get_command", lambda ctx, name: click.Command("planted", callback=callback))
    assert code_of("planted") == 3


def test_version_help_and_unknown_commands(capsys: pytest.CaptureFixture[str]) -> None:
    assert code_of("--version") == 0
    assert sn_deploy.__version__ in capsys.readouterr().out
    assert code_of("no-such-command") == 2
    assert "No such command" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("typed", "meant"), [("exprot", "export"), ("optimize", "optimise"), ("quantise", "quantize"), ("triton", "serve")]
)
def test_a_command_that_was_nearly_named_is_told(typed: str, meant: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert code_of(typed) == 2
    assert f"No such command '{typed}'. Did you mean '{meant}'?" in capsys.readouterr().err


def test_help_names_every_command_and_imports_nothing_heavy() -> None:
    code = (
        "import sys\n"
        "from sn_deploy.cli import main\n"
        "try:\n    main(['--help'])\n"
        "finally:\n    assert not {'torch', 'onnx', 'onnxruntime', 'tensorrt', 'matplotlib'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    for command in ("demo", "doctor", "export", "inspect"):
        assert f"\n  {command}" in done.stdout

"""What a stranger's file is called, or says, is printed and not obeyed by the terminal."""

from __future__ import annotations

import io
from pathlib import Path

import onnx
import pytest
from rich.table import Table
from rich.text import Text

from sn_deploy.console import Console, shown
from tests import switch_norm_file
from tests.cli.command import run

CLEAR = "\x1b[2J\x1b]0;title\x07\x1b[32mpassed\x1b[0m\r\x9b2J\u202e"


def printed(*what: object) -> str:
    console = Console(file=io.StringIO(), width=300, force_terminal=True, color_system=None, markup=False)
    console.print(*what)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_text_is_shown_and_own_styles_stay() -> None:
    table = Table(CLEAR)
    table.add_row(CLEAR)
    table.add_row(Text(CLEAR))
    for out in (printed(CLEAR), printed(Text(CLEAR)), printed(table)):
        assert not set(out) & set("\x1b\x07\r\x9b\u202e")
        assert r"\x1b[2J" in out
    console = Console(file=io.StringIO(), force_terminal=True, color_system="standard")
    console.print("red", style="red")
    assert isinstance(console.file, io.StringIO)
    assert console.file.getvalue().startswith("\x1b[31mred")


def test_usual_text_is_as_it_was() -> None:
    usual = "2×3 → µ “x”, naïve 模型\tand\nmore"
    assert shown(usual) == usual
    for name in ("mine:car:", "a:x:b", ":three:"):
        assert printed(name) == f"{name}\n"


def test_names_in_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    onnx.save(switch_norm_file.model([switch_norm_file.node(CLEAR, "x", "y", layer=CLEAR)]), "net.onnx")
    _, out, err = run(capsys, "inspect", "net.onnx")
    assert "\x1b[2J" not in out + err
    assert r"\x1b[2J" in out


def test_names_in_an_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = run(capsys, "inspect", tmp_path / f"{CLEAR}.onnx")
    assert code == 2
    assert "\x1b[2J" not in err
    assert r"\x1b[2J" in err

"""``sn-deploy report`` as a user calls it."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

import onnx
import pytest

from sn_deploy.cli import main
from tests.check.page import Page
from tests.check.small_net import small_net
from tests.cli.command import run


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a check wrote: JSON, page and script."""
    path = tmp_path_factory.mktemp("check")
    before = Path.cwd()
    os.chdir(path)
    try:
        onnx.save(small_net(), "net.onnx")
        main(["check", "net.onnx", "--limit", "4", "--calls", "3", "--json", "check.json", "--html", "report.html"])
    finally:
        os.chdir(before)
    return path


def test_the_report_is_made_anew_from_the_json(
    capsys: pytest.CaptureFixture[str], written: Path, tmp_path: Path
) -> None:
    page, script = tmp_path / "again.html", tmp_path / "again.reproduce.sh"
    code, out, err = run(capsys, "report", written / "check.json", "-o", page)
    assert (code, err) == (0, "")
    assert out == f"wrote {page} and {script}\n"
    # The very files that the check itself wrote.
    assert page.read_bytes() == (written / "report.html").read_bytes()
    assert script.read_bytes() == (written / "reproduce.sh").read_bytes()
    assert os.access(script, os.X_OK)
    assert "Latencies" in Page(page.read_text(encoding="utf-8")).tables


def test_by_default_it_stands_beside_the_json(
    capsys: pytest.CaptureFixture[str], written: Path, tmp_path: Path
) -> None:
    (tmp_path / "a.json").write_bytes((written / "check.json").read_bytes())
    assert run(capsys, "report", tmp_path / "a.json")[0] == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.html", "a.json", "a.reproduce.sh"]


def test_reports_in_one_folder_keep_a_script_each(
    capsys: pytest.CaptureFixture[str], written: Path, tmp_path: Path
) -> None:
    document = json.loads((written / "check.json").read_text(encoding="utf-8"))
    for name in ("a", "b", "report"):
        (tmp_path / f"{name}.json").write_text(json.dumps(document | {"command": f"sn-deploy check {name}.onnx"}))
        assert run(capsys, "report", tmp_path / f"{name}.json")[0] == 0
    scripts = {path.name: path.read_text(encoding="utf-8") for path in tmp_path.glob("*.sh")}
    assert sorted(scripts) == ["a.reproduce.sh", "b.reproduce.sh", "reproduce.sh"]
    assert "exec sn-deploy check a.onnx\n" in scripts["a.reproduce.sh"]
    assert "exec sn-deploy check b.onnx\n" in scripts["b.reproduce.sh"]
    assert "exec sn-deploy check report.onnx\n" in scripts["reproduce.sh"]


def test_a_failed_check_has_a_report_too(capsys: pytest.CaptureFixture[str], written: Path, tmp_path: Path) -> None:
    document = json.loads((written / "check.json").read_text(encoding="utf-8"))
    document["assertions"][0]["passed"] = False
    (tmp_path / "a.json").write_text(json.dumps(document), encoding="utf-8")
    assert run(capsys, "report", tmp_path / "a.json")[0] == 0
    assert "Failed" in Page((tmp_path / "a.html").read_text(encoding="utf-8")).text


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (None, "no such file"),
        (b"{", "is no JSON"),
        (b"\xff\xfe{}", "is no JSON"),
        (b"[" * 100_000, "JSON"),
        (b"[]", "is no result of a check"),
        ({"schema": 7}, "is of schema 7"),
        ({"samples": "many"}, 'samples is "many" (expected a whole number)'),
        ({"command": "rm -rf /"}, "the command calls 'rm' (expected sn-deploy …)"),
    ],
)
def test_bad_documents_are_one_line_and_leave_nothing(
    change: bytes | dict[str, object] | None,
    words: str,
    capsys: pytest.CaptureFixture[str],
    written: Path,
    tmp_path: Path,
) -> None:
    file = tmp_path / "a.json"
    if isinstance(change, bytes):
        file.write_bytes(change)
    elif change is not None:
        file.write_text(json.dumps(json.loads((written / "check.json").read_text(encoding="utf-8")) | change))
    code, out, err = run(capsys, "report", file)
    assert (code, out) == (2, "")
    assert words in err
    assert len(err.splitlines()) == 1
    assert [path for path in tmp_path.iterdir() if path != file] == []


def test_no_file_is_overwritten_by_mistake(capsys: pytest.CaptureFixture[str], written: Path, tmp_path: Path) -> None:
    file = tmp_path / "a.html"
    file.write_bytes((written / "check.json").read_bytes())
    for arguments in ([file], [file, "-o", file], [file, "-o", tmp_path / "reproduce.sh"]):
        code, _, err = run(capsys, "report", *arguments)
        assert code == 2
        assert "would be overwritten" in err or "is the name of a script beside a report" in err
    (tmp_path / "folder").mkdir()
    (tmp_path / "link.json").symlink_to("a.html")
    for document, page in ((file, tmp_path / "folder" / ".." / "a.html"), (tmp_path / "link.json", file)):
        code, _, err = run(capsys, "report", document, "-o", page)
        assert code == 2
        assert f"{document}: would be overwritten" in err
    assert file.read_bytes() == (written / "check.json").read_bytes()
    code, _, err = run(capsys, "report", file, "-o", tmp_path / "none" / "a.html")
    assert code == 2
    assert "folder doesn't exist" in err


def test_a_full_disk_is_told_with_the_name_that_was_given(written: Path, tmp_path: Path) -> None:
    (tmp_path / "a.html").write_text("old")
    # No file may be longer than 8 blocks of 512 or 1024 bytes: a script has room, a page has not.
    command = shlex.join([sys.executable, "-m", "sn_deploy", "report", str(written / "check.json"), "-o", "a.html"])
    done = subprocess.run(["sh", "-c", f"ulimit -f 8 && {command}"], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1] == "error: a.html: can't be written: File too large"
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("a.html", "old")]

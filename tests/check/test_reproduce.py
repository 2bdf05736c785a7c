"""``reproduce.sh`` is run: it repeats a real check, refuses other files and versions, and runs nothing else."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import onnx
import pytest

from sn_deploy.check.report.reproduce import quoted_command, requirements, script_from_document, write_reproduce
from sn_deploy.cli import main
from sn_deploy.errors import SnDeployError
from sn_deploy.hashing import sha256_of_file
from tests.check.small_net import small_net


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A check of a small net, with the script that it wrote."""
    path = tmp_path_factory.mktemp("check")
    before = Path.cwd()
    os.chdir(path)
    try:
        onnx.save(small_net(), "a net.onnx")
        main(["check", "a net.onnx", "--limit", "4", "--no-latency", "--json", "check.json"])
    finally:
        os.chdir(before)
    return path


def document_of(folder: Path) -> dict[str, Any]:
    document: dict[str, Any] = json.loads((folder / "check.json").read_text(encoding="utf-8"))
    return document


def run(folder: Path, *arguments: str, name: str = "reproduce.sh") -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHON": sys.executable}
    command = [str(folder / name), *arguments]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)


def test_the_check_is_repeated_with_what_it_was_made_with(folder: Path) -> None:
    write_reproduce(document_of(folder), folder / "reproduce.sh")
    before = (folder / "check.json").read_text(encoding="utf-8")
    result = run(folder)
    assert result.returncode == 0, result.stderr
    assert "passed: all" in result.stdout
    after = document_of(folder)
    assert after["parity"] == json.loads(before)["parity"]
    assert after["command"] == "sn-deploy check 'a net.onnx' --limit 4 --no-latency --json check.json"


def test_its_exit_code_is_the_checks(folder: Path) -> None:
    document = document_of(folder)
    document["command"] = "sn-deploy check 'a net.onnx' --limit 4 --no-latency --max-rel-l2 1e-30"
    write_reproduce(document, folder / "fails.sh")
    assert run(folder, name="fails.sh").returncode == 1
    # Parts may fail; what puts them together must be run all the same, and decides.
    write_reproduce(document, folder / "parts.sh", [document["command"], "sn-deploy --version"])
    assert run(folder, name="parts.sh").returncode == 0
    write_reproduce(document, folder / "wrong.sh", ["sn-deploy nothing", "sn-deploy --version"])
    assert run(folder, name="wrong.sh").returncode == 2


def test_another_file_stops_it(folder: Path) -> None:
    document = document_of(folder)
    write_reproduce(document, folder / "reproduce.sh")
    other = folder / "elsewhere"
    other.mkdir(exist_ok=True)
    (other / "reproduce.sh").write_bytes((folder / "reproduce.sh").read_bytes())
    (other / "reproduce.sh").chmod(0o755)
    onnx.save(small_net(size=16), other / "a net.onnx")
    result = run(other)
    assert result.returncode == 2
    assert "a net.onnx: FAILED" in result.stderr
    (other / "a net.onnx").unlink()
    assert "isn't here: run this in the folder in which the check was run" in run(other).stderr


def test_other_versions_stop_it_unless_they_are_wanted(folder: Path) -> None:
    document = document_of(folder) | {"command": "sn-deploy --version"}
    for info in document["backends"]:
        info["versions"] = {"onnxruntime": "1.0.1+local", "CUDA": "13.0", "openvino": "1; touch pwned"}
    assert requirements(document) == ["onnxruntime==1.0.1", f"sn-deploy=={document['version']}"]
    write_reproduce(document, folder / "versions.sh")
    result = run(folder, name="versions.sh")
    assert result.returncode == 2
    assert "onnxruntime==1.0.1 (found " in result.stderr
    assert f"{folder / 'versions.sh'} --any-version" in result.stderr
    assert run(folder, "--any-version", name="versions.sh").returncode == 0
    listed = run(folder, "--requirements", name="versions.sh")
    assert listed.stdout.split() == requirements(document)
    assert run(folder, "--help", name="versions.sh").returncode == 2


ODD_NAMES = [
    "$(touch pwned).onnx",
    "`touch pwned`.onnx",
    "a\\b\nEND_OF_HASHES\ntouch pwned",
    "'; touch pwned; '",
    "-c",
    "日本 \udce9",
]


def test_no_text_becomes_a_command(folder: Path, tmp_path: Path) -> None:
    document = document_of(folder)
    info = document["backends"][0]
    document["backends"] = []
    for name in ODD_NAMES:
        (tmp_path / name).write_text(f"content of {name!r}")
        document["backends"].append(info | {"file": name, "sha256": sha256_of_file(tmp_path / name)})
    document["data"] |= {"file": ODD_NAMES[0], "sha256": "0; touch pwned"}
    document["created"] = "now\ntouch pwned"
    document["command"] = "sn-deploy --version '; touch pwned' $(touch pwned) & touch pwned"
    write_reproduce(document, tmp_path / "reproduce.sh")
    result = run(tmp_path)
    assert not (tmp_path / "pwned").exists()
    # All files were found to be the same, and sn-deploy was called, with words that it may not like.
    assert "FAILED" not in result.stderr
    assert "isn't here" not in result.stderr
    (tmp_path / ODD_NAMES[2]).write_text("another")
    assert run(tmp_path).returncode == 2


@pytest.mark.parametrize(
    ("command", "quoted"),
    [
        ("sn-deploy check 'a b.onnx' --json \"c.json\"", "sn-deploy check 'a b.onnx' --json c.json"),
        ("python -m sn_deploy check a.onnx", '"$python" -m sn_deploy check a.onnx'),
        ("sn-deploy check a.onnx; rm -rf ~", "sn-deploy check 'a.onnx;' rm -rf '~'"),
        ("sn-deploy check $HOME/a.onnx", "sn-deploy check '$HOME/a.onnx'"),
    ],
)
def test_a_command_is_quoted_anew(command: str, quoted: str) -> None:
    assert quoted_command(command) == quoted


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("rm -rf /", "calls 'rm'"),
        ("", "calls 'nothing'"),
        ("sn-deploy check 'a", "can't be read: No closing quotation"),
        ("python -c 'import os'", "calls 'python'"),
        ("env sn-deploy check a.onnx", "calls 'env'"),
    ],
)
def test_what_is_no_call_of_sn_deploy_is_refused(command: str, words: str, folder: Path, tmp_path: Path) -> None:
    with pytest.raises(SnDeployError, match=words):
        write_reproduce(document_of(folder) | {"command": command}, tmp_path / "reproduce.sh")
    assert list(tmp_path.iterdir()) == []


def test_it_is_executable_and_no_more_open_than_other_files(folder: Path, tmp_path: Path) -> None:
    write_reproduce(document_of(folder), tmp_path / "reproduce.sh")
    (tmp_path / "other").touch()
    plain = (tmp_path / "other").stat().st_mode & 0o777
    assert (tmp_path / "reproduce.sh").stat().st_mode & 0o777 == plain | (plain & 0o444) >> 2
    assert script_from_document(document_of(folder)).startswith("#!/usr/bin/env bash\n")

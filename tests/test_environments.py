"""The command line where something that is usually there is missing: it works, or says in one line why it doesn't."""

from __future__ import annotations

import errno
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import onnx
import pytest

from sn_deploy.atomic import atomic_output
from sn_deploy.errors import SnDeployError
from tests import switch_norm_file

# Several command lines in one process, as a shell's script would call them one by one: imports take the most time.
DRIVER = """
import json, os, sys
from sn_deploy.cli import main
codes = []
for line in json.loads(sys.argv[1]):
    try:
        main([os.fsdecode(text.encode('utf-8', 'surrogateescape')) for text in line])
        codes.append(0)
    except SystemExit as stop:
        codes.append(stop.code)
print("codes:", json.dumps(codes), file=sys.stderr)
"""
NET = """
import torch
from torch import nn
from sn_deploy.nn import SwitchNorm2d


def net():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), SwitchNorm2d(4), nn.ReLU()).eval()
"""
NOT_UTF8 = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
NO_SHARED_MEMORY = "mount -t tmpfs -o ro,size=4k none /dev/shm"


@dataclass(frozen=True)
class Surroundings:
    """What is other than usual.

    Attributes:
        variables: of the environment; None takes one away.
        python: options of Python.
        mounts: what is done, as a shell's script, in a mount namespace of its own.
        network: whether there is one.
    """

    variables: Mapping[str, str | None] = field(default_factory=dict)
    python: Sequence[str] = ()
    mounts: str = ""
    network: bool = True


def unshare(surroundings: Surroundings) -> list[str]:
    """The beginning of a command line that runs the rest in namespaces of its own; skips where that isn't allowed."""
    flags = [*(["--mount"] if surroundings.mounts else []), *([] if surroundings.network else ["--net"])]
    if not flags:
        return []
    own = ["unshare", *flags, "--map-root-user"]
    if shutil.which("unshare") is None:
        pytest.skip("util-linux's unshare is not installed")
    script = f'{surroundings.mounts or "true"} && exec "$@"'
    tried = subprocess.run([*own, "sh", "-c", script, "sh", "true"], capture_output=True, text=True)
    if tried.returncode:
        pytest.skip(f"namespaces or mounts aren't permitted here: {tried.stderr.strip()[:100]}")
    return [*own, "sh", "-c", script, "sh"]


def run(lines: Sequence[Sequence[str]], surroundings: Surroundings) -> tuple[list[int], str]:
    """The exit codes of the command lines, and all that was printed."""
    variables = {**os.environ, "OMP_NUM_THREADS": "1", **surroundings.variables}
    done = subprocess.run(
        [*unshare(surroundings), sys.executable, *surroundings.python, "-c", DRIVER, json.dumps(lines)],
        env={name: value for name, value in variables.items() if value is not None},
        capture_output=True,
        timeout=300,
    )
    said = (done.stdout + done.stderr).decode("utf-8", "replace")
    assert "Traceback" not in said, said
    assert done.returncode == 0, said
    return json.loads(said.rpartition("codes: ")[2].splitlines()[0]), said


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """One with a space, and letters of two alphabets and none in its name, and a model in it."""
    made = tmp_path / "sp ace ü 图"
    made.mkdir()
    node = switch_norm_file.node("norm", "x", "y", layer="layers.0")
    padding = onnx.numpy_helper.from_array(np.zeros((16, 4, 8, 8), np.float32), "padding")  # more than a page
    model = switch_norm_file.model([node], initializers=[padding], output="z")
    model.graph.node.append(onnx.helper.make_node("Add", ["y", "padding"], ["z"]))
    onnx.save(model, made / "model.onnx")
    (made / "net.py").write_text(NET, encoding="utf-8")
    return made


def light_lines(folder: Path) -> list[list[str]]:
    """Without PyTorch."""
    model, fused = str(folder / "model.onnx"), str(folder / "fused.onnx")
    return [
        ["inspect", model, "--json", str(folder / "layers.json")],
        ["fuse", model, "-o", fused],
        ["inspect", model, "--picture", str(folder / "layers.svg")],
        ["inspect", fused, "--json", "-"],
    ]


def whole_lines(folder: Path) -> list[list[str]]:
    """From a PyTorch model to its proof."""
    model = str(folder / "exported.onnx")
    export = ["export", "--model", f"{folder / 'net.py'}:net", "--input", "1x3x8x8", "--dynamic", "batch", "-o", model]
    check = ["check", model, "--limit", "4", "--no-latency", "--json", str(folder / "check.json")]
    return [export, ["inspect", model], check]


ALONE = {
    "usual": Surroundings(),
    "optimised": Surroundings(python=["-O"]),
    "no-docstrings": Surroundings(python=["-OO"]),
    "no-home": Surroundings({"HOME": None, "XDG_CACHE_HOME": None}),
    "home-that-is-not-there": Surroundings({"HOME": "/nonexistent"}),
    "no-network": Surroundings(network=False),
    "no-shared-memory": Surroundings(mounts=NO_SHARED_MEMORY),
}
TOGETHER = Surroundings({"HOME": "/nonexistent"}, ["-O"], NO_SHARED_MEMORY, network=False)


@pytest.mark.parametrize("name", ["usual", "together"])
def test_files_are_read_and_written(name: str, folder: Path) -> None:
    lines = light_lines(folder)
    codes, said = run(lines, {**ALONE, "together": TOGETHER}[name])
    assert codes == [0] * len(lines), said
    assert json.loads((folder / "layers.json").read_text(encoding="utf-8"))
    assert onnx.load(folder / "fused.onnx").graph.node[0].op_type == "SwitchNorm"


@pytest.mark.slow
@pytest.mark.parametrize("name", [*ALONE, "together"])
def test_a_model_is_exported_and_checked(name: str, folder: Path) -> None:
    lines = whole_lines(folder)
    codes, said = run(lines, {**ALONE, "together": TOGETHER}[name])
    assert codes == [0] * len(lines), said
    assert json.loads((folder / "check.json").read_text(encoding="utf-8"))["passed"]


def test_a_locale_without_the_letters_of_a_name(folder: Path) -> None:
    plain = folder.parent / "model.onnx"
    shutil.copyfile(folder / "model.onnx", plain)
    codes, said = run([["inspect", str(plain)], ["inspect", str(folder / "model.onnx")]], Surroundings(NOT_UTF8))
    assert codes == [0, 2], said
    assert "SN2d Nx4x8x8" in said  # for N×4×8×8
    assert "\\xe5\\x9b\\xbe/model.onnx: is no text in this locale (ascii); set PYTHONUTF8=1" in said


def test_a_name_that_is_no_text_is_told_in_one_line(folder: Path) -> None:
    odd = os.fsdecode(os.fsencode(folder) + b"/\xff.onnx")
    shutil.copyfile(folder / "model.onnx", odd)
    codes, said = run([["check", odd, "--no-latency"], ["inspect", odd]], ALONE["usual"])
    assert codes == [2, 0], said
    assert "its path is no UTF-8" in said


# --- where nothing can be written ---------------------------------------------------------------------------------


def one_error(codes: list[int], said: str) -> str:
    assert codes == [2], said
    errors = [line for line in said.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1, said
    return errors[0]


def fuse_into(where: Path, mounts: str, folder: Path) -> str:
    line = ["fuse", str(folder / "model.onnx"), "-o", str(where / "out.onnx")]
    return one_error(*run([line], Surroundings(mounts=mounts)))


def test_a_read_only_folder(folder: Path) -> None:
    where = folder / "read only"
    where.mkdir()
    own = shlex.quote(str(where))
    message = fuse_into(where, f"mount --bind {own} {own} && mount -o remount,ro,bind {own}", folder)
    assert "can't be written: no permission in its folder" in message or "Read-only file system" in message


def test_a_full_disk(folder: Path) -> None:
    where = folder / "full"
    where.mkdir()
    (where / "out.onnx").write_text("old")
    own = shlex.quote(str(where))
    # One page: room for no model. The old file lies below the mount.
    message = fuse_into(where, f"mount -t tmpfs -o size=4k none {own}", folder)
    assert message.endswith("can't be written: No space left on device")
    assert [path.name for path in where.iterdir()] == ["out.onnx"]


def test_a_full_disk_leaves_the_old_file(tmp_path: Path) -> None:
    target = tmp_path / "model.onnx"
    target.write_text("old")

    def fill() -> None:
        with atomic_output(target) as temporary:
            temporary.write_text("half")
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with pytest.raises(SnDeployError, match=r"model\.onnx: can't be written: No space left on device"):
        fill()
    assert target.read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["model.onnx"]


# --- standard streams ---------------------------------------------------------------------------------------------


def shell(redirection: str, folder: Path, *line: str) -> tuple[int, str]:
    """A command line with a shell's redirection: its exit code, and what came on the error output."""
    command = shlex.join([sys.executable, "-m", "sn_deploy", *line])
    done = subprocess.run(["sh", "-c", f"{command} {redirection}"], capture_output=True, text=True, timeout=120)
    assert "Traceback" not in done.stderr, done.stderr
    assert "Exception ignored" not in done.stderr, done.stderr
    return done.returncode, done.stderr


def test_closed_streams_stay_out_of_the_files(folder: Path) -> None:
    code, said = shell("<&- >&- 2>&-", folder, "fuse", str(folder / "model.onnx"), "-o", str(folder / "fused.onnx"))
    assert (code, said) == (0, "")
    onnx.checker.check_model(onnx.load(folder / "fused.onnx"))


def test_a_standard_output_that_is_full(folder: Path) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("there is no /dev/full")
    code, said = shell(">/dev/full", folder, "inspect", str(folder / "model.onnx"))
    assert code == 2
    assert re.fullmatch(
        r"error: .*can't be written: No space left.*\n|error: nothing more can be written: No.*\n", said
    )


@pytest.mark.parametrize(
    ("line", "code"),
    [
        (["--help"], 0),
        (["inspect", "model.onnx", "--json", "-"], 0),
        (["diff", "--no-run", "model.onnx", "model.onnx", "--json", "found.json"], 0),
        (["diff", "--no-run", "model.onnx", "other.onnx", "--json", "found.json"], 1),
    ],
)
@pytest.mark.parametrize("unbuffered", [False, True])
def test_a_reader_that_has_gone_changes_no_exit_code(
    line: list[str], code: int, unbuffered: bool, folder: Path
) -> None:
    other = onnx.load(folder / "model.onnx")
    other.graph.initializer[-1].CopyFrom(onnx.numpy_helper.from_array(np.ones((16, 4, 8, 8), np.float32), "padding"))
    onnx.save(other, folder / "other.onnx")
    command = [sys.executable, *(["-u"] if unbuffered else []), "-m", "sn_deploy", *line]
    reader, writer = os.pipe()
    os.close(reader)  # before anything is written
    try:
        done = subprocess.run(command, cwd=folder, stdout=writer, stderr=subprocess.PIPE, text=True, timeout=120)
    finally:
        os.close(writer)
    assert (done.returncode, done.stderr) == (code, "")
    assert "found.json" not in line or json.loads((folder / "found.json").read_text(encoding="utf-8"))

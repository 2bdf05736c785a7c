"""Files are the old one or the whole new one."""

from __future__ import annotations

import errno
import os
import random
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from sn_deploy.atomic import atomic_output, atomic_outputs, check_writable
from sn_deploy.errors import SnDeployError


def test_a_failure_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    target = tmp_path / "model.onnx"
    target.write_text("old")

    def fail() -> None:
        with atomic_output(target) as temporary:
            temporary.write_text("half")
            raise RuntimeError("killed")

    with pytest.raises(RuntimeError, match="killed"):
        fail()
    assert target.read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["model.onnx"]


def test_success_replaces_it_with_the_usual_permissions(tmp_path: Path) -> None:
    target, plain = tmp_path / "model.onnx", tmp_path / "plain"
    target.write_text("old")
    plain.write_text("")
    with atomic_output(target) as temporary:
        assert temporary.suffix == ".onnx"
        temporary.write_text("new")
        assert target.read_text() == "old"
    assert target.read_text() == "new"
    assert target.stat().st_mode == plain.stat().st_mode
    assert {path.name for path in tmp_path.iterdir()} == {"model.onnx", "plain"}


def test_files_that_belong_together_are_both_new_or_both_old(tmp_path: Path) -> None:
    first, second = tmp_path / "net.engine.json", tmp_path / "net.engine"
    for path in (first, second):
        path.write_text("old")

    def write(what: str, error: Exception | None = None) -> None:
        with atomic_outputs(first, second) as (one, other):
            one.write_text(what)
            if error is not None:
                raise error
            other.write_text(what)
            assert first.read_text() == second.read_text() == "old"

    with pytest.raises(RuntimeError, match="killed"):
        write("new", RuntimeError("killed"))
    with pytest.raises(SnDeployError, match=r"net\.engine\.json and .*net\.engine: can't be written: No space left"):
        write("new", OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)))
    assert first.read_text() == second.read_text() == "old"
    write("new")
    assert first.read_text() == second.read_text() == "new"
    assert {path.name for path in tmp_path.iterdir()} == {first.name, second.name}
    with pytest.raises(SnDeployError, match="its folder doesn't exist"), atomic_outputs(first, tmp_path / "no" / "x"):
        raise AssertionError("nothing is begun")


def test_paths_that_cannot_be_written_are_refused_at_once(tmp_path: Path) -> None:
    with pytest.raises(SnDeployError, match=r"nowhere/model.onnx: can't be written: its folder doesn't exist; create"):
        check_writable(tmp_path / "nowhere" / "model.onnx")
    with pytest.raises(SnDeployError, match="is a folder"):
        check_writable(tmp_path)


def test_what_cannot_be_read_on_the_way_is_named_itself(tmp_path: Path) -> None:
    with (
        pytest.raises(SnDeployError, match=r"weights\.bin: No such file or directory"),
        atomic_output(tmp_path / "model.onnx") as temporary,
    ):
        shutil.copyfile(tmp_path / "weights.bin", temporary)
    with (
        pytest.raises(SnDeployError, match=r"model\.onnx: can't be written: No such file or directory"),
        atomic_output(tmp_path / "model.onnx") as temporary,
    ):
        temporary.unlink()
    assert not list(tmp_path.iterdir())


def test_what_is_no_plain_file_is_not_replaced_by_one(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "stdout").symlink_to("pipe")  # as /dev/stdout leads to a pipe
    for path in (tmp_path / "pipe", tmp_path / "stdout", Path("/dev/null")):
        with (
            pytest.raises(SnDeployError, match=rf"{path}: is a device, a pipe or a socket .expected a file name"),
            atomic_output(path),
        ):
            pass
    assert (tmp_path / "stdout").is_symlink()
    assert (tmp_path / "pipe").is_fifo()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write to any folder")
def test_a_read_only_folder_is_refused(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(SnDeployError, match="no permission"):
        check_writable(tmp_path / "model.onnx")


SIZE = 4_000_000
WRITES = """
import itertools, sys
from pathlib import Path
from sn_deploy.atomic import atomic_output
print("ready", flush=True)
for turn in itertools.count():
    {write}
"""
ATOMICALLY = """with atomic_output(sys.argv[1]) as path:
        path.write_bytes(bytes([turn % 256]) * 4_000_000)"""
IN_PLACE = "Path(sys.argv[1]).write_bytes(bytes([turn % 256]) * 4_000_000)"


def whole_after_kill(target: Path, write: str, moment: float) -> bool:
    """Whether a file that a process writes again and again is of one piece when the process is killed."""
    command = [sys.executable, "-c", WRITES.format(write=write), str(target)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        time.sleep(moment)
        process.kill()
    content = target.read_bytes()
    return len(content) == SIZE and len(set(content)) == 1


def test_a_kill_at_any_moment_leaves_a_whole_file(tmp_path: Path) -> None:
    """The commands themselves: tools/soak_kills.py."""
    target, draw = tmp_path / "model.onnx", random.Random(0)
    target.write_bytes(bytes(SIZE))
    assert all(whole_after_kill(target, ATOMICALLY, draw.uniform(0, 0.2)) for _ in range(6))
    left = [path.name for path in tmp_path.iterdir() if path != target]
    assert all(name.startswith(".model-") for name in left)


def test_such_a_kill_finds_a_file_that_is_written_in_place(tmp_path: Path) -> None:
    target, draw = tmp_path / "model.onnx", random.Random(0)
    assert not all(whole_after_kill(target, IN_PLACE, 0.1 + draw.uniform(0, 0.1)) for _ in range(30))

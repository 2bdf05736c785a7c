"""Files are the old one or the whole new one."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from sn_deploy.atomic import atomic_output, check_writable
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


def test_paths_that_cannot_be_written_are_refused_at_once(tmp_path: Path) -> None:
    with pytest.raises(SnDeployError, match=r"nowhere/model.onnx: can't be written: its folder doesn't exist; create"):
        check_writable(tmp_path / "nowhere" / "model.onnx")
    with pytest.raises(SnDeployError, match="is a folder"):
        check_writable(tmp_path)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write to any folder")
def test_a_read_only_folder_is_refused(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(SnDeployError, match="no permission"):
        check_writable(tmp_path / "model.onnx")

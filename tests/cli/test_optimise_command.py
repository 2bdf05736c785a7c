"""``sn-deploy optimise`` as a user calls it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from sn_deploy.runtime.native import SWITCH
from sn_deploy.runtime.ort import block_size
from tests.cli.command import run_folded
from tests.native.library import library_path, why_no_library
from tests.optimise.nets import Net, plain_chain


@pytest.fixture
def source(tmp_path: Path) -> Path:
    if library_path() is None:
        pytest.skip(why_no_library())
    if block_size() is None:
        pytest.skip("ONNX Runtime has no blocked convolutions on this processor")
    return plain_chain(tmp_path / "net.onnx")


def test_what_was_done_is_said(capsys: pytest.CaptureFixture[str], source: Path) -> None:
    here = source.with_name("here.onnx")
    code, out, err = run_folded(capsys, "optimise", source, "--for", "ort-cpu", "-o", here)
    assert (code, err) == (0, "")
    assert here.is_file()
    assert "made for ONNX Runtime " in out
    assert f"2 of 2 on blocks of {block_size()} channels" in out
    assert "4 before, 5 now, 1 of them reorders" in out
    assert "tried on x 2×3×16×16: relative L2 difference " in out
    assert "isn't beside it" not in out


def test_layers_that_stay_are_named(capsys: pytest.CaptureFixture[str], source: Path) -> None:
    net = Net(3)
    net.save(source, net.norm("x"), net.norm(net.conv("x", 16)))
    code, out, _ = run_folded(capsys, "optimise", source, "--for", "ort-cpu", "-o", source.with_name("here.onnx"))
    assert code == 0
    assert "1 of 2 on blocks" in out
    assert "as before layer_1: ONNX Runtime doesn't keep what it reads on blocks" in out


def test_another_folder_needs_the_source_too(capsys: pytest.CaptureFixture[str], source: Path) -> None:
    (source.parent / "there").mkdir()
    there = source.parent / "there" / "here.onnx"
    code, out, _ = run_folded(capsys, "optimise", source, "--for", "ort-cpu", "-o", there)
    assert code == 0
    assert "net.onnx isn't beside it: copy it there, or the file runs nowhere else." in out


@pytest.mark.parametrize("given", ["1x3x16x16", "x=3x3x16x16", "x=FILE.npy"])
def test_the_input_may_be_given(capsys: pytest.CaptureFixture[str], source: Path, given: str) -> None:
    np.save(source.with_name("x.npy"), np.ones((1, 3, 16, 16), np.float32) * np.arange(16, dtype=np.float32))
    given = given.replace("FILE", str(source.with_name("x")))
    here = source.with_name("here.onnx")
    code, out, _ = run_folded(capsys, "optimise", source, "--for", "ort-cpu", "-o", here, "--input", given)
    assert code == 0
    assert f"tried on x {'3' if given.startswith('x=3') else '1'}×3×16×16" in out


def test_refusals_exit_with_2_and_write_nothing(
    capsys: pytest.CaptureFixture[str], source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = source.with_name("here.onnx")
    call = ("optimise", source, "--for", "ort-cpu", "-o", here)
    for more, message in (
        (("--input", "y=1x3x16x16"), "has no input y"),
        (("--input", "1x3x16x16", "--input", "1"), "--input: is given more often than there are inputs (expected x)"),
        (("--input", "1x3x16x16", "--input", "x=1x3x16x16"), "more often than there are inputs (expected x)"),
        (("--input", "x=1x3x16x16", "--input", "x=1x3x16x16"), "--input x: is given twice"),
    ):
        code, out, err = run_folded(capsys, *call, *more)
        assert (code, out) == (2, "")
        assert message in err
        assert "Traceback" not in err
    monkeypatch.setenv(SWITCH, "0")
    code, _, err = run_folded(capsys, *call)
    assert code == 2
    assert "error: --for ort-cpu: the native operators aren't built, or are turned off" in err
    assert [path.name for path in source.parent.iterdir()] == ["net.onnx"]


def test_an_unknown_target(capsys: pytest.CaptureFixture[str], source: Path) -> None:
    code, _, err = run_folded(capsys, "optimise", source, "--for", "tpu", "-o", source.with_name("here.onnx"))
    assert code == 2
    assert "'tpu' is not 'ort-cpu'" in err


def test_a_warning_is_one_line(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    import warnings

    import click

    from sn_deploy.cli import cli
    from sn_deploy.errors import SnDeployWarning

    @click.command()
    def warns() -> None:
        warnings.warn("[net.onnx] runs instead", SnDeployWarning)

    monkeypatch.setattr(type(cli), "get_command", lambda *_: warns)
    assert run_folded(capsys, "warns") == (0, "", "warning: [net.onnx] runs instead")

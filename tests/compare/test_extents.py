"""A net that takes no small map is tried on a usual one, by every command that draws its input, and it is said."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest

from sn_deploy.diff import diff
from sn_deploy.errors import SnDeployError
from sn_deploy.fuse import fuse
from sn_deploy.optimise import optimise
from sn_deploy.runtime.ort import OrtSession, block_size
from tests.cli.command import run_folded
from tests.native.library import library_path
from tests.optimise.nets import Net


def pooled(net: Net, y: str, kernel: int = 100) -> str:
    """As nets end that were made for one size: smaller maps have no such window."""
    return net.add("AveragePool", [y], 16, kernel_shape=[kernel, kernel])


def not_finite(net: Net, y: str) -> str:
    """NaN where the height is below 100, as the variance of a single position is."""
    height = net.add("Cast", [net.add("Shape", [y], 1, start=2, end=3)], 1, to=1)
    root = net.add("Sqrt", [net.add("Sub", [height, net.constant(np.array([100], np.float32))], 1)], 1)
    return net.add("Mul", [y, root], 16)


def partly_finite(net: Net, y: str) -> str:
    """The same of one of two levels, as a pyramid's last is."""
    whole, spoilt = (net.add("ReduceMean", [one], 16, axes=[2, 3]) for one in (y, not_finite(net, y)))
    return net.add("Concat", [whole, spoilt], 16, axis=1)


def written(path: Path, end: Callable[[Net, str], str]) -> Path:
    net = Net(3, ("height", "width"))
    return net.save(path, end(net, net.norm(net.conv("x", 16), relu=True)))


ENDS = pytest.mark.parametrize(
    ("end", "why"),
    [
        (pooled, "at 64 it doesn't run: ONNX Runtime failed: node "),
        (not_finite, "at 64 no number of output "),
        (partly_finite, "at 64 32 of 64 numbers of output "),
    ],
)


@ENDS
def test_fuse_and_diff(end: Callable[[Net, str], str], why: str, tmp_path: Path) -> None:
    source = written(tmp_path / "in.onnx", end)
    whole = fuse(source, tmp_path / "out.onnx").whole
    assert whole.inputs == {"x": "2×3×224×224"}
    assert str(whole.why_larger).startswith(why)
    assert whole.rel_l2 is not None
    assert whole.rel_l2 < 1e-5
    found = diff(source, tmp_path / "out.onnx")
    assert found.inputs_run == {"x": "2×3×224×224"}
    assert str(found.why_larger).startswith(why)
    assert not found.different


@ENDS
@pytest.mark.skipif(library_path() is None or block_size() is None, reason="nothing can be optimised here")
def test_optimise(end: Callable[[Net, str], str], why: str, tmp_path: Path) -> None:
    proof = optimise(written(tmp_path / "in.onnx", end), tmp_path / "out.onnx").proof
    assert proof.shapes == {"x": (2, 3, 224, 224)}
    assert str(proof.why_larger).startswith(why)


def test_a_net_that_takes_a_small_map_is_given_one(tmp_path: Path) -> None:
    whole = fuse(written(tmp_path / "in.onnx", lambda net, y: y), tmp_path / "out.onnx").whole
    assert (whole.inputs, whole.why_larger, whole.other_inputs) == ({"x": "2×3×64×64"}, None, ())


def test_frames_stay_few(tmp_path: Path) -> None:
    net = Net(3, ("frames", "height", "width"))
    y = net.add("Slice", [net.conv("x", 4, kernel=1, rank=5), *(net.constant(np.array([n])) for n in (100, 150, 4))], 4)
    net.save(tmp_path / "in.onnx", net.add("MaxPool", [y], 4, kernel_shape=[8, 8, 50]))
    assert diff(tmp_path / "in.onnx", tmp_path / "in.onnx").inputs_run == {"x": "2×3×64×224×224"}


def test_what_runs_at_neither_is_told_with_an_option_that_can_be_pasted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    written(Path("in.onnx"), lambda net, y: pooled(net, y, 300))
    code, out, _ = run_folded(capsys, "fuse", "in.onnx", "-o", "out.onnx")
    assert code == 0
    assert "can't be run: with open axes at 64, and at 224, too: ONNX Runtime failed: node " in out
    said, option = out.rpartition("by adding: ")[::2]
    assert said.endswith("compare them on a size that the network takes, ")
    assert option == "--input x=1x3x512x512"
    code, out, _ = run_folded(capsys, "fuse", "in.onnx", "-o", "out.onnx", *option.split())
    assert code == 0
    assert "both run on x 1×3×512×512" in out
    code, _, err = run_folded(capsys, "diff", "in.onnx", "out.onnx")
    assert code == 2
    assert "with open axes at 64, and at 224, too: " in err
    assert "give a usual input: --input " in err


def test_values_are_asked_for_where_the_size_is_fixed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    net = Net(3, (8, 8))
    y = net.norm(net.conv("x", 4))
    model = net.model(net.add("Log", [net.add("Neg", [net.add("Abs", [y], 4)], 4)], 4))
    onnx.save(model, "in.onnx")
    code, out, _ = run_folded(capsys, "fuse", "in.onnx", "-o", "in.onnx")
    assert code == 0
    assert out.endswith("by hand: sn-deploy diff COPY_OF_THE_OLD_ONE.onnx in.onnx --input x=x.npy")
    code, out, _ = run_folded(capsys, "fuse", "in.onnx", "-o", "out.onnx")
    assert out.endswith("compare them on usual values, saved by numpy.save, by adding: --input x=x.npy")


def test_a_second_file_that_fails_alone_is_no_matter_of_size(tmp_path: Path) -> None:
    """At 224 both run; a file that is broken at 64 is broken, as its source isn't."""
    source = written(tmp_path / "in.onnx", lambda net, y: y)
    with pytest.raises(SnDeployError, match=r"broken\.onnx: ONNX Runtime failed"):
        diff(source, written(tmp_path / "broken.onnx", pooled))


def test_errors_of_onnx_runtime_say_what_is_wrong_and_not_where_it_was_built(tmp_path: Path) -> None:
    with OrtSession(written(tmp_path / "in.onnx", pooled)) as session, pytest.raises(SnDeployError) as raised:
        session.run({"x": np.zeros((1, 3, 64, 64), np.float32)})
    assert " (AveragePool): " in raised.value.what
    assert "imension is negative" in raised.value.what
    for noise in ("Non-zero status", "Status Message", "onnxruntime/core", "PoolAttributes"):
        assert noise not in raised.value.what

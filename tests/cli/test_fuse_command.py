"""`sn-deploy fuse`: what is printed, written and returned."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from sn_deploy.console import output_console
from sn_deploy.fuse import fuse
from sn_deploy.fuse.show import print_report
from sn_deploy.runtime.stamp import Stamp
from tests.cli.command import exit_code
from tests.fuse.test_files import net
from tests.fuse.zoo import DECOYS, TRUE


def call(*arguments: str) -> int:
    return exit_code("fuse", *arguments)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    onnx.save(net(opset=13), "in.onnx")
    return tmp_path


def test_the_summary_says_what_became_of_the_file(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call("in.onnx", "-o", "out.onnx") == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert "opset 15, was 13, 2 nodes, was" in printed
    assert "1 SN layers found" in printed
    assert "1 SwitchNormRelu" in printed
    assert "agrees with the nodes it replaced in float64" in printed
    assert "whole file relative L2 " in printed
    assert "e-07 (at most 2.0e-05) from its source, both run on x 2×6×5×4" in printed
    assert "near miss" not in printed


def test_the_whole_file_is_compared_unless_told_otherwise(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    np.save("big.npy", np.full((2, 6, 5, 4), 3.0, np.float32))
    assert call("in.onnx", "-o", "out.onnx", "--input", "x=big.npy", "--json", "-") == 0
    whole = json.loads(capsys.readouterr().out)["whole"]
    assert (whole["why_not"], whole["inputs"]) == (None, {"x": "2×6×5×4"})
    assert whole["rel_l2"] < whole["tolerance"] == 2e-5
    assert call("in.onnx", "-o", "in.onnx", "--no-run") == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert "not compared with its source, as it wasn't asked for compare them by hand:" in printed
    assert "sn-deploy diff COPY_OF_THE_OLD_ONE.onnx in.onnx" in printed


def test_files_that_cannot_run_here_are_compared_elsewhere(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It advised sn-deploy diff, which runs them in the same provider."""
    report = fuse("in.onnx", "out.onnx", run=False)
    whole = replace(report.whole, why_not="the source can't be run: ONNX Runtime can't load it")
    print_report(output_console(), replace(report, whole=whole), Path("in.onnx"))
    printed = " ".join(capsys.readouterr().out.split())
    assert "compare them on data where they run" in printed
    assert "sn-deploy diff" not in printed


def test_a_share_that_is_not_0_is_not_shown_as_0(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    report = fuse("in.onnx", "out.onnx")
    for changed, shown in ((0.0, "0% of the integers"), (1e-6, "under 0.01% of the integers"), (0.009, "0.9% of the")):
        whole = replace(report.whole, changed=changed)
        print_report(output_console(), replace(report, whole=whole), Path("in.onnx"))
        assert shown in " ".join(capsys.readouterr().out.split())


def test_a_whole_that_differs_is_exit_1_and_no_file(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sn_deploy.fuse.run.tidy", drop_the_bias)
    assert call("in.onnx", "-o", "out.onnx") == 1
    assert "the fused graph differs from the source by" in capsys.readouterr().err
    assert [path.name for path in folder.iterdir()] == ["in.onnx"]


def drop_the_bias(model: ir.Model) -> None:
    bias = model.graph.initializers["sn.bias"]
    bias.const_value = ir.tensor(np.zeros(6, np.float32), name="sn.bias")


def test_a_second_run_says_that_there_is_nothing_to_fuse(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call("in.onnx", "-o", "out.onnx") == 0
    assert call("out.onnx", "-o", "again.onnx") == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert "none to fuse: its 1 SN layers are SwitchNorm nodes already" in printed


def test_near_misses_are_printed_beside_what_was_fused(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first, second = net(), DECOYS["eps_outside_the_root"]()
    first = onnx.compose.add_prefix(first, "a_")
    second = onnx.compose.add_prefix(second, "b_")
    second.ir_version = first.ir_version
    onnx.save(onnx.compose.merge_models(first, second, io_map=[(first.graph.output[0].name, "b_x")]), "both.onnx")
    assert call("both.onnx", "-o", "out.onnx") == 0
    printed = capsys.readouterr().out
    assert "near miss: b_n" in printed
    assert "eps is added outside the square root" in printed
    (folder / "out.onnx").unlink()
    assert call("both.onnx", "-o", "out.onnx", "--strict") == 1
    assert "looks like an SN layer, but b_n" in capsys.readouterr().err
    assert not (folder / "out.onnx").exists()


def test_json(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call("in.onnx", "-o", "out.onnx", "--json", "-") == 0
    report = json.loads(capsys.readouterr().out)
    assert report["nodes"]["after"] == 2
    assert report["opset"] == {"before": 13, "after": 15}
    (layer,) = report["layers"]
    assert layer["name"] == "sn"
    assert sum(layer["mean"].values()) == pytest.approx(1)
    assert call("in.onnx", "-o", "out.onnx", "--json", "report.json") == 0
    assert json.loads((folder / "report.json").read_text()) == report


def test_specialise_makes_what_was_found_cheaper(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model, _ = TRUE["one_hot_ln_bn"]()
    onnx.save(model, "sparse.onnx")
    assert call("sparse.onnx", "-o", "out.onnx", "--specialise") == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert "1 SN layers found" in printed
    assert "fewer statistics" in printed
    assert "forms the same as SwitchNorm to" in printed
    (node,) = (one for one in onnx.load("out.onnx").graph.node if one.domain == "sn_deploy")
    assert node.overload == "mean_ln"
    assert call("sparse.onnx", "-o", "out.onnx", "--specialise", "--json", "-") == 0
    report = json.loads(capsys.readouterr().out)
    assert report["path"] == report["specialised"]["path"] == "out.onnx"
    assert sorted(path.name for path in folder.iterdir()) == ["in.onnx", "out.onnx", "sparse.onnx"]


def test_an_optimised_file_is_told_which_one_to_give(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = net()
    stamp = Stamp("ort-cpu", "1.32.0", 16, "x86_64: avx2", "net.onnx", "0" * 64)
    onnx.helper.set_model_props(model, stamp.as_metadata())
    onnx.save(model, "here.onnx")
    assert call("here.onnx", "-o", "out.onnx") == 2
    message = capsys.readouterr().err
    assert "here.onnx: is optimised, for ONNX Runtime 1.32.0" in message
    assert "give the portable file that it was made of: net.onnx" in message
    assert not (folder / "out.onnx").exists()


def test_no_fuse_keeps_the_relu(folder: Path) -> None:
    assert call("in.onnx", "-o", "out.onnx", "--no-fuse") == 0
    assert [node.op_type for node in onnx.load("out.onnx").graph.node] == ["Conv", "SwitchNorm", "Relu"]


def test_a_file_without_layers_is_exit_1_and_no_file(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    onnx.save(DECOYS["instance_norm"](), "norm.onnx")
    assert call("norm.onnx", "-o", "out.onnx") == 1
    assert "norm.onnx: has no SN layer" in capsys.readouterr().err
    assert not (folder / "out.onnx").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["none.onnx", "-o", "out.onnx"], "none.onnx: there is no such file"),
        (["in.onnx", "-o", "nowhere/out.onnx"], "its folder doesn't exist"),
        (["text.onnx", "-o", "out.onnx"], "is cut off, damaged or no ONNX file"),
        (["in.onnx"], "Missing option '-o'"),
        (["in.onnx", "-o", "out.onnx", "--input", "z=2x6x5x4"], "input z: is no input of the file (expected x)"),
        (
            ["in.onnx", "-o", "out.onnx", "--input", "2x6x5x4", "--no-run"],
            "--input: without effect: --no-run runs nothing",
        ),
    ],
)
def test_bad_input_is_exit_2(
    folder: Path, arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("text.onnx").write_text("no model")
    assert call(*arguments) == 2
    assert message in capsys.readouterr().err
    assert not (folder / "out.onnx").exists()


def test_torch_and_onnxruntime_are_not_needed(folder: Path) -> None:
    code = (
        "import sys\n"
        "sys.modules.update(torch=None, onnxruntime=None)\n"
        "from sn_deploy.cli import main\n"
        "main(['fuse', 'in.onnx', '-o', 'out.onnx'])\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "as onnxruntime isn't installed" in " ".join(done.stdout.split())
    assert (folder / "out.onnx").exists()

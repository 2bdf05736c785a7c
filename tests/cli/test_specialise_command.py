"""`sn-deploy specialise` as a user types it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from PIL import Image

from sn_deploy.graph import op
from sn_deploy.runtime.ort import OrtSession
from tests.cli.command import exit_code
from tests.specialise.nets import BN, Net, ops


def call(*arguments: str) -> int:
    return exit_code("specialise", *arguments)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    net, few = Net(), (1e-4, 1e-4, 1 - 2e-4)
    net.norm(net.conv("x", "conv", (3, 6)), "sn", 6, BN, BN, op_type=op.SWITCH_NORM_RELU)
    net.norm(net.conv("sn", "conv2", (6, 6)), "sn2", 6, few, few)
    net.save(tmp_path / "in.onnx", ["N", 3, 8, 8], ["sn2"])
    np.save("x.npy", np.random.default_rng(0).normal(size=(32, 3, 8, 8)).astype(np.float32))
    return tmp_path


def test_without_a_budget_only_what_is_exact(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call("in.onnx", "-o", "out.onnx", "--threads", "1") == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert "sn – folded" in printed
    assert "sn2 – kept" in printed
    assert "of what it was" in printed
    assert "held out" not in printed
    assert ops(folder / "out.onnx") == {"Conv": 2, "Relu": 1, "SwitchNorm:": 1}


def test_where_nothing_can_be_cheaper_it_says_so(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    net = Net()
    net.norm(net.conv("x", "conv", (3, 6)), "sn", 6, (0.5, 0.3, 0.2), (0.2, 0.3, 0.5))
    net.save(folder / "plain.onnx", ["N", 3, 8, 8], ["sn"])
    assert call("plain.onnx", "-o", "out.onnx", "--threads", "1") == 0
    printed = " ".join(capsys.readouterr().out.split())
    why = "none has a weight of 0 that would make it cheaper; sn-deploy specialise --budget lets some error in"
    assert f"changed no layer: {why}" in printed
    assert "of what it was" not in printed


def test_a_long_name_is_not_folded_where_it_goes_to_a_pipe(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    net, name = Net(), "backbone.stage4.block2.branch.normalisation.before.downsample.1"
    net.norm(net.conv("x", "conv", (3, 6)), name, 6, (0.5, 0.3, 0.2), (0.2, 0.3, 0.5))
    net.save(folder / "long.onnx", ["N", 3, 8, 8], [name])
    assert call("long.onnx", "-o", "out.onnx", "--threads", "1") == 0
    assert name in capsys.readouterr().out


def test_with_a_budget(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call("in.onnx", "-o", "out.onnx", "--budget", "rel_l2=1%", "--data", "x.npy", "--threads", "1") == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert "sn2 IN LN" in printed
    assert "held out 16 samples: rel_l2" in printed
    assert "allowed: rel_l2 0.01" in printed
    assert ops(folder / "out.onnx") == {"Conv": 2, "Relu": 1}


def test_folders_that_are_other_classes_than_the_nets_are_no_accuracy(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Numbered by their names none would be right before, and none could be lost."""
    net, few = Net(), (1e-4, 1e-4, 1 - 2e-4)
    net.norm(net.conv("x", "conv", (3, 6)), "sn", 6, few, few)
    net.add("GlobalAveragePool", ["sn"], "pooled")
    net.add("Flatten", ["pooled"], "logits")
    net.save(folder / "logits.onnx", ["N", 3, 8, 8], ["logits"])
    for name in ("ant", "bee"):
        (folder / "images" / name).mkdir(parents=True)
        for place in range(8):
            pixels = np.random.default_rng(place).integers(0, 256, (8, 8, 3), np.uint8)
            Image.fromarray(pixels).save(folder / "images" / name / f"{place}.png")
    arguments = ("logits.onnx", "-o", "out.onnx", "--data", "images", "--batch-size", "4")
    assert call(*arguments, "--budget", "top1=50%") == 2
    assert "the folders are 2 classes, and output logits has 6" in capsys.readouterr().err
    assert not (folder / "out.onnx").exists()
    for more in (("--budget", "rel_l2=5%"), ("--budget", "top1=50%", "--labels", "none"), ()):
        assert call(*arguments, *more) == 0
        assert "accuracy" not in capsys.readouterr().out


def test_a_net_that_is_never_right_can_lose_no_accuracy(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    net, few = Net(), (1e-4, 1e-4, 1 - 2e-4)
    net.norm(net.conv("x", "conv", (3, 6)), "sn", 6, few, few)
    net.add("GlobalAveragePool", ["sn"], "pooled")
    net.add("Flatten", ["pooled"], "logits")
    net.save(folder / "logits.onnx", ["N", 3, 8, 8], ["logits"])
    x = np.load("x.npy")
    with OrtSession("logits.onnx") as session:
        best = session.run({"x": x})["logits"].argmax(1)
    np.savez("off_by_one.npz", x=x, labels=(best + 1) % 6)
    arguments = ("logits.onnx", "-o", "out.onnx", "--data", "off_by_one.npz", "--budget", "top1=50%")
    assert call(*arguments) == 0
    printed = capsys.readouterr().out
    assert "have another class on top" in printed
    assert "accuracy" not in printed


def test_json(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["in.onnx", "-o", "out.onnx", "--budget", "rel_l2=1%", "--data", "x.npy", "--runtime", "ort"]
    assert call(*arguments, "--json", "-") == 0
    report = json.loads(capsys.readouterr().out)
    assert [layer["form"] for layer in report["layers"]] == ["folded", "folded"]
    assert report["held_out"]["rel_l2"] <= 0.01
    assert report["budget"] == {"rel_l2": 0.01, "top1": None}
    assert call(*arguments, "--json", "report.json") == 0
    assert json.loads((folder / "report.json").read_text())["runtime"] == "ort"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["none.onnx", "-o", "out.onnx"], "none.onnx: there is no such file"),
        (["in.onnx", "-o", "nowhere/out.onnx"], "its folder doesn't exist"),
        (["in.onnx", "-o", "out.onnx", "--budget", "top1=1%"], "--budget: what a budget allows is measured on samples"),
        (["in.onnx", "-o", "out.onnx", "--budget", "top1"], "--budget top1: can't be read"),
        (["in.onnx", "-o", "out.onnx", "--max-weight", "nan"], "Invalid value for '--max-weight': nan is no number"),
        (["in.onnx", "-o", "out.onnx", "--budget", "rel_l2=1%", "--data", "no.npy"], "there is no such file"),
        (
            ["in.onnx", "-o", "out.onnx", "--budget", "rel_l2=1%", "--data", "x.npy", "--batch-size", "32"],
            "--data: is one batch, and half of the batches are for the proof",
        ),
        (["in.onnx", "-o", "out.onnx", "--input", "1x3x9x9"], "input"),
        (["text.onnx", "-o", "out.onnx"], "text.onnx"),
    ],
)
def test_bad_input_is_exit_2(
    folder: Path, arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("text.onnx").write_text("no model")
    assert call(*arguments) == 2
    assert message in capsys.readouterr().err
    assert not (folder / "out.onnx").exists()
    assert sorted(path.name for path in folder.iterdir()) == ["in.onnx", "text.onnx", "x.npy"]


def test_a_broken_promise_is_exit_1_and_no_file(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from sn_deploy.specialise.samples import Error

    monkeypatch.setattr(Error, "within", lambda self, budget, bound=False: bound)
    assert call("in.onnx", "-o", "out.onnx", "--budget", "rel_l2=1%", "--data", "x.npy") == 1
    assert "so nothing was written" in capsys.readouterr().err
    assert sorted(path.name for path in folder.iterdir()) == ["in.onnx", "x.npy"]


def test_extents_that_the_file_leaves_open(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    net = Net()
    net.norm(net.conv("x", "conv", (3, 6)), "sn", 6, BN, BN)
    net.save(tmp_path / "in.onnx", ["N", 3, "H", "W"], ["sn"])
    assert call("in.onnx", "-o", "out.onnx") == 0
    assert call("in.onnx", "-o", "out.onnx", "--input", "1x3x16x12") == 0
    (x,) = onnx.load("out.onnx").graph.input
    assert [axis.dim_param or axis.dim_value for axis in x.type.tensor_type.shape.dim] == ["N", 3, "H", "W"]

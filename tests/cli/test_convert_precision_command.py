"""``sn-deploy convert-precision`` as a user calls it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from sn_deploy.nn import SwitchNorm2d
from sn_deploy.onnx_export import export
from sn_deploy.precision import quantize
from tests.cli import command
from tests.optimise.nets import Net
from tests.precision.nets import residual_net


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return residual_net(tmp_path / "net.onnx")


def run(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> tuple[int, str, str]:
    return command.run_folded(capsys, "convert-precision", *arguments)


def test_what_was_done_is_said(capsys: pytest.CaptureFixture[str], source: Path) -> None:
    half = source.with_name("half.onnx")
    code, out, err = run(capsys, source, "-o", half, "--precision", "bf16", "--keep", "layer_1*", "--check-range")
    assert (code, err) == (0, "")
    assert half.is_file()
    assert "opset 22, was 20; 5 casts between the two types" in out
    assert "7 in bf16, 1 kept in float32" in out
    assert "no activation is beyond" in out
    assert "the same class for " in out
    assert "on 8 samples of random" in out


def test_the_report_as_json(capsys: pytest.CaptureFixture[str], source: Path) -> None:
    half = source.with_name("half.onnx")
    code, out, _ = run(
        capsys, source, "-o", half, "--precision", "fp16", "--half-io-types", "--limit", "3", "--json", "-"
    )
    assert code == 0
    report = json.loads(out)
    assert report["precision"] == "fp16"
    assert report["casts"] == 0
    assert report["proof"]["samples"] == 3
    (figures,) = report["proof"]["outputs"].values()
    assert 0 < figures["rel_l2"] < 1e-3


def test_a_file_without_nodes_is_told_that_its_statistics_are_half(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    inlined = tmp_path / "inlined.onnx"
    export(
        torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), SwitchNorm2d(4)), torch.zeros(1, 3, 8, 8), inlined, inline=True
    )
    code, out, _ = run(capsys, inlined, "-o", tmp_path / "half.onnx", "--precision", "fp16")
    assert code == 0
    assert "no SwitchNorm node; SN layers in standard operators take their statistics in fp16" in out
    assert quantize(inlined, tmp_path / "int8.onnx", precision="int8").layers == 0


@pytest.mark.parametrize(
    ("options", "code", "reason"),
    [
        (["--precision", "fp8"], 2, "Invalid value for '--precision'"),
        ([], 2, "Missing option '--precision'"),
        (["--precision", "fp16", "--keep", "layr_4"], 2, "--keep layr_4: no node, SN layer or operator has that name"),
        (["--precision", "fp16", "--max-rel-l2", "1e-9"], 1, "(expected at most 1.00e-09); keep sensitive layers in"),
        (["--precision", "fp16", "--max-rel-l2", "nan"], 2, "nan is no number"),
        (
            ["--precision", "fp16", "--keep", "Conv", "--keep-convolutions"],
            2,
            "--keep-convolutions: without effect: no SN layer is among what --keep names; name SN layers, too",
        ),
        (["--precision", "fp16", "--data", "nowhere"], 2, "there is no such file or folder"),
        (["--precision", "fp16", "--resize", "224"], 2, "is for a folder of images"),
        (["--precision", "fp16", "--input", "x=1x3x9x9"], 2, "--input x"),
        (["--precision", "fp16", "--data", "random:std=1e7"], 1, "not finite where the source's is"),
    ],
)
def test_what_goes_wrong_is_said(
    capsys: pytest.CaptureFixture[str], source: Path, options: list[str], code: int, reason: str
) -> None:
    half = source.with_name("half.onnx")
    got, _, err = run(capsys, source, "-o", half, *options)
    assert got == code, err
    assert reason in err
    assert not half.exists()


def test_a_weight_of_which_nothing_is_left_is_named(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    net = Net(3)
    y = net.norm(net.conv("x", 4))
    size = net.add("ReduceL2", [y], 4, axes=[1])
    floor = net.constant(np.array([1e-12], np.float32))
    net.save(tmp_path / "net.onnx", net.add("Div", [y, net.add("Max", [size, floor], 4)], 4))
    code, out, _ = run(capsys, tmp_path / "net.onnx", "-o", tmp_path / "half.onnx", "--precision", "fp16")
    assert code == 0
    assert "1 of 1 values in 1 weight are too small, and become 0; nothing is left of constant_" in out
    assert "(read by node_max_" in out

"""``sn-deploy check --bisect`` as a user calls it: what must stay in float32 is found, and the file passes."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper

import sn_deploy
from sn_deploy.runtime.native import ort_library
from tests.check.small_net import write_net
from tests.cli.test_check_command import check, document, swap_two_channels

# Behind the third convolution numbers are above float16's largest: SN takes them, half precision doesn't hold them.
MINE = """
import torch
from sn_deploy.models.digits import load_pretrained

def enlarge(convolution, norm, times):
    with torch.no_grad():
        convolution.weight *= times
        norm.running_mean *= times
        norm.running_var *= times**2

def large():
    model = load_pretrained()
    enlarge(model.conv3, model.sn3, 3e5)
    return model

def large_first():
    model = load_pretrained()
    enlarge(model.conv1, model.sn1, 6e4)  # the weights stay within float16
    return model
"""


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from sn_deploy.check.digits_data import load_digits_split

    folder = tmp_path_factory.mktemp("large")
    digits = load_digits_split()
    np.savez(folder / "digits.npz", x=digits.test_images[:64], labels=digits.test_labels[:64])
    (folder / "mine.py").write_text(MINE)
    namespace: dict[str, object] = {}
    exec(MINE, namespace)
    model = namespace["large"]()  # type: ignore[operator]
    sn_deploy.export(model, torch.zeros(1, 1, 8, 8), folder / "fp16.onnx", dynamic="batch", precision="fp16")
    first = namespace["large_first"]()  # type: ignore[operator]
    for precision in ("fp16", "bf16"):
        path = folder / f"first_{precision}.onnx"
        sn_deploy.export(first, torch.zeros(1, 1, 8, 8), path, dynamic="batch", precision=precision)
    write_net(folder / "right.onnx")
    write_net(folder / "small.onnx", dtype="float16")
    return folder


@pytest.fixture
def folder(exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    monkeypatch.delitem(sys.modules, "mine", raising=False)
    for path in exported.iterdir():
        (tmp_path / path.name).symlink_to(path)
    return tmp_path


DATA = ("--data", "digits.npz", "--bisect", "--json", "check.json")
# Written by hand: float16 beside the same net in float32.
SMALL = ("--reference", "right", "--backend", "right=ort:right.onnx", "--limit", "64")
BISECT = ("--bisect", "--json", "check.json")
# By the function inside the file ONNX Runtime leaves out casts on a CPU and so computes in float32: nothing overflows.
OVERFLOWS = ("--backend", "half=ort-native:fp16.onnx", *DATA)
needs_native = pytest.mark.skipif(ort_library() is None, reason="the custom-op library wasn't built")


@needs_native
def test_the_layer_is_found_and_the_mixed_file_passes(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code = check("--model", "mine:large", *OVERFLOWS, "--bisect-output", "mixed.onnx", "--html", "report.html")
    assert code == 1  # the file that was asked about fails, whatever another one does
    found = document()["bisect"]
    assert found["kept"] == ["sn3"]
    assert (found["passed"], found["minimal"], found["blocks"], found["file"]) == (True, True, 5, "mixed.onnx")
    printed = capsys.readouterr().out
    assert "bisecting half: at most 50 runs of all 64 samples" in printed
    assert re.search(r"a run takes [\d.]+ s, so 50 take \d+ s at most", printed)
    assert "half: it passes with 1 of 5 blocks in float32: sn3." in printed
    assert "Layers that must stay in float32" in (folder / "report.html").read_text()
    assert check("mixed.onnx", "--model", "mine:large", "--data", "digits.npz", "--layers") == 0
    mixed = onnx.load("mixed.onnx")
    kinds = {tensor.name: tensor.data_type for tensor in mixed.graph.initializer}
    assert kinds["conv3.weight/float32"] == onnx.TensorProto.FLOAT
    assert "conv3.weight" not in kinds
    assert kinds["conv4.weight"] == onnx.TensorProto.FLOAT16
    # Weights that float16 can't hold are the model's own.
    weight = next(one for one in mixed.graph.initializer if one.name == "conv3.weight/float32")
    assert np.isfinite(numpy_helper.to_array(weight)).all()
    assert [node.op_type for node in mixed.graph.node].count("Cast") == 2


ROUNDED = ("--backend", "rounded=ort-rounded:first_fp16.onnx")
PASSES_THERE = "on a CPU ONNX Runtime computes much of float16 in float32, so what overflows on a GPU passes there"


def test_what_passes_on_a_cpu_and_overflows_on_a_gpu_is_found(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Between a convolution and a pool ONNX Runtime takes the layer into float32, the native operator's node too."""
    arguments = ("--model", "mine:large_first", *DATA)
    assert check("first_fp16.onnx", *arguments) == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert f"first_fp16.onnx: {PASSES_THERE}; add --backend rounded=ort-rounded:first_fp16.onnx" in printed
    assert check("first_fp16.onnx", *arguments, *ROUNDED, "--layers", "--bisect-output", "mixed.onnx") == 1
    assert PASSES_THERE not in " ".join(capsys.readouterr().out.split())
    whole = document()
    assert {one["backend"] for one in whole["assertions"] if not one["passed"]} >= {"rounded"}
    assert "rounded" in {one["backend"] for one in whole["layers"]}
    assert (whole["bisect"]["backend"], whole["bisect"]["kept"]) == ("rounded", ["sn1"])
    assert (
        check("--backend", "rounded=ort-rounded:mixed.onnx", "--model", "mine:large_first", "--data", "digits.npz") == 0
    )


def test_bfloat16_runs_on_a_cpu_with_its_roundings(folder: Path) -> None:
    bf16 = ("--backend", "rounded=ort-rounded:first_bf16.onnx", "--model", "mine:large_first", *DATA)
    assert check(*bf16) == 0
    (parity,) = document()["parity"]["rounded"]
    # bfloat16 has 8 bits: some 2^-9 a rounding, of which a net has a few.
    assert 2**-10 < parity["rel_l2"] < 2**-5


def test_float32_has_nothing_to_round(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert check("--backend", "rounded=ort-rounded:right.onnx", "--backend", "right=ort:right.onnx") == 2
    assert "right.onnx is in float32: there is nothing to round" in " ".join(capsys.readouterr().err.split())


def test_limits_that_half_precision_does_not_meet(folder: Path) -> None:
    """What has to hold is what the user asks for: here more than float16 gives, but with some layers in float32."""
    arguments = ["--backend", "half=ort:small.onnx", *SMALL, *BISECT, "--max-rel-l2", "2.9e-4"]
    assert check(*arguments, "--bisect-output", "mixed.onnx") == 1
    found = document()["bisect"]
    assert found["passed"]
    assert found["minimal"]
    assert 1 <= len(found["kept"]) < found["blocks"] == 3
    assert check("--backend", "mixed=ort:mixed.onnx", *SMALL, "--max-rel-l2", "2.9e-4") == 0
    assert check(*arguments, "--bisect-runs", "1") == 1
    few = document()["bisect"]
    assert (few["runs"], few["minimal"], len(few["kept"])) == (1, False, 3)


def test_where_precision_is_not_the_cause_the_layer_is_named(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_net(folder / "spoilt.onnx", dtype="float16", spoil=swap_two_channels)
    arguments = ["--backend", "half=ort:spoilt.onnx", *SMALL, *BISECT, "--bisect-output", "mixed.onnx"]
    assert check(*arguments) == 1
    found = document()["bisect"]
    assert (found["passed"], found["kept"], found["runs"]) == (False, [], 1)
    assert (found["culprit"], found["culprit_part"], found["file"]) == ("sn1", "layer", None)
    assert not (folder / "mixed.onnx").exists()
    printed = capsys.readouterr().out
    assert "precision isn't the cause" in printed
    assert "half: the fault is in sn1 (layer 1 of 2)" in printed


def test_what_cannot_be_bisected(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    half = ["--backend", "half=ort:small.onnx", *SMALL]
    assert check(*half, "--bisect") == 0
    assert "nothing to bisect: every backend passes" in capsys.readouterr().out
    assert check("--backend", "same=ort:right.onnx", *half[:1], "half=ort:small.onnx", "--bisect") == 0
    write_net(folder / "spoilt.onnx", spoil=swap_two_channels)
    assert check("--backend", "spoilt=ort:spoilt.onnx", *SMALL, "--bisect") == 2
    assert re.search(
        r"--bisect, spoilt: computes in float32 and fails \(expected an ONNX file", capsys.readouterr().err
    )
    assert check(*half, "--bisect", "--shard", "1/2") == 2
    assert "can't be done on a part" in capsys.readouterr().err
    assert check(*half, "--bisect-output", "mixed.onnx") == 2
    assert "nothing is bisected" in capsys.readouterr().err
    assert check(*half, "--bisect", "--bisect-output", "no/mixed.onnx") == 2

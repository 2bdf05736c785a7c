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
from sn_deploy.models.digits import load_pretrained
from sn_deploy.runtime.native import ort_library
from tests.cli.test_check_command import check, document

# Behind the third convolution numbers are above float16's largest: SN takes them, half precision doesn't hold them.
MINE = """
import torch
from sn_deploy.models.digits import load_pretrained

def large():
    model = load_pretrained()
    with torch.no_grad():
        model.conv3.weight *= 3e5
        model.sn3.running_mean *= 3e5
        model.sn3.running_var *= 9e10
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
    for precision in ("fp16", "fp32"):
        sn_deploy.export(
            model, torch.zeros(1, 1, 8, 8), folder / f"{precision}.onnx", dynamic="batch", precision=precision
        )
    sn_deploy.export(
        load_pretrained(), torch.zeros(1, 1, 8, 8), folder / "small.onnx", dynamic="batch", precision="fp16"
    )
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
SMALL = ("--model", "sn_deploy.models.digits:load_pretrained")
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


@needs_native
def test_against_a_file_it_is_the_same(folder: Path) -> None:
    arguments = ["--backend", "right=ort:fp32.onnx", "--reference", "right"]
    assert check(*OVERFLOWS, *arguments) == 1
    assert document()["bisect"]["kept"] == ["sn3"]


def test_limits_that_half_precision_does_not_meet(folder: Path) -> None:
    """What has to hold is what the user asks for: here more than float16 gives, but with some layers in float32."""
    arguments = [*SMALL, "--max-rel-l2", "3e-4"]
    assert check("--backend", "half=ort:small.onnx", *DATA, *arguments) == 1
    found = document()["bisect"]
    assert found["passed"]
    assert found["minimal"]
    assert 1 <= len(found["kept"]) < found["blocks"] == 5
    assert check("--backend", "half=ort:small.onnx", *DATA, *arguments, "--bisect-runs", "1") == 1
    few = document()["bisect"]
    assert (few["runs"], few["minimal"], len(few["kept"])) == (1, False, 5)


def test_where_precision_is_not_the_cause_the_layer_is_named(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = onnx.load("small.onnx")
    for tensor in model.graph.initializer:
        if tensor.name == "sn2.scale":
            value = numpy_helper.to_array(tensor).copy()
            value[:] = value[::-1]
            tensor.CopyFrom(numpy_helper.from_array(value, tensor.name))
    onnx.save(model, "spoilt.onnx")
    arguments = [*SMALL, "--bisect-output", "mixed.onnx"]
    assert check("--backend", "half=ort:spoilt.onnx", *DATA, *arguments) == 1
    found = document()["bisect"]
    assert (found["passed"], found["kept"], found["runs"]) == (False, [], 1)
    assert (found["culprit"], found["culprit_part"], found["file"]) == ("sn2", "layer", None)
    assert not (folder / "mixed.onnx").exists()
    printed = capsys.readouterr().out
    assert "precision isn't the cause" in printed
    assert "half: the fault is in sn2 (layer 2 of 4)" in printed


def test_what_cannot_be_bisected(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = [*SMALL, "--data", "digits.npz"]
    assert check("small.onnx", *model, "--bisect") == 0
    assert "nothing to bisect: every backend passes" in capsys.readouterr().out
    assert check("fp32.onnx", *model, "--bisect", "--max-rel-l2", "1e-12") == 2
    assert re.search("--bisect, ort: computes in float32 and fails .expected an ONNX file", capsys.readouterr().err)
    assert check("small.onnx", *model, "--bisect", "--shard", "1/2") == 2
    assert "can't be done on a part" in capsys.readouterr().err
    assert check("small.onnx", *model, "--bisect-output", "mixed.onnx") == 2
    assert "is given without --bisect" in capsys.readouterr().err
    assert check("small.onnx", *model, "--bisect", "--bisect-output", "no/mixed.onnx") == 2

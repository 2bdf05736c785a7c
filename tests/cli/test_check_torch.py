"""``sn-deploy check`` with a PyTorch model, and on thousands of images: what a release is held against."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from PIL import Image

import sn_deploy
from sn_deploy.hashing import sha256_of_file
from sn_deploy.models.digits import WEIGHTS, load_pretrained
from sn_deploy.runtime.torch import tensor_from_array
from tests.cli.command import exit_code
from tests.cli.test_check_command import check, document
from tests.cli.test_merge_command import OF_ONE_RUN

MODEL = ("--model", "sn_deploy.models.digits:digits", "--checkpoint", str(WEIGHTS))


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demo's network as a file, and its held-out digits."""
    from sn_deploy.check.digits_data import load_digits_split

    folder = tmp_path_factory.mktemp("digits")
    digits = load_digits_split()
    np.savez(folder / "digits.npz", x=digits.test_images, labels=digits.test_labels)
    example = tensor_from_array(digits.test_images[:1])
    sn_deploy.export(load_pretrained(), example, folder / "digits.onnx", dynamic="batch")
    return folder


@pytest.fixture
def folder(exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of the test's own, with links to them."""
    monkeypatch.chdir(tmp_path)
    for name in ("digits.onnx", "digits.npz"):
        (tmp_path / name).symlink_to(exported / name)
    return tmp_path


def test_an_export_passes_ten_times_out_of_ten(folder: Path) -> None:
    for seed in range(10):
        assert check("digits.onnx", *MODEL, "--data", f"random:seed={seed}", "--limit", "24") == 0


def test_an_export_on_real_digits(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    limits = ["--min", "top1_accuracy:0.98", "--min-top1-agreement", "0.999", "--max-drop", "top1_accuracy:0.002"]
    arguments = [*MODEL, "--data", "digits.npz", "--reference-dtype", "float64", "--batch-size", "64", *limits]
    assert check("digits.onnx", *arguments, "--json", "check.json") == 0
    found = document()
    assert found["reference"] == "torch64"
    assert [info["name"] for info in found["backends"]][:3] == ["torch64", "torch", "ort"]
    assert found["backends"][1]["sha256"] == sha256_of_file(WEIGHTS)
    assert all(row["rel_l2"] < 2e-6 for rows in found["parity"].values() for row in rows)
    accuracy = {row["backend"]: row["value"] for row in found["metrics"] if row["name"] == "top1_accuracy"}
    assert accuracy["torch64"] == accuracy["torch"] == accuracy["ort"] > 0.99
    assert "loaded 26 tensors from" in capsys.readouterr().out


@pytest.mark.parametrize(
    "layer", ["conv1.weight", "conv4.weight", "fc.weight", "sn1.scale", "sn3.mean_offset", "sn4.bias"]
)
def test_one_wrong_number_in_any_layer_is_found(folder: Path, layer: str) -> None:
    model = onnx.load("digits.onnx")
    for tensor in model.graph.initializer:
        if tensor.name == layer:
            value = numpy_helper.to_array(tensor).copy()
            value.flat[value.size // 2] += 0.01
            tensor.CopyFrom(numpy_helper.from_array(value, layer))
            break
    else:
        pytest.fail(f"no {layer} among {[tensor.name for tensor in model.graph.initializer]}")
    onnx.save(model, "spoilt.onnx")
    assert check("spoilt.onnx", *MODEL, "--data", "digits.npz", "--limit", "32") == 1


def test_a_random_model_in_each_part_is_refused(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for number in (1, 2):
        arguments = ["--model", MODEL[1], "--shard", f"{number}/2", "--limit", "16", "--json", f"{number}.json"]
        assert check("digits.onnx", *arguments) == 0
    assert exit_code("merge", "1.json", "2.json") == 2
    assert "torch's settings, weights_sha256" in capsys.readouterr().err


def test_five_thousand_images_in_parts_are_one_run_to_the_bit(folder: Path) -> None:
    generator = np.random.default_rng(0)
    for number in range(5000):
        path = folder / "images" / f"class{number % 10}" / f"{number:04d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(generator.integers(0, 256, (8, 8), dtype=np.uint8)).save(path, compress_level=0)
    arguments = ["digits.onnx", "--data", "images", "--batch-size", "64", "--backend", "again=ort:digits.onnx"]
    assert check(*arguments, "--json", "whole.json") == 0
    parts = [f"part{number}.json" for number in range(1, 9)]
    for number, path in enumerate(parts, 1):
        assert check(*arguments, "--shard", f"{number}/8", "--json", path) == 0
    assert exit_code("merge", *reversed(parts), "-o", "merged.json") == 0
    whole, merged = without("whole.json"), without("merged.json")
    assert json.loads(whole)["samples"] == 5000
    assert json.loads(whole)["sample_names"]
    assert merged == whole


def without(path: str) -> str:
    """The document but for what tells one run from another."""
    found: dict[str, Any] = document(path)
    return json.dumps({key: value for key, value in found.items() if key not in OF_ONE_RUN})

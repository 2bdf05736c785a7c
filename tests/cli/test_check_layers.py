"""``sn-deploy check --layers`` as a user calls it: planted faults are named with the layer that they are in."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import pytest
import torch
from onnx import helper, numpy_helper

import sn_deploy
from sn_deploy.check.layers import run as layer_run
from sn_deploy.models.digits import WEIGHTS, load_pretrained
from sn_deploy.runtime.native import ort_library
from sn_deploy.runtime.torch import tensor_from_array
from tests.check.small_net import Weights, small_net, write_net
from tests.cli.command import exit_code
from tests.cli.test_check_command import check, document, swap_two_channels
from tests.cli.test_merge_command import OF_ONE_RUN

Array = npt.NDArray[Any]

MODEL = ("--model", "sn_deploy.models.digits:digits", "--checkpoint", str(WEIGHTS))
LAYERS = ["sn1", "sn2", "sn3", "sn4"]


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demo's network, exported by us, fused and not, in half precision, and by torch alone; and its digits."""
    from sn_deploy.check.digits_data import load_digits_split

    folder = tmp_path_factory.mktemp("digits")
    digits, model = load_digits_split(), load_pretrained()
    np.savez(folder / "digits.npz", x=digits.test_images, labels=digits.test_labels)
    example = tensor_from_array(digits.test_images[:2])
    sn_deploy.export(model, example, folder / "digits.onnx", dynamic="batch")
    sn_deploy.export(model, example, folder / "apart.onnx", dynamic="batch", fuse=False)
    sn_deploy.export(model, example, folder / "half.onnx", dynamic="batch", precision="fp16")
    torch.onnx.export(
        model,
        (example,),
        folder / "naive.onnx",
        dynamo=True,
        verbose=False,
        external_data=False,
        dynamic_shapes=({0: torch.export.Dim("batch")},),
    )
    return folder


@pytest.fixture
def folder(exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of the test's own, with links to them."""
    monkeypatch.chdir(tmp_path)
    for path in exported.iterdir():
        (tmp_path / path.name).symlink_to(path)
    return tmp_path


def layers(*arguments: str) -> int:
    data = [] if "--data" in arguments else ["--data", "digits.npz", "--limit", "24"]
    return check(*arguments, *data, "--layers", "--json", "check.json")


def reports(path: str = "check.json") -> dict[str, dict[str, Any]]:
    return {report["backend"]: report for report in document(path)["layers"]}


def spoil(source: str, name: str, change: Callable[[Array], None], path: str = "spoilt.onnx") -> str:
    """Writes ``source`` with one of its weights changed."""
    model = onnx.load(source)
    (tensor,) = [tensor for tensor in model.graph.initializer if tensor.name == name]
    value = numpy_helper.to_array(tensor).copy()
    change(value)
    tensor.CopyFrom(numpy_helper.from_array(value, name))
    onnx.save(model, path)
    return path


def test_every_way_to_write_and_to_run_a_file_is_looked_into(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = ["digits.onnx", "apart.onnx", "half.onnx", "naive.onnx"]
    assert layers(*files, *MODEL, "--reference-dtype", "float64") == 0
    found = reports()
    native = ["ort-native"] if ort_library() is not None else []
    names = [f"{kind}-{file}" for file in ("digits", "apart", "half") for kind in ("ort", *native)]
    assert list(found) == ["torch", *names, "ort-naive"]
    for name, report in found.items():
        assert [layer["layer"] for layer in report["layers"]] == LAYERS, name
        assert report["notes"] == []
        for layer in report["layers"]:
            limit = 1e-3 if "half" in name else 6e-7
            assert 0 < layer["own_rel_l2"] < limit
            assert 0 < layer["rel_l2"] < limit
    printed = capsys.readouterr().out
    assert "ort-naive: all 4 layers are within their tolerances." in printed
    assert "holds  ort-half: layers_outside_tolerance 0 <= 0" in printed


def test_a_right_export_passes_ten_times_out_of_ten(folder: Path) -> None:
    for seed in range(10):
        arguments = ["--data", f"random:seed={seed}", "--limit", "16"]
        assert layers("digits.onnx", "half.onnx", *MODEL, *arguments) == 0


def swap(value: Array) -> None:
    value[[3, 9]] = value[[9, 3]]


def one_wrong(value: Array) -> None:
    value.flat[value.size // 2] += 0.02


FAULTS: list[tuple[str, Callable[[Array], None], str, str]] = [
    ("sn1.scale", one_wrong, "sn1", "layer"),
    ("sn3.mean_offset", one_wrong, "sn3", "layer"),
    ("sn3.var_offset", one_wrong, "sn3", "layer"),
    ("sn4.bias", one_wrong, "sn4", "layer"),
    ("sn2.scale", swap, "sn2", "layer"),
    ("conv1.weight", one_wrong, "sn1", "before"),
    ("conv2.weight", swap, "sn2", "before"),
    ("conv4.weight", one_wrong, "sn4", "before"),
]


@pytest.mark.parametrize(("weight", "change", "culprit", "part"), FAULTS)
def test_a_planted_fault_is_named(
    folder: Path, weight: str, change: Callable[[Array], None], culprit: str, part: str
) -> None:
    for source in ("digits.onnx", "half.onnx") if weight in ("sn2.scale", "conv2.weight") else ("digits.onnx",):
        assert layers(spoil(source, weight, change), *MODEL) == 1
        for report in reports().values():
            assert (report["culprit"], report["culprit_part"]) == (culprit, part)


def test_without_pytorch_a_file_is_held_against_a_file(folder: Path) -> None:
    """The fault is in the file that is held against the right one, in whatever form both are."""
    for right in ("apart.onnx", "naive.onnx"):
        arguments = ["--backend", f"right=ort:{right}", "--reference", "right"]
        assert layers("digits.onnx", *arguments) == 0
        assert layers(spoil("digits.onnx", "sn3.scale", swap), *arguments) == 1
        assert reports()["ort"]["culprit"] == "sn3"
        assert reports()["ort"]["culprit_part"] == "layer"


def test_statistics_in_half_precision_are_named(folder: Path) -> None:
    """In the export of others, too: the second layer's mean over the positions goes through float16."""
    model = onnx.load("naive.onnx")
    means = [index for index, node in enumerate(model.graph.node) if node.op_type in ("ReduceMean", "ReduceSum")]
    index = means[len(means) // 4 + 2]
    node = model.graph.node[index]
    (name,) = node.output
    node.output[0] = f"{name}/float32"
    model.graph.node.insert(index + 1, helper.make_node("Cast", [f"{name}/float32"], [f"{name}/half"], to=10))
    model.graph.node.insert(index + 2, helper.make_node("Cast", [f"{name}/half"], [name], to=1))
    onnx.save(model, "spoilt.onnx")
    assert layers("spoilt.onnx", *MODEL) == 1
    report = reports()["ort"]
    assert (report["culprit"], report["culprit_part"]) == ("sn2", "layer")
    assert [layer["own_rel_l2"] > layer["own_tolerance"] for layer in report["layers"]] == [False, True, False, False]


def test_a_shifted_image_is_no_layers_fault(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = onnx.load("digits.onnx")
    (image,) = model.graph.input
    for node in model.graph.node:
        node.input[:] = ["shifted" if name == image.name else name for name in node.input]
    pads = numpy_helper.from_array(np.array([0, 0, 0, 1, 0, 0, 0, -1]), "pads")
    model.graph.initializer.append(pads)
    model.graph.node.insert(0, helper.make_node("Pad", [image.name, "pads"], ["shifted"]))
    onnx.save(model, "shifted.onnx")
    assert layers("shifted.onnx", *MODEL, "--html", "report.html") == 1
    for report in reports().values():
        assert (report["culprit"], report["culprit_part"]) == ("sn1", "before")
        assert all(layer["own_rel_l2"] <= layer["own_tolerance"] for layer in report["layers"])
    text = "no SN layer is at fault: what reaches the first one, sn1, is off by"
    assert text in capsys.readouterr().out
    assert text in (folder / "report.html").read_text()


def test_a_fault_behind_the_last_layer(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert layers(spoil("digits.onnx", "fc.weight", one_wrong), *MODEL) == 1
    assert reports()["ort"]["culprit"] is None
    assert "the fault is behind the last layer that was compared, sn4" in capsys.readouterr().out


def test_layers_that_only_one_file_has(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def without(*names: str) -> str:
        model = small_net()
        for node in model.graph.node:
            if node.output[0] in [f"{name}.y" for name in names]:
                node.CopyFrom(helper.make_node("Identity", node.input[:1], node.output))
        onnx.save(model, "".join(["net", *names]) + ".onnx")
        return "".join(["net", *names]) + ".onnx"

    both = ["--backend", f"both=ort:{without()}", "--reference", "both", "--data", "random"]
    assert layers("--backend", f"one=ort:{without('sn2')}", *both) == 1
    report = reports()["one"]
    assert [layer["layer"] for layer in report["layers"]] == ["sn1"]
    assert report["notes"] == ["one: not compared, since it has no such layers: sn2"]
    printed = capsys.readouterr().out
    assert "one: the one layer, sn1, is within its tolerances" in printed
    assert "the fault is behind the last layer that was compared, sn1" in printed
    assert (
        layers(
            "--backend",
            f"one=ort:{without('sn2')}",
            "--backend",
            "both=ort:net.onnx",
            "--reference",
            "one",
            "--data",
            "random",
        )
        == 1
    )
    assert reports()["both"]["notes"] == ["both: not compared, since the reference has no such layers: sn2"]
    none = ["--backend", f"none=ort:{without('sn1', 'sn2')}"]
    assert layers(*none, *both) == 2
    assert "--layers: no layer can be compared; none: not compared, since" in capsys.readouterr().err
    assert layers(*none, "--backend", "both=ort:net.onnx", "--reference", "none", "--data", "random") == 2
    assert "--layers, none: has no SN layer that could be found" in capsys.readouterr().err


def test_overflow_is_named_where_it_begins(folder: Path) -> None:
    def grow(value: Array) -> None:
        value *= 6e4 / np.abs(value).max().astype(np.float32)

    spoil("half.onnx", "conv3.weight", grow)
    assert layers("spoilt.onnx", *MODEL) == 1
    for report in reports().values():
        assert (report["culprit"], report["culprit_part"]) == ("sn3", "before")
        assert report["layers"][2]["input_rel_l2"] is None


@pytest.mark.skipif(ort_library() is None, reason="the custom-op library wasn't built")
def test_an_optimised_file_is_looked_into_on_its_blocks(folder: Path) -> None:
    from sn_deploy.runtime.ort import block_size

    if block_size() is None:
        pytest.skip("ONNX Runtime has no blocked layout on this processor")
    assert exit_code("optimise", "digits.onnx", "-o", "optimised.onnx", "--for", "ort-cpu") == 0
    assert layers("optimised.onnx", *MODEL) == 0
    (report,) = reports().values()
    assert [layer["layer"] for layer in report["layers"]] == LAYERS
    assert all(layer["own_rel_l2"] < 1e-6 for layer in report["layers"])


def test_weights_beside_the_file_are_found(folder: Path) -> None:
    onnx.save(onnx.load("digits.onnx"), "outside.onnx", save_as_external_data=True, location="data", size_threshold=99)
    assert (folder / "data").is_file()
    assert layers("outside.onnx", *MODEL) == 0
    assert [layer["layer"] for layer in reports()["ort"]["layers"]] == LAYERS


def test_parts_merge_to_the_bit_of_one_run(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # So little that each batch is run in several slices.
    monkeypatch.setattr(layer_run, "_MOST_BYTES", 200_000)
    arguments = ["half.onnx", *MODEL, "--data", "digits.npz", "--limit", "60", "--batch-size", "16", "--layers"]
    assert check(*arguments, "--json", "whole.json") == 0
    for number in (1, 2, 3):
        assert check(*arguments, "--shard", f"{number}/3", "--json", f"{number}.json") == 0
    assert exit_code("merge", "3.json", "1.json", "2.json", "-o", "merged.json") == 0
    whole, merged = (
        {key: value for key, value in document(path).items() if key not in OF_ONE_RUN}
        for path in ("whole.json", "merged.json")
    )
    assert whole["layers"]
    assert json.dumps(merged) == json.dumps(whole)
    assert check(*arguments[:-1], "--shard", "3/3", "--json", "3.json") == 0
    assert exit_code("merge", "3.json", "1.json", "2.json") == 2


def test_tolerances_of_layers(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert layers("digits.onnx", *MODEL, "--layer-tolerance", "rel_l2=1e-9") == 1
    printed = capsys.readouterr()
    assert "the first: sn1" in printed.out
    assert "the first layer that is off: ort: sn1" in printed.err
    spoil("digits.onnx", "sn3.bias", one_wrong)
    wide = ["--layer-tolerance", "rel_l2=1,own_rel_l2=1", "--max-rel-l2", "1"]
    assert layers("spoilt.onnx", *MODEL, *wide) == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--layer-tolerance", "rel_l2=1"], "without effect"),
        (["--layers", "--layer-tolerance", "cosine=1"], "no figure 'cosine'.*rel_l2, own_rel_l2"),
        (["--layers", "--layer-tolerance", "rel_l2=x"], "'x' is no number"),
    ],
)
def test_wrong_usage(folder: Path, arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert check("digits.onnx", "apart.onnx", "--reference", "ort-digits", *arguments) == 2
    assert re.search(message, capsys.readouterr().err)


def test_a_file_without_layers_is_refused_in_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    graph = '<ir_version: 8, opset_import: ["": 18]> g (float[N,4] x) => (float[N,4] y) { y = Relu(x) }'
    for name in ("one.onnx", "two.onnx"):
        onnx.save(onnx.parser.parse_model(graph), name)
    assert check("one.onnx", "two.onnx", "--layers") == 2


def test_hand_written_files_of_two_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_net(tmp_path / "net.onnx")

    def wrong(tensors: Weights) -> None:
        swap_two_channels(tensors)

    write_net(tmp_path / "spoilt.onnx", spoil=wrong)
    arguments = ["net.onnx", "spoilt.onnx", "--reference", "ort-net", "--layers", "--json", "check.json"]
    assert check(*arguments) == 1
    assert reports()["ort-spoilt"]["culprit"] == "sn1"
    assert reports()["ort-spoilt"]["culprit_part"] == "layer"

"""`sn_deploy.check.check`: what the command finds, of a model and data in memory, which stay as they were."""

from __future__ import annotations

import copy
import json
import re
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper
from torch.utils.data import DataLoader, TensorDataset

import sn_deploy
from sn_deploy.calibrate import calibrate
from sn_deploy.check import Bisect, DataOptions, Latency, LayerTolerance, Limits, check
from sn_deploy.check.data.open import open_data
from sn_deploy.check.digits_data import load_digits_split
from sn_deploy.check.document import read_document
from sn_deploy.check.merge import merge_parts, read_parts
from sn_deploy.check.report.html import write_html
from sn_deploy.check.result import CheckResult, as_json
from sn_deploy.check.shard import parse_shard
from sn_deploy.errors import CheckFailedError, SnDeployError, SnDeployWarning
from sn_deploy.models.digits import WEIGHTS, load_pretrained
from sn_deploy.precision import convert_precision, quantize
from sn_deploy.precision.samples import SampleOptions
from sn_deploy.runtime.tensors import TensorInfo
from sn_deploy.runtime.torch import tensor_from_array
from sn_deploy.specialise import Budget, specialise
from tests.check.small_net import write_net
from tests.cli.command import exit_code, run

SAMPLES = 40
# What differs between a command and a call: who asked, when, and where the weights came from.
OF_THE_CALL = {"command", "created", "seconds", "machine", "backends"}


@pytest.fixture(scope="module")
def model() -> torch.nn.Module:
    return load_pretrained()


@pytest.fixture(scope="module")
def file(model: torch.nn.Module, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("digits") / "digits.onnx"
    sn_deploy.export(model, torch.zeros(1, 1, 8, 8), path, dynamic="batch")
    return path


@pytest.fixture(scope="module")
def images() -> torch.Tensor:
    return tensor_from_array(load_digits_split().test_images[:SAMPLES])


@pytest.fixture(scope="module")
def labels() -> torch.Tensor:
    return tensor_from_array(load_digits_split().test_labels[:SAMPLES])


def spoilt(file: Path, path: Path, weight: str) -> Path:
    """The file with one number of one weight changed."""
    made = onnx.load(file)
    tensor = next(tensor for tensor in made.graph.initializer if tensor.name == weight)
    value = numpy_helper.to_array(tensor).copy()
    value.flat[value.size // 2] += 0.05
    tensor.CopyFrom(numpy_helper.from_array(value, weight))
    onnx.save(made, path)
    return path


def first_is_largest(outputs: dict[str, Any], labels: Any) -> Any:
    """A metric of the program's own."""
    return next(iter(outputs.values())).argmax(axis=1) == labels


def test_parts_give_the_whole_to_the_bit(
    file: Path, model: torch.nn.Module, images: torch.Tensor, labels: torch.Tensor, tmp_path: Path
) -> None:
    def part(number: int | None) -> CheckResult:
        shard = {2: parse_shard("2/3"), None: None}.get(number, f"{number}/3")
        metrics: Any = [first_is_largest, "tests.check.test_run_from_python:first_is_largest"]
        return check(file, model=model, data=(images, labels), layers=True, metrics=metrics, shard=shard)

    parts, whole = [part(3), part(1), part(2)], part(None)
    assert [one.shard for one in parts] == ["3/3", "1/3", "2/3"]
    assert [one.samples for one in parts] == [8, 16, 16]
    assert repr(parts[0]).startswith("<CheckResult: part 3/3, ort")
    allowed = [first_is_largest, "tests.check.test_run_from_python:first_is_largest"]
    merged = merge_parts(parts, user_metrics=allowed)
    assert without_the_call(merged) == without_the_call(whole)
    assert sum(row.name == "first_is_largest" for row in merged.metrics) == 6
    for one in parts:
        one.write_json(tmp_path / f"{str(one.shard)[0]}.json")
    read = read_parts(sorted(tmp_path.iterdir()))
    assert without_the_call(merge_parts(read, user_metrics=allowed)) == without_the_call(merged)


def without_the_call(result: CheckResult) -> dict[str, Any]:
    return {key: value for key, value in as_json(result).items() if key not in {"created", "seconds"}}


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        (lambda one, whole: [one], r"1 of 2 parts missing: 2/2; run them, with shard=…"),
        (lambda one, whole: [one, one], r"parts\[1\]: is part 1/2, as parts\[0\] is"),
        (lambda one, whole: [whole], r"parts\[0\]: is a whole result, not a part"),
        (lambda one, whole: ["part1.json"], r"parts\[0\]: is a str .expected a CheckResult of a part.; read files"),
        (lambda one, whole: [], "there are no parts"),
        (lambda one, whole: one, "parts: is a CheckResult .expected the CheckResults of all parts"),
    ],
)
def test_what_is_no_set_of_parts(
    parts: Callable[..., Any], message: str, file: Path, model: torch.nn.Module, images: torch.Tensor
) -> None:
    one, whole = check(file, model=model, data=images, shard="1/2"), check(file, model=model, data=images)
    with pytest.raises(SnDeployError, match=message):
        merge_parts(parts(one, whole))


def test_labels_that_nothing_is_done_with_are_told(
    file: Path, model: torch.nn.Module, images: torch.Tensor, labels: torch.Tensor
) -> None:
    one_hot = torch.nn.functional.one_hot(labels, 10)
    as_numbers = check(file, model=model, data=(images, labels))
    assert check(file, model=model, data=(images, one_hot)).metrics == as_numbers.metrics
    boxes = torch.rand(SAMPLES, 4)
    with pytest.warns(
        SnDeployWarning, match=r"no accuracies are given: labels float32 \(8, 4\) fit no output .*, or task='none'"
    ) as told:
        check(file, model=model, data=(images, boxes))
    assert {one.filename for one in told} == {__file__}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check(file, model=model, data=(images, boxes), task="none")
        check(file, model=model, data=(images, boxes), metrics=lambda outputs, labels: np.ones(len(labels)))


def test_it_finds_what_the_command_finds(
    file: Path, model: torch.nn.Module, images: torch.Tensor, labels: torch.Tensor, tmp_path: Path
) -> None:
    np.savez(tmp_path / "digits.npz", x=images.numpy(), labels=labels.numpy())
    options = ["--model", "sn_deploy.models.digits:digits", "--checkpoint", str(WEIGHTS), "--no-latency", "--layers"]
    limits = ["--min-top1-agreement", "0.9", "--max-drop", "top1_accuracy:0.1", "--batch-size", "16"]
    data = ["--data", str(tmp_path / "digits.npz"), "--json", str(tmp_path / "check.json")]
    assert exit_code("check", file, *options, *limits, *data) == 0
    expected = read_document(tmp_path / "check.json")
    result = check(
        file,
        model=model,
        data=tmp_path / "digits.npz",
        batch_size=16,
        layers=True,
        limits=Limits(minima={"top1_agreement": 0.9}, drops={"top1_accuracy": 0.1}),
    )
    found = as_json(result)
    assert {key: found[key] for key in found.keys() - OF_THE_CALL} == {
        key: expected[key] for key in expected.keys() - OF_THE_CALL
    }
    for one, other in zip(found["backends"], expected["backends"], strict=True):
        assert one["settings"].get("weights_sha256") == other["settings"].get("weights_sha256")
    assert found["backends"][0]["settings"]["model"] == "sn_deploy.models.digits:DigitsNet"
    assert found["command"] == ""


def test_samples_in_memory_are_the_same_samples(
    file: Path, model: torch.nn.Module, images: torch.Tensor, labels: torch.Tensor
) -> None:
    def batches() -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        yield from zip(images.split(8), labels.split(8), strict=True)

    ways: dict[str, object] = {
        "dict": {"x": images, "labels": labels},
        "arrays": {"x": images.numpy(), "labels": labels.numpy()},
        "dataset": TensorDataset(images, labels),
        "loader": DataLoader(TensorDataset(images, labels), batch_size=8),
        "list of batches": list(batches()),
        "list of samples": list(zip(images, labels, strict=True)),
        "function": batches,
    }
    results = {name: check(file, model=model, data=data) for name, data in ways.items()}
    assert {result.samples for result in results.values()} == {SAMPLES}
    assert str(results["dataset"]).startswith(f"data: {SAMPLES} samples (callable TensorDataset), in batches of 8\n")
    first = results["dict"]
    assert {row.name for row in first.metrics} >= {"top1_accuracy", "top1_agreement"}
    for name, result in results.items():
        assert (name, result.parity, result.metrics) == (name, first.parity, first.metrics)
    unlabelled = check(file, model=model, data=images)
    assert unlabelled.parity == first.parity
    assert "top1_accuracy" not in {row.name for row in unlabelled.metrics}
    assert check(file, model=model, data=images, limit=9).samples == 9
    assert check(file, model=model, data=DataOptions({"x": images, "labels": labels}, labels="none")).metrics == (
        unlabelled.metrics
    )


def test_the_model_stays_as_it_is(file: Path, images: torch.Tensor) -> None:
    model = load_pretrained().double().train()
    before = copy.deepcopy(model.state_dict())
    assert check(file, model=torch.nn.DataParallel(model), data=images, layers=True).passed
    assert model.training
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert not any(module._forward_hooks for module in model.modules())


def test_one_wrong_number_fails_and_is_found(file: Path, model: torch.nn.Module, tmp_path: Path) -> None:
    wrong = spoilt(file, tmp_path / "wrong.onnx", "sn3.mean_offset")
    result = check(wrong, model=model, limit=16, layers=True)
    assert not result.passed
    assert result.failed
    assert {report.culprit for report in result.layers} == {"sn3"}
    with pytest.raises(CheckFailedError, match=r"limits don't hold, the first: ort: .* layer that is off: ort.*: sn3"):
        result.raise_if_failed()
    allowed = check(wrong, model=model, limit=16, max_rel_l2=1.0, layers=LayerTolerance(1.0, 1.0))
    assert allowed.passed
    assert allowed.failed == ()
    allowed.raise_if_failed()


def test_limits_add_up(file: Path, model: torch.nn.Module) -> None:
    limits = Limits(tolerances={"*": {"max_abs": 0.0}, "linear": {"cosine": 0.5}})
    result = check(file, model=model, limit=8, limits=limits, max_rel_l2=0.5)
    assert result.parity["ort"][0].tolerance.items() >= {"max_abs": 0.0, "cosine": 0.5, "rel_l2": 0.5}.items()
    assert {one.metric for one in result.failed} <= {"max_abs"}


class Largest:
    """A metric of the user's: the largest score."""

    def __init__(self) -> None:
        self.found = -np.inf

    def update(self, outputs: dict[str, Any], labels: Any) -> None:
        self.found = max(self.found, float(outputs["linear"].max()))

    def value(self) -> float:
        return self.found


def test_metrics_in_memory(file: Path, model: torch.nn.Module, images: torch.Tensor) -> None:
    def positive(outputs: dict[str, Any], labels: Any) -> Any:
        return outputs["linear"].max(1) > 0

    result = check(file, model=model, data=images, metrics=[positive, Largest])
    figures = {(row.name, row.backend): row.value for row in result.metrics}
    with torch.no_grad():
        scores = model(images).numpy()
    assert figures["positive", "torch"] == (scores.max(1) > 0).mean()
    assert figures["Largest", "torch"] == scores.max()


class Found:
    """How many of the classes that a sample shows are among its scores above 0."""

    def __init__(self) -> None:
        self.found, self.shown = 0, 0

    def update(self, outputs: dict[str, Any], labels: Any) -> None:
        for scores, target in zip(outputs["linear"], labels, strict=True):
            self.found += int((scores[target["classes"]] > 0).sum())
            self.shown += len(target["classes"])
            target["classes"] -= 1  # its own to write to

    def value(self) -> float:
        return self.found / self.shown


def test_a_detectors_labels_reach_its_metric(file: Path, model: torch.nn.Module, images: torch.Tensor) -> None:
    generator = np.random.default_rng(0)
    targets = [
        {"classes": torch.from_numpy(generator.integers(0, 10, n))} for n in generator.integers(0, 4, len(images))
    ]
    result = check(file, model=model, data=list(zip(images, targets, strict=True)), metrics=Found)
    with torch.no_grad():
        scores = model(images)
    of_shown = torch.cat([row[target["classes"]] for row, target in zip(scores, targets, strict=True)])
    expected = (of_shown > 0).double().mean().item()
    assert {row.value for row in result.metrics if row.name == "Found"} == {expected}
    with pytest.warns(SnDeployWarning, match="labels that are no numbers fit no output"):
        check(file, model=model, data=list(zip(images, targets, strict=True)))
    calibrated = calibrate(model, [(images, targets)])
    for own, plain in zip(calibrated.layers, calibrate(model, [images]).layers, strict=True):
        np.testing.assert_array_equal(own.mean, plain.mean)


def test_without_a_model_the_first_file_is_the_reference(tmp_path: Path) -> None:
    write_net(tmp_path / "one.onnx")
    write_net(tmp_path / "two.onnx", shift=True)
    result = check(tmp_path / "one.onnx", tmp_path / "two.onnx", limit=8)
    assert result.reference == "ort-one"
    assert not result.passed


def test_open_axes_get_the_size_of_the_example(tmp_path: Path) -> None:
    file = write_net(tmp_path / "open.onnx", size="side")
    with pytest.raises(SnDeployError, match=r"no fixed size to draw samples of"):
        check(file, backends=[f"same=ort:{file}"], limit=8)
    for example in (torch.zeros(1, 3, 9, 7), (torch.zeros(2, 3, 9, 7),), {"image": np.zeros((1, 3, 9, 7), np.float32)}):
        result = check(file, backends=[f"same=ort:{file}"], example_inputs=example, limit=8)
        assert result.data["shapes"] == {"image": [3, 9, 7]}


def test_times_and_speedups(file: Path, model: torch.nn.Module) -> None:
    from sn_deploy.check.timing import Speedup

    done: list[None] = []
    wanted = Latency(batches=[2], calls=3, speedups=[Speedup("ort", "torch", 1e9)])
    result = check(file, model=model, limit=16, latency=wanted, on_batch=lambda: done.append(None))
    assert len(done) == 2
    assert result.latency is not None
    assert {row.batch for row in result.latency.results} == {2}
    assert "times_ms" not in repr(result.latency)
    assert [one.metric for one in result.failed] == ["speedup"]
    assert check(file, model=model, limit=1).latency is None


def test_the_layers_that_must_stay_in_float32(tmp_path: Path) -> None:
    right = write_net(tmp_path / "right.onnx")
    half = write_net(tmp_path / "half.onnx", dtype="float16")
    with pytest.warns(
        SnDeployWarning, match=f"what overflows on a GPU passes there; add backends='rounded=ort-rounded:{half}'"
    ):
        result = check(right, half, reference="ort-right", limit=16, max_rel_l2=1e-7, bisect=Bisect(runs=3))
    assert result.bisect is not None
    assert result.bisect.runs <= 3


def pretty(value: Any) -> str:
    """What a notebook shows where `repr` isn't all that a value has to say."""
    shown: list[str] = []
    value._repr_pretty_(SimpleNamespace(text=shown.append), False)
    return "".join(shown)


def test_what_is_printed_and_written(
    file: Path, model: torch.nn.Module, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    result = check(file, model=model, limit=8)
    text = str(result)
    assert "Difference from torch" in text
    assert text.startswith("data: 8 samples (random; seed 0, distribution normal")
    assert "holds  ort: linear: rel_l2" in text
    assert "\x1b" not in text
    assert re.fullmatch(r"passed: all \d+ limits hold", text.splitlines()[-1])
    strict = check(file, model=model, limit=8, limits=Limits(tolerances={"*": {"rel_l2": 1e-12}}))
    assert str(strict).splitlines()[-1] == f"failed: {len(strict.failed)} of {len(strict.assertions)} limits don't hold"
    assert re.fullmatch(r"<CheckResult: ort.* against torch, 8 samples: every limit holds>", repr(result))
    assert text in pretty(result)
    result.write_json(tmp_path / "check.json")
    assert read_document(tmp_path / "check.json") == json.loads(json.dumps(as_json(result)))
    result.write_html(tmp_path / "report.html")
    with pytest.raises(SnDeployError, match=r"is the result itself; call its own: result.write_html"):
        write_html(result, tmp_path / "again.html")
    page = (tmp_path / "report.html").read_text()
    assert "A program called it from Python" in page
    assert "The command" not in page
    code, out, _ = run(capsys, "report", tmp_path / "check.json", "-o", tmp_path / "again.html")
    assert (code, out) == (
        0,
        f"wrote {tmp_path / 'again.html'}; no script that repeats it: the check was called from Python\n",
    )
    assert (tmp_path / "again.html").read_text() == page
    assert sorted(path.name for path in tmp_path.iterdir()) == ["again.html", "check.json", "report.html"]


def test_the_likely_cause_is_a_warning(tmp_path: Path) -> None:
    model = load_pretrained()
    sn_deploy.export(model, torch.zeros(1, 1, 8, 8), tmp_path / "net.onnx", dynamic="batch")
    with torch.no_grad():
        for module in model.modules():
            if hasattr(module, "running_mean"):
                module.running_var.add_(module.running_mean.square()).mul_(50)
                module.running_mean.mul_(50)
    with pytest.warns(UserWarning, match="why it may have failed: layer 'sn.*give finalize_batch_average=N") as warned:
        assert not check(tmp_path / "net.onnx", model=model, data=torch.rand(8, 1, 8, 8)).passed
    assert warned[0].filename == __file__
    assert check(tmp_path / "net.onnx", model=model, data=torch.rand(8, 1, 8, 8), finalize_batch_average=50).passed


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda file, model: check(model, file), r"a file: is a DigitsNet .*give the model as model="),
        (lambda file, model: check(file, model="mynets:net"), r"the model is a str .*build the model"),
        (lambda file, model: check(file, model=type(model)), r"the model is a .*give an instance of it"),
        (lambda file, model: check(model=model), "there is nothing to compare torch with"),
        (lambda file, model: check(3), r"a file: is a int"),
        (lambda file, model: check(file, model=model, data=3), "data, a int: gives a int .expected something to"),
        (
            lambda file, model: check(file, model=model, data=iter([torch.zeros(1, 1, 8, 8)])),
            "can be iterated only once; give a function that makes the iterator",
        ),
        (
            lambda file, model: check(file, model=model, data=torch.zeros(4, 3, 8, 8)),
            r"data: samples for x are float32",
        ),
        (lambda file, model: check(file, model=model, data=[]), "gives no samples"),
        (lambda file, model: check(file, model=model, data={"x": ["a"]}), "data, x: is a list .expected an array"),
        (lambda file, model: check(file, model=model, shard="3/2"), "shard: can't be read: '3/2'"),
        (lambda file, model: check(file, model=model, shard=2), "shard: is a int .expected a Shard"),
        (lambda file, model: DataOptions(shard="1/2"), r"DataOptions.shard: is a str"),
        (lambda file, model: check(file, model=model, shard="1/2", latency=True), "^latency and .*can't be part"),
        (lambda file, model: check(file, finalize_batch_average=3), "finalize_batch_average: no model is given"),
    ],
)
def test_what_cannot_be_checked(
    call: Callable[[Path, torch.nn.Module], object], message: str, file: Path, model: torch.nn.Module
) -> None:
    with pytest.raises(SnDeployError, match=message):
        call(file, model)


def test_the_other_functions_take_the_same_data(
    file: Path, model: torch.nn.Module, images: torch.Tensor, labels: torch.Tensor, tmp_path: Path
) -> None:
    loader = DataLoader(TensorDataset(images, labels), batch_size=8)
    np.savez(tmp_path / "digits.npz", x=images.numpy(), labels=labels.numpy())
    made = []
    for samples in (SampleOptions(DataOptions(tmp_path / "digits.npz")), DataOptions(loader), loader, (images, labels)):
        quantize(file, tmp_path / "int8.onnx", precision="int8", samples=samples)
        made.append((tmp_path / "int8.onnx").read_bytes())
    assert len(set(made)) == 1
    report = convert_precision(file, tmp_path / "fp16.onnx", precision="fp16", samples=images)
    assert report.proof.samples == SAMPLES
    special = specialise(file, tmp_path / "special.onnx", budget=Budget(rel_l2=0.1), data=loader)
    assert special.data["samples"] == SAMPLES
    with pytest.raises(SnDeployError, match=r"^budget: is a float \(expected a Budget\)$"):
        specialise(file, tmp_path / "special.onnx", budget=0.1, data=loader)
    source = open_data(DataOptions(loader), [TensorInfo("x", ("N", 1, 8, 8), np.dtype(np.float32))])
    assert calibrate(model, source).samples == SAMPLES


def test_the_package_alone_imports_no_runtime() -> None:
    code = (
        "import sys, sn_deploy.check; print([n for n in ('torch', 'onnxruntime', 'onnx', 'numpy') if n in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"

"""Users' own variants: a registered reader is asked first, and believed only where the layer itself agrees."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import sn_deploy
from sn_deploy.errors import SnDeployError
from sn_deploy.nn import SwitchNorm2d
from sn_deploy.recognise import Reading, candidate_names, readers, recognise, register, unregister
from sn_deploy.runtime.ort import OrtSession
from tests.randomise import randomise_
from tests.recognise.registered import C, Packed, net, read
from tests.tolerances import TOLERANCES


@pytest.fixture
def reader() -> Iterator[None]:
    register(read)
    yield
    unregister(read)
    assert not readers._readers


def test_without_a_reader_it_is_no_candidate():
    assert candidate_names(net()) == ["3"]


@pytest.mark.usefixtures("reader")
def test_a_reader_makes_it_a_layer_like_any_other(tmp_path: Path):
    model = net()
    assert candidate_names(model) == ["1", "3"]
    folded = recognise(model).layers["1"]
    x = np.random.default_rng(0).normal(0.5, 2.0, (3, C, 5, 4))
    with torch.no_grad():
        expected = model[1].double()(torch.from_numpy(x)).numpy()
    np.testing.assert_allclose(folded.evaluate(x), expected, rtol=1e-9, atol=1e-9)
    image = torch.randn(2, 3, 9, 9)
    report = sn_deploy.export(net(), image, tmp_path / "net.onnx", dynamic="batch")
    assert report.forms == {"SwitchNormRelu": 1, "SwitchNorm": 1}
    with OrtSession(tmp_path / "net.onnx") as session, torch.no_grad():
        (y,) = session.run({session.inputs[0].name: image.numpy()}).values()
        reference = net().double()(image.double()).numpy()
    assert np.linalg.norm(y - reference) < TOLERANCES["float32"].rel_l2 * np.linalg.norm(reference)


@pytest.mark.usefixtures("reader")
def test_the_probe_guards_it():
    refused = recognise(net(fault=1e-6)).refused["1"]
    assert "of its output from what the reader read reads of it" in refused.reason
    assert refused.mend == "correct the reader read"


@pytest.mark.parametrize(
    "change",
    [
        {"eps": 1e-5},
        {"ddof": 1},
        {"mean": {"in": 0.2, "ln": 0.3, "bn": 0.5}},
        {"scale": None},
        {"bias": torch.zeros(C)},
        {"running_mean": torch.zeros(C)},
        {"running_var": np.ones((1, C, 1))},
    ],
)
def test_a_wrong_reading_is_refused_whatever_is_wrong(change):
    def wrong(module: nn.Module) -> Reading | None:
        right = read(module)
        return right and replace(right, **change)

    register(wrong)
    try:
        assert "differs by" in recognise(net()).refused["1"].reason
        with pytest.raises(SnDeployError, match=r"^layer '1': differs by"):
            sn_deploy.export(net(), torch.zeros(1, 3, 9, 9), "never.onnx")
    finally:
        unregister(wrong)


RIGHT = read(Packed())


@pytest.mark.parametrize(
    ("reading", "reason"),
    [
        ("no reading", "gives a str, not a Reading"),
        (KeyError("packed"), "fails: KeyError"),
        (replace(RIGHT, scale=torch.ones(C + 1)), "gives vectors of [6, 7] values"),
        (Reading({"in": 1.0}, {"in": 1.0}), "tells no number of channels"),
        (replace(RIGHT, mean={"gn": 1.0}), "gives the shares {'gn': 1.0} of the mean"),
        (replace(RIGHT, var=None), "gives shares of the var that are no dict"),
        (replace(RIGHT, running_mean=None), "gives a share of bn and no running statistics"),
        (replace(RIGHT, mean={"in": 1.0}, var={"in": 1.0}), "gives running statistics and no share of bn"),
        (replace(RIGHT, ddof=2), "gives ddof 2"),
        (replace(RIGHT, scale=["a"]), "gives a scale that is no array"),
        (replace(RIGHT, bias=torch.full((C,), float("nan"))), "bias has values that are not finite"),
    ],
)
def test_bad_readings_refuse_the_layer_by_name(reading, reason):
    def bad(module: nn.Module) -> Reading | None:
        if not isinstance(module, Packed):
            return None
        if isinstance(reading, Exception):
            raise reading
        return reading

    register(bad)
    try:
        found = recognise(net())
        assert reason in found.refused["1"].reason
        assert list(found.layers) == ["3"]
    finally:
        unregister(bad)


def test_a_claim_takes_all_modules_inside_and_the_last_reader_is_asked_first():
    class Wrapped(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = randomise_(SwitchNorm2d(C), 2)

        def forward(self, x: Tensor) -> Tensor:
            return self.inner(x) * 2 + 1

    def doubled(module: nn.Module) -> Reading | None:
        if not isinstance(module, Wrapped):
            return None
        inner = module.inner
        w, v = (dict(zip(("in", "ln", "bn"), p.softmax(0), strict=True)) for p in (inner.mean_weight, inner.var_weight))
        return Reading(w, v, 2 * inner.weight, 2 * inner.bias + 1, inner.running_mean, inner.running_var)

    def never(module: nn.Module) -> Reading | None:
        raise AssertionError("it was registered first, and so is asked last")

    model = Wrapped()
    assert candidate_names(model) == ["inner"]
    register(never)
    register(doubled)
    try:
        found = recognise(model)
        assert list(found.layers) == [""]
        assert not found.refused
    finally:
        unregister(doubled)
        unregister(never)


def test_registering_twice_is_once_and_what_is_no_function_is_refused():
    register(read)
    register(read)
    assert readers._readers == [read]
    unregister(read)
    unregister(read)
    assert not readers._readers
    with pytest.raises(SnDeployError, match="a reader is a str"):
        register("read")


def test_a_user_registers_in_the_file_of_the_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """The command line imports the model's module, and so the reader in it."""
    from tests.cli.command import exit_code

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [str(Path(__file__).parents[2]), *sys.path])
    code = (
        "from sn_deploy.recognise import register\nfrom tests.recognise.test_readers import net, read\nregister(read)\n"
    )
    (tmp_path / "own_variant.py").write_text(code, encoding="utf-8")
    try:
        assert exit_code("export", "--model", "own_variant.py:net", "--input", "1x3x9x9", "-o", "net.onnx") == 0
    finally:
        unregister(read)
    assert Path("net.onnx").is_file()

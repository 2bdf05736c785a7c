"""The probe catches a reader that is wrong: faults planted in our own reading of a correct layer."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from sn_deploy import nn as sn
from sn_deploy.folded import FoldedSwitchNorm, distance
from sn_deploy.recognise import examination, recognise
from sn_deploy.recognise.candidates import candidate_from_module
from sn_deploy.recognise.forms import Constants, Form, constants_from_candidate, fold, forms
from sn_deploy.recognise.probe import TOLERANCE, mismatch, probe_inputs, run_probes
from sn_deploy.recognise.subject import Subject
from tests.randomise import randomise_
from tests.recognise import deviants
from tests.recognise.variants import ReferenceSN, trained_

CHANNELS = 6


def read(seed: int) -> tuple[Constants, Form, FoldedSwitchNorm, list]:
    layer = randomise_(sn.SwitchNorm2d(CHANNELS), seed)
    candidate = candidate_from_module("norm", layer)
    constants = constants_from_candidate(candidate, CHANNELS)
    form = next(forms(constants, [("in", "ln", "bn")], [layer.eps]))
    probes = run_probes(Subject(layer), probe_inputs(CHANNELS, 4, constants, 0))
    return constants, form, fold("norm", constants, form), probes


FAULTS = {
    "mean order": lambda f: replace(f, mean_in=f.mean_ln, mean_ln=f.mean_in),
    "variance order": lambda f: replace(f, var_in=f.var_ln, var_ln=f.var_in),
    "roles swapped": lambda f: replace(
        f, mean_in=f.var_in, mean_ln=f.var_ln, mean_bn=f.var_bn, var_in=f.mean_in, var_ln=f.mean_ln, var_bn=f.mean_bn
    ),
    "divisor": lambda f: replace(f, ddof=0),
    "no eps": lambda f: replace(f, var_offset=f.var_offset - 1e-5),
    "another eps": lambda f: replace(f, var_offset=f.var_offset - 9e-6),
    "eps inside the share": lambda f: replace(f, var_offset=f.var_offset - 1e-5 * (1 - f.var_bn)),
    "no bias": lambda f: replace(f, bias=np.zeros(CHANNELS)),
    "channels shifted": lambda f: replace(f, scale=np.roll(f.scale, 1)),
    "mean offset lost": lambda f: replace(f, mean_offset=np.zeros(CHANNELS)),
    "variance offset lost": lambda f: replace(f, var_offset=np.full(CHANNELS, 1e-5)),
    "share not applied": lambda f: replace(f, mean_offset=f.mean_offset / f.mean_bn),
    "float16 constants": lambda f: replace(f, scale=f.scale.astype(np.float16).astype(np.float64)),
}


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("fault", FAULTS)
def test_a_planted_fault_is_caught(fault, seed):
    _, _, folded, probes = read(seed)
    assert mismatch(folded, probes) <= TOLERANCE
    assert mismatch(FAULTS[fault](folded), probes) > 10 * TOLERANCE


@pytest.mark.parametrize("fault", ["order", "eps outside the shares", "statistics"])
def test_recognition_with_a_faulty_reader_refuses(monkeypatch, fault):
    """The same through the public function, with the layer's behaviour not allowed to correct the reader."""
    layer = trained_(ReferenceSN())
    assert recognise(layer).layers
    monkeypatch.setattr(examination, "solutions", lambda *_: iter(()))
    if fault == "order":
        monkeypatch.setattr(examination, "branch_orders", lambda *_: [("ln", "in", "bn")])
    elif fault == "statistics":
        original = constants_from_candidate
        monkeypatch.setattr(
            examination,
            "constants_from_candidate",
            lambda *args: replace(original(*args), running_var=original(*args).running_var ** 2),
        )
    else:
        monkeypatch.setattr(
            examination,
            "fold",
            lambda *args: replace(folded := fold(*args), var_offset=folded.var_offset - 1e-5 * (1 - folded.var_bn)),
        )
    found = recognise(layer)
    assert not found.layers
    assert "differs from Switchable Normalization by" in found.refused[""].reason


def test_a_wrong_order_alone_is_corrected_by_the_layers_behaviour(monkeypatch):
    layer = trained_(ReferenceSN())
    expected = recognise(layer).layers[""]
    monkeypatch.setattr(examination, "branch_orders", lambda *_: [("ln", "in", "bn")])
    found = recognise(layer).layers[""]
    for field in ("mean_in", "mean_ln", "mean_bn", "var_in", "var_ln", "var_bn"):
        assert getattr(found, field) == pytest.approx(getattr(expected, field), abs=1e-9)


def test_probes_differ_by_sample_and_channel_and_leave_sizes_ambiguous_with_none():
    constants, *_ = read(0)
    inputs = probe_inputs(CHANNELS, 4, constants, 0)
    assert len(inputs) == 5
    for x in inputs:
        assert x.shape[0] >= 2
        assert CHANNELS not in x.shape[2:]
        assert np.array_equal(x.astype(np.float32), x)
        means = x.mean(axis=(2, 3))
        assert len(np.unique(means.round(7))) == means.size
    assert np.abs(inputs[0]).max() < 0.1  # eps shows where the variance is small


def test_distance_is_relative_to_each_channel():
    reference = np.ones((2, 2, 3)) * np.array([1e6, 1e-3])[:, None]
    y = reference.copy()
    y[1, 1, 2] += 1e-4
    assert distance(y, reference) == pytest.approx(0.1)
    y[0, 0, 0] = np.nan
    assert distance(y, reference) == float("inf")
    assert distance(np.zeros((1, 1)), np.zeros((1, 1))) == 0


def test_running_statistics_far_larger_than_the_input_hide_nothing():
    layer = trained_(deviants.LayerUnbiased())
    layer.running_mean *= 1e4
    layer.running_var *= 1e8
    assert "the layer variance is unbiased" in recognise(layer).refused[""].reason


def test_probing_is_reproducible():
    layer = trained_(deviants.Clamped())
    torch.manual_seed(1)
    first = recognise(layer).refused
    torch.manual_seed(2)
    assert recognise(layer).refused == first

"""The errors of layers, against NumPy in float64; what parts give is what the whole gives."""

from __future__ import annotations

import dataclasses
import json
import math

import numpy as np
import pytest

from sn_deploy.check.layers.comparison import LayerComparison, LayerTolerance
from sn_deploy.check.layers.expected import expected_output
from sn_deploy.check.layers.match import Match, match_layers
from sn_deploy.check.layers.sums import ErrorSum
from sn_deploy.check.layers.tensors import LayerTensors, Tapped, TappedLayer
from sn_deploy.check.result import BackendInfo
from sn_deploy.compare.tolerances import TOLERANCES
from sn_deploy.errors import CheckFailedError, SnDeployError
from sn_deploy.graph.op import SWITCH_NORM, SWITCH_NORM_ADD_RELU, SWITCH_NORM_RELU
from tests.check.small_net import CHANNELS, folded
from tests.tolerances import switch_norm_bound

GENERATOR = np.random.default_rng(0)
SHAPE = (3, CHANNELS, 40, 70)  # more than a block of elements


def test_an_error_is_numpys() -> None:
    expected = GENERATOR.standard_normal(SHAPE)
    actual = (expected + 1e-4 * GENERATOR.standard_normal(SHAPE)).astype(np.float16)
    error = ErrorSum()
    error.update(expected, actual)
    wanted = np.linalg.norm(actual.astype(np.float64) - expected) / np.linalg.norm(expected)
    assert error.rel_l2 == pytest.approx(wanted, rel=1e-12)


def test_what_is_not_finite_is_infinitely_wrong_but_where_the_reference_is_not_finite_either() -> None:
    expected, actual = np.ones(8), np.ones(8, np.float32)
    actual[3] = np.inf
    error = ErrorSum()
    error.update(expected, actual)
    assert (error.rel_l2, error.mismatches) == (math.inf, 1)
    expected[3] = np.inf
    error = ErrorSum()
    error.update(expected, actual)
    assert error.rel_l2 == 0
    expected[3] = actual[3] = np.nan
    for only, wanted in ((False, math.inf), (True, 0.0)):
        error = ErrorSum()
        error.update(expected, actual, only_where_finite=only)
        assert error.rel_l2 == wanted


@pytest.mark.parametrize("form", [SWITCH_NORM, SWITCH_NORM_RELU, SWITCH_NORM_ADD_RELU])
def test_what_a_layer_should_make_of_its_input(form: str) -> None:
    x = (3 * GENERATOR.standard_normal(SHAPE) + 2).astype(np.float32)
    residual = GENERATOR.standard_normal(SHAPE).astype(np.float32)
    wanted = folded("sn1").evaluate(x) + (residual if form == SWITCH_NORM_ADD_RELU else 0)
    made = expected_output(folded("sn1"), x, form, residual, rounds_once=True)
    wanted = wanted if form == SWITCH_NORM else np.maximum(wanted, 0)
    np.testing.assert_allclose(made.y, wanted, rtol=0, atol=1e-13)


@pytest.mark.parametrize("shape", [(5, CHANNELS), (2, CHANNELS, 9), (2, CHANNELS, 3, 4, 5), (0, CHANNELS, 4, 4)])
def test_layers_of_any_rank(shape: tuple[int, ...]) -> None:
    layer_ = dataclasses.replace(folded("sn1"), mean_in=0.0, var_in=0.0) if len(shape) == 2 else folded("sn1")
    x = GENERATOR.standard_normal(shape).astype(np.float32)
    for rounds_once in (True, False):
        made = expected_output(layer_, x, SWITCH_NORM, None, rounds_once=rounds_once)
        np.testing.assert_allclose(made.y, layer_.evaluate(x), rtol=0, atol=1e-13)
        assert (made.rounding > 0) == (made.carried > 0) == (x.size > 0)


def test_the_size_of_a_rounding_is_that_of_the_tests_own_bound() -> None:
    """A root mean square, and a bound for each element: of one size, and never below."""
    for mean in (0.0, 10.0, 1000.0):
        x = (GENERATOR.standard_normal(SHAPE) + mean).astype(np.float32)
        made = expected_output(folded("sn2"), x, SWITCH_NORM, None, rounds_once=True)
        bound = switch_norm_bound(folded("sn2"), x) - TOLERANCES["float32"].roundoff * np.abs(made.y)
        assert 1 <= 4 * math.sqrt(made.rounding) / np.linalg.norm(bound) < 1.5
        lossy = expected_output(folded("sn2"), x, SWITCH_NORM, None, rounds_once=False)
        assert lossy.rounding > made.rounding


def layer(name: str = "sn1") -> TappedLayer:
    return TappedLayer(name, folded("sn1"), True)


def tapped(*names: str, form: str = SWITCH_NORM, channels: int = CHANNELS, off: float = 0.0) -> Tapped:
    tensors = {}
    for index, name in enumerate(names):
        x = np.random.default_rng(index).standard_normal((2, channels, 4, 5)).astype(np.float32)
        y = folded("sn1").evaluate(x) if channels == CHANNELS else x
        tensors[name] = LayerTensors(x, {form: ((1 + off) * np.maximum(y, 0)).astype(np.float32)})
    return Tapped({name: layer(name) for name in names}, tensors)


def test_layers_match_by_name_then_by_order() -> None:
    reference = tapped("a", "b", "c")
    matches, notes = match_layers(reference, tapped("c", "b", "a"), "ort")
    assert [(one.reference, one.own) for one in matches] == [("a", "a"), ("b", "b"), ("c", "c")]
    assert notes == []
    matches, notes = match_layers(reference, tapped("SwitchNorm_0", "b", "SwitchNorm_1"), "ort")
    assert [one.own for one in matches] == ["SwitchNorm_0", "b", "SwitchNorm_1"]
    assert notes == ["ort: names of 2 layers are others than the reference's: matched by their order"]
    matches, notes = match_layers(reference, tapped("b", "d", "e", "f"), "ort")
    assert [one.own for one in matches] == ["b"]
    assert notes == [
        "ort: not compared, since it has no such layers: a, c",
        "ort: not compared, since the reference has no such layers: d, e, f",
    ]
    matches, notes = match_layers(reference, tapped("x", "y", "z", channels=4), "ort")
    assert matches == []
    matches, notes = match_layers(reference, tapped("a", "b", "c", form=SWITCH_NORM_RELU), "ort")
    assert matches == []
    assert "fused with other operators" in notes[0]


TABLE = LayerTolerance()


def comparison(tolerance: LayerTolerance = TABLE, precision: str = "float32") -> LayerComparison:
    settings = {"precision": precision}
    infos = [BackendInfo("torch", "torch", settings=settings), BackendInfo("ort", "ort", settings=settings)]
    return LayerComparison(infos, "torch", tolerance)


MATCHES = [Match("a", "a", SWITCH_NORM_RELU), Match("b", "b", SWITCH_NORM_RELU)]


def calls(off: float = 0.0) -> tuple[Tapped, Tapped]:
    return tapped("a", "b", form=SWITCH_NORM_RELU), tapped("a", "b", form=SWITCH_NORM_RELU, off=off)


def test_a_right_layer_holds_and_a_wrong_one_is_named() -> None:
    right = comparison()
    right.update("ort", MATCHES, *calls())
    (report,) = right.reports()
    assert (report.culprit, report.culprit_part) == (None, None)
    assert [one.passed for one in right.assertions()] == [True]
    wrong = comparison()
    wrong.update("ort", MATCHES, *calls(off=1e-3))
    (report,) = wrong.reports()
    assert (report.culprit, report.culprit_part) == ("a", "layer")
    assert report.layers[0].own_rel_l2 == pytest.approx(1e-3, rel=1e-3)
    assert wrong.assertions()[0].text == "ort: layers_outside_tolerance 2 <= 0, the first: a"


def test_tolerances_of_the_users_own() -> None:
    wide = comparison(LayerTolerance(0.1, 0.1))
    wide.update("ort", MATCHES, *calls(off=1e-3))
    assert wide.assertions()[0].passed
    narrow = comparison(LayerTolerance(rel_l2=0.0, own_rel_l2=0.0))
    narrow.update("ort", MATCHES, *calls(off=1e-6))
    assert not narrow.assertions()[0].passed
    odd = comparison(precision="int8")
    odd.update("ort", MATCHES, *calls())
    with pytest.raises(SnDeployError, match=r"no default tolerance for int8.*--layer-tolerance"):
        odd.reports()


def test_parts_in_any_order_are_the_whole_to_the_bit() -> None:
    whole, parts = comparison(), [comparison() for _ in range(3)]
    for part, off in zip(parts, (1e-6, 1e-3, 0.1), strict=True):
        for one in (whole, part):
            one.update("ort", MATCHES, *calls(off))
    merged = comparison()
    for part in reversed(parts):
        merged.merge(json.loads(json.dumps(part.state())))
    assert merged.reports() == whole.reports()
    assert merged.state() == whole.state()
    other = comparison()
    other.update("ort", MATCHES[:1], *calls())
    with pytest.raises(SnDeployError, match="different layers"):
        merged.merge(other.state())


def test_another_shape_is_refused() -> None:
    with pytest.raises(CheckFailedError, match=r"ort: layer a: has X \(2, 4, 4, 5\)"):
        comparison().update("ort", MATCHES, calls()[0], tapped("a", "b", form=SWITCH_NORM_RELU, channels=4))

"""Statistics that are dropped for a budget: what replaces them, which go, and the proof on held-out samples."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import onnx
import pytest

from sn_deploy.check.batch import Batch
from sn_deploy.check.data.open import DataOptions
from sn_deploy.errors import CheckFailedError, SnDeployError
from sn_deploy.graph import op
from sn_deploy.runtime.native import ort_library
from sn_deploy.specialise import Budget, samples, specialise
from sn_deploy.specialise.budget import parse_budget
from sn_deploy.specialise.expected import Expected, expected_statistics, without
from sn_deploy.specialise.forms import Runtime
from sn_deploy.specialise.layers import layers_of
from sn_deploy.specialise.load import load
from sn_deploy.specialise.report import SpecialiseReport
from sn_deploy.specialise.samples import Error, Yardstick
from tests.specialise.nets import BN, LN, Net, ops, rel_l2, run

C = 6
# Shares of IN, LN and BN: next to nothing, some, and most of it.
SMALL = (1e-4, 1e-4, 1 - 2e-4)
LARGE = (0.4, 0.3, 0.3)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A net of three layers, of which the first hardly uses its input's statistics, and samples for it."""
    net = Net(seed=3)
    y, channels = "x", 3
    for place, weights in enumerate((SMALL, LARGE, (0.2, 0.2, 0.6))):
        y = net.conv(y, f"conv{place}", (channels, C))
        y, channels = net.norm(y, f"sn{place}", C, weights, weights, op_type=op.SWITCH_NORM_RELU), C
    net.add("GlobalAveragePool", [y], "pool")
    net.add("Flatten", ["pool"], "flat")
    net.add("Gemm", ["flat", net.constant("fc", C, 4)], "scores")
    net.save(tmp_path / "in.onnx", ["N", 3, 8, 8], ["scores"])
    generator = np.random.default_rng(0)
    x = generator.normal(size=(64, 3, 8, 8)) * generator.uniform(0.5, 2, size=(64, 1, 1, 1))
    np.save(tmp_path / "x.npy", x.astype(np.float32))
    return tmp_path


def changed(folder: Path, budget: Budget, **options: object) -> SpecialiseReport:
    return specialise(
        folder / "in.onnx",
        folder / "out.onnx",
        budget=budget,
        data=DataOptions(str(folder / "x.npy")),
        threads=1,
        **{"runtime": Runtime.ORT, **options},  # type: ignore[arg-type]
    )


def dropped(report: SpecialiseReport) -> dict[str, tuple[str, ...]]:
    return {layer.name: layer.dropped for layer in report.layers if layer.dropped}


def test_what_costs_next_to_nothing_goes_and_the_rest_stays(folder: Path) -> None:
    report = changed(folder, Budget(rel_l2=1e-3))
    assert dropped(report) == {"sn0": ("in", "ln")}
    assert report.batch == 1  # of the call that was timed; the file fixes none
    assert [layer.form for layer in report.layers] == ["folded", "kept", "kept"]
    assert ops(folder / "out.onnx")["SwitchNormRelu:"] == 2
    assert report.chosen_on is not None
    assert 0 < report.held_out.rel_l2 <= 1e-3
    # The report's figures are those of the file, on the batches that weren't chosen on.
    x = np.load(folder / "x.npy")
    held_out = np.concatenate([x[start : start + 8] for start in range(8, 64, 16)])
    before, after = (run(folder / name, held_out)["scores"] for name in ("in.onnx", "out.onnx"))
    assert report.held_out.rel_l2 == pytest.approx(rel_l2(before, after), rel=1e-3)
    assert report.held_out.changed == np.mean(before.argmax(1) != after.argmax(1))
    assert report.layers[0].after_ms == 0


def test_a_larger_budget_drops_more(folder: Path) -> None:
    tight, wide, all_ = (changed(folder, Budget(rel_l2=limit)) for limit in (1e-6, 0.3, 0.99))
    assert not dropped(tight)
    assert set(dropped(wide)) >= {"sn0", "sn2"}
    assert dropped(all_) == {f"sn{place}": ("in", "ln") for place in range(3)}
    assert ops(folder / "out.onnx")["Conv"] == 3
    assert not any(key.startswith("SwitchNorm") for key in ops(folder / "out.onnx"))


def test_no_share_above_the_largest_goes(folder: Path) -> None:
    assert set(dropped(changed(folder, Budget(rel_l2=0.99), max_weight=0.25))) == {"sn0", "sn2"}


@pytest.mark.parametrize("runtime", [Runtime.ORT, *([Runtime.ORT_NATIVE] if ort_library() is not None else [])])
def test_what_leaves_nothing_out_is_no_candidate(runtime: Runtime, folder: Path) -> None:
    # IN alone never: LN's variance needs it. LN alone only where there is a body without it.
    report = changed(folder, Budget(rel_l2=0.3), max_weight=0.35, runtime=runtime)
    for layer in report.layers:
        assert layer.dropped in ((), ("in", "ln"), *([("ln",)] if runtime is Runtime.ORT else []))


def test_top1(folder: Path) -> None:
    # The net is random, so its classes are near each other.
    report = changed(folder, Budget(top1=0.25))
    assert "sn0" in dropped(report)
    assert report.held_out.top1 == report.held_out.changed
    assert 0 <= report.held_out.changed <= 0.25


def test_the_file_says_what_was_dropped(folder: Path) -> None:
    changed(folder, Budget(rel_l2=1e-3))
    (entry,) = (one for one in onnx.load(folder / "out.onnx").metadata_props if one.key == "sn_deploy.specialised")
    assert entry.value == '{"budget": "rel_l2 0.001", "dropped": {"sn0": ["in", "ln"]}}'


def test_a_budget_broken_on_held_out_samples_writes_nothing(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # The planted fault: the search takes everything.
    monkeypatch.setattr(Error, "within", lambda self, budget, bound=False: bound or self.rel_l2 <= budget.rel_l2)
    with pytest.raises(CheckFailedError, match=r"on 32 held-out samples the error is rel_l2 .* so nothing was written"):
        changed(folder, Budget(rel_l2=1e-3))
    assert not (folder / "out.onnx").exists()


def test_averages_are_those_of_the_samples(folder: Path) -> None:
    layers, _ = layers_of(load(folder / "in.onnx"))
    x = np.load(folder / "x.npy")
    model = onnx.load(folder / "in.onnx")
    model.graph.output.extend(onnx.helper.make_tensor_value_info(f"conv{place}", 1, None) for place in range(3))
    onnx.save(model, folder / "convs.onnx")
    inputs = run(folder / "convs.onnx", x)
    from sn_deploy.specialise.drafts import Drafts

    drafts = Drafts(folder / "in.onnx", folder, Runtime.ORT, 1)
    batches = [Batch(start, start, {"x": x[start : start + 24]}) for start in range(0, 64, 24)]
    with drafts.open(drafts.write(drafts.with_statistics(layers))) as session:
        found = expected_statistics(session.run, batches, layers)
    for place, layer in enumerate(layers):
        values = inputs[f"conv{place}"].astype(np.float64)
        mean_in, var_in = values.mean((2, 3)), values.var((2, 3), ddof=1)
        own = found[layer.name]
        np.testing.assert_allclose(own.mean_in, mean_in.mean(0), rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(own.var_in, var_in.mean(0), rtol=1e-4)
        assert own.mean_ln == pytest.approx(mean_in.mean(), rel=1e-3, abs=1e-5)
        assert own.var_ln == pytest.approx((var_in.mean(1) + mean_in.var(1)).mean(), rel=1e-4)


def test_averages_are_better_than_giving_the_weight_to_the_others(folder: Path) -> None:
    layers, _ = layers_of(load(folder / "in.onnx"))
    layer = layers[2]
    x = np.random.default_rng(1).normal(size=(32, C, 8, 8)) + 1
    mean_in, var_in = x.mean((2, 3)), x.var((2, 3), ddof=1)
    var_ln = var_in.mean(1) + mean_in.var(1)
    expected = Expected(mean_in.mean(0), var_in.mean(0), float(mean_in.mean()), float(var_ln.mean()))
    exact = layer.folded.evaluate(x)
    left = without(layer.folded, ["ln"], expected)
    assert left.mean_in + left.mean_ln + left.mean_bn == pytest.approx(1)
    assert left.var_in + left.var_ln + left.var_bn == pytest.approx(1)
    averaged = rel_l2(exact, left.evaluate(x))
    share = 1 - layer.folded.mean_ln
    given = dataclasses.replace(
        layer.folded,
        mean_in=layer.folded.mean_in / share,
        mean_ln=0,
        var_in=layer.folded.var_in / share,
        var_ln=0,
        mean_offset=layer.folded.mean_offset / share,
        var_offset=layer.folded.var_offset / share,
    )
    assert averaged < rel_l2(exact, given.evaluate(x)) / 3


def test_vectors_have_no_instance_part(tmp_path: Path) -> None:
    net = Net()
    y = net.add("Gemm", ["x", net.constant("fc", 5, C)], "fc1")
    net.norm(y, "sn", C, (0, 1e-4, 1 - 1e-4), (0, 1e-4, 1 - 1e-4))
    net.save(tmp_path / "in.onnx", ["N", 5], ["sn"])
    np.save(tmp_path / "x.npy", np.random.default_rng(0).normal(size=(32, 5)).astype(np.float32))
    report = changed(tmp_path, Budget(rel_l2=1e-2))
    assert dropped(report) == {"sn": ("ln",)}
    assert ops(tmp_path / "out.onnx") == {"Gemm": 1}


@pytest.mark.parametrize(
    ("texts", "budget"),
    [
        (["rel_l2=1e-3"], Budget(rel_l2=1e-3)),
        (["top1=0.1%"], Budget(top1=0.001)),
        (["top1=0", "rel_l2=5%"], Budget(rel_l2=0.05, top1=0.0)),
    ],
)
def test_budgets_are_read(texts: list[str], budget: Budget) -> None:
    found = parse_budget(texts)
    assert (found.rel_l2, found.top1) == (pytest.approx(budget.rel_l2), pytest.approx(budget.top1))


@pytest.mark.parametrize("text", ["rel_l2", "top5=1", "top1=x", "top1=-1%", "top1=100%", "rel_l2=nan", "=1"])
def test_other_budgets_are_refused(text: str) -> None:
    with pytest.raises(SnDeployError, match=f"--budget {text}"):
        parse_budget([text])


def outputs(scores: list[list[float]]) -> dict[str, np.ndarray]:
    return {"y": np.array(scores, np.float32)}


def test_errors_by_hand() -> None:
    before = outputs([[3, 0], [0, 2], [1, 0], [5, 0]])
    after = outputs([[3, 0], [0, 2], [0.4, 0.2], [5, 0.5]])
    batch = Batch(0, 0, {"x": np.zeros((4, 1), np.float32)}, labels=np.array([0, 1, 0, 1]))
    yardstick = Yardstick([batch], lambda inputs: before)
    error = yardstick.error_of(lambda inputs: after)
    assert error.rel_l2 == pytest.approx(np.sqrt((0.36 + 0.04 + 0.25) / (9 + 4 + 1 + 25)))
    assert error.rel_l2_bound > error.rel_l2
    # Twice the difference makes the third sample's second class the first: 1 - 1.2 < 0.4.
    assert (error.changed, error.top1, error.top1_bound) == (0, 0, 0.25)
    assert (error.accuracy, error.accuracy_before) == (0.75, 0.75)
    assert error.within(Budget(top1=0.0))
    assert not error.within(Budget(top1=0.0), bound=True)
    unlabelled = Yardstick([dataclasses.replace(batch, labels=None)], lambda inputs: before)
    assert unlabelled.error_of(lambda inputs: outputs([[0, 3], [0, 2], [1, 0], [5, 0]])).top1 == 0.25


def test_a_net_that_is_never_right_is_measured_without_labels() -> None:
    batch = Batch(0, 0, {"x": np.zeros((2, 1), np.float32)}, np.array([1, 1]))
    yardstick = Yardstick([batch], lambda inputs: outputs([[2, 0, 1], [2, 0, 1]]))
    error = yardstick.error_of(lambda inputs: outputs([[2, 0, 1], [1, 0, 2]]))
    assert (error.top1, error.changed, error.accuracy, error.accuracy_before) == (0.5, 0.5, None, None)
    assert not error.within(Budget(top1=0.4))


def test_what_is_not_finite_is_in_no_budget() -> None:
    batch = Batch(0, 0, {"x": np.zeros((1, 1), np.float32)})
    error = Yardstick([batch], lambda inputs: outputs([[1, 2]])).error_of(lambda inputs: outputs([[np.nan, 2]]))
    assert not error.within(Budget(top1=0.9))
    assert not error.within(Budget(rel_l2=0.9))


def test_samples_that_do_not_fit_into_memory_are_read_again(monkeypatch: pytest.MonkeyPatch) -> None:
    batches = [Batch(place, 4 * place, {"x": np.full((4, 1), place, np.float32)}) for place in range(3)]
    kept = Yardstick(batches, lambda inputs: {"y": inputs["x"] + 1})
    monkeypatch.setattr(samples, "_MOST_BYTES_KEPT", 40)
    anew = Yardstick(batches, lambda inputs: {"y": inputs["x"] + 1})
    for one in (kept, anew):
        assert one.samples == 12
        assert one.error_of(lambda inputs: {"y": inputs["x"] + 1}).rel_l2 == 0
        assert one.error_of(lambda inputs: {"y": inputs["x"]}).rel_l2 == pytest.approx(np.sqrt(3 / 14))
        assert [batch.index for batch in one.batches()] == [0, 1, 2]


def test_layers_without_ours_to_drop_are_left(tmp_path: Path) -> None:
    net = Net()
    net.norm(net.conv("x", "conv", (3, C)), "sn", C, BN, LN)
    net.save(tmp_path / "in.onnx", ["N", 3, 8, 8], ["sn"])
    np.save(tmp_path / "x.npy", np.random.default_rng(0).normal(size=(32, 3, 8, 8)).astype(np.float32))
    assert not dropped(changed(tmp_path, Budget(rel_l2=0.9)))  # LN has a share of 1
    with pytest.raises(SnDeployError, match=r"budget top1: the outputs are .* \(expected one output of scores"):
        changed(tmp_path, Budget(top1=0.1))


def test_a_batch_size_that_the_file_does_not_take(tmp_path: Path) -> None:
    net = Net()
    y = net.norm("x", "sn", 3, LN, LN)
    source = net.save(tmp_path / "net.onnx", (2, 3, 8, 8), [y])
    with pytest.raises(SnDeployError, match=r"is 3, and a file fixes the batch to 2"):
        specialise(source, tmp_path / "out.onnx", data=DataOptions(batch_size=3))
    assert not (tmp_path / "out.onnx").exists()

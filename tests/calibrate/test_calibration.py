"""Statistics from data against float64 NumPy, and against training itself."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from sn_deploy.calibrate import (
    BATCH_AVERAGE,
    POPULATION,
    calibrate,
    calibrate_part,
    calibration_from_pass,
    with_statistics,
)
from sn_deploy.calibrate.branches import Branch
from sn_deploy.calibrate.exact_sums import ExactSums
from sn_deploy.calibrate.movement import movement
from sn_deploy.calibrate.show import lines_from_calibration
from sn_deploy.check.batch import Batch
from sn_deploy.check.data.open import DataOptions
from sn_deploy.errors import SnDeployError
from sn_deploy.nn import SwitchNorm1d, SwitchNorm2d, SwitchNorm3d, finalize_batch_average
from sn_deploy.recognise import finalize_batch_average_
from tests.calibrate.oracle import CHANNELS, Batches, Chain, ChainOracle, chain, images
from tests.calibrate.published import PublishedSwitchNorm
from tests.randomise import randomise_
from tests.recognise.variants import KeptByBatchNorm, OfAPass, ReferenceSN

# float64 on both sides; the oracle subtracts squares.
RTOL = 1e-10

# Statistics of some channels.
MEAN, VAR = np.array([0.1, -0.4, 0.3]), np.array([1.0, 0.5, 2.0])


def pairs(calibration) -> list[tuple[np.ndarray, np.ndarray]]:
    return [(layer.mean, layer.var) for layer in calibration.layers]


def worst(found, expected) -> float:
    """The largest difference, in deviations for means and relative for variances."""
    return max(
        max(np.abs(mean - m).max() / np.sqrt(v).min(), (np.abs(var - v) / v).max())
        for (mean, var), (m, v) in zip(found, expected, strict=True)
    )


# --- against the equations ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sizes", [8, 7, 1, [5, 1, 18]])
def test_batch_average_is_the_papers_whatever_the_batches(sizes):
    model, batches = chain(), Batches(images(), sizes)
    calibration = calibrate(model, batches)
    assert worst(pairs(calibration), ChainOracle(model).batch_average(batches)) < RTOL
    assert [layer.name for layer in calibration.layers] == ["sn.0", "sn.1", "sn.2"]
    assert calibration.samples == 24
    assert calibration.layers[0].calls == batches.batches == len(calibration.batches)


@pytest.mark.parametrize("size", [24, 8, 5, 1])
def test_population_is_all_data_in_one_batch_layer_after_layer(size):
    model = chain(depth=4)
    calibration = calibrate(model, Batches(images(), size), statistics=POPULATION, tolerance=0)
    assert worst(pairs(calibration), ChainOracle(model).population(images())) < RTOL
    assert len(calibration.moved) <= 4 + 1
    assert calibration.moved[-1] < 1e-12


def test_population_is_what_the_deployed_network_sees():
    """Written into the model, it is what every layer is given in evaluation mode: nothing moves any more."""
    model, data = chain(), Batches(images(), 5)
    calibration = calibrate(model, data, statistics=POPULATION)
    assert calibration.converged
    model.load_state_dict(with_statistics(model.state_dict(), calibration.layers))
    seen: dict[str, list[Tensor]] = {}
    for name, layer in model.sn.named_children():
        layer.register_forward_pre_hook(lambda _, args, name=name: seen.setdefault(name, []).append(args[0].detach()))
    for batch in data:
        model.eval()(torch.from_numpy(batch.inputs["x"]))
    for name, layer in model.sn.named_children():
        x = torch.cat(seen[name]).flatten(2)
        np.testing.assert_allclose(layer.running_mean.flatten(), x.mean((0, 2)), rtol=1e-5)
        np.testing.assert_allclose(
            layer.running_var.flatten(), x.var(2).mean(0) + x.mean(2).var(0, correction=0), rtol=1e-5
        )


def test_sweeps_can_be_limited_and_say_what_is_left():
    calibration = calibrate(chain(depth=5), Batches(images(), 8), statistics=POPULATION, sweeps=1)
    assert len(calibration.moved) == 1
    assert calibration.moved[0] > 1e-4
    assert calibration.converged is False


@pytest.mark.parametrize("fault", ["no squares", "a batch forgotten", "frozen statistics", "biased", "dropout"])
def test_a_planted_fault_shows(fault, monkeypatch):
    model, batches = chain(), Batches(images(), 8)
    expected = ChainOracle(model).batch_average(batches)
    if fault == "no squares":
        monkeypatch.setattr(ExactSums, "add_squares", lambda *_: None)
    elif fault == "a batch forgotten":
        batches = Batches(images(), 8, keep=[0, 1])
    elif fault == "frozen statistics":
        monkeypatch.setattr(Branch, "install", lambda *_: None)
    elif fault == "biased":
        model = _biased(model)
    else:
        monkeypatch.setattr(nn.Dropout, "forward", lambda _, x: 0.9 * x)
    assert worst(pairs(calibrate(model, batches)), expected) > 1e-3


def _biased(model: Chain) -> Chain:
    for layer in model.sn:
        layer.__class__ = PublishedSwitchNorm
        layer.ddof = 0
    return model


# --- against training -----------------------------------------------------------------------------------------------


class Trained(nn.Module):
    """A published layer in a small network: what the authors' code does with ``using_moving_average=False``."""

    def __init__(self, *, sums_apart: bool = False) -> None:
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(3, 6, 3), nn.Conv2d(6, 4, 3)
        self.sn1 = PublishedSwitchNorm(6, using_moving_average=False, sums_apart=sums_apart)
        self.sn2 = PublishedSwitchNorm(4, using_moving_average=False, sums_apart=sums_apart)

    def forward(self, x: Tensor) -> Tensor:
        return self.sn2(self.conv2(self.sn1(self.conv1(x)).relu()))


@pytest.mark.parametrize("sums_apart", [False, True])
def test_batch_average_is_what_the_published_training_leaves(sums_apart):
    """In float32, as it is trained, with an odd last batch: sums over batches, divided."""
    torch.manual_seed(1)
    model = randomise_(Trained(sums_apart=sums_apart), 1)
    x = torch.randn(21, 3, 9, 8, generator=torch.Generator().manual_seed(2)).numpy()
    calibration = calibrate(model, Batches(x, 4))
    trained = copy.deepcopy(model).train()
    for buffer in trained.buffers():
        buffer.zero_()
    with torch.no_grad():
        for batch in Batches(x, 4):
            trained(torch.from_numpy(batch.inputs["x"]))
    assert finalize_batch_average_(trained, 6) == ["sn1", "sn2"]
    for layer in calibration.layers:
        published = trained.get_submodule(layer.name)
        np.testing.assert_allclose(layer.mean, published.running_mean.flatten(), rtol=1e-4, atol=1e-6)
        np.testing.assert_allclose(layer.var, published.running_var.flatten(), rtol=1e-5)


@pytest.mark.parametrize(
    ("layer", "shape"),
    [(SwitchNorm1d, (6, 5)), (SwitchNorm2d, (4, 5, 3, 4)), (SwitchNorm3d, (3, 5, 2, 3, 2))],
)
def test_every_rank_is_as_it_is_trained(layer, shape):
    model = randomise_(layer(5, using_moving_average=False), 3).double()
    x = np.random.default_rng(0).normal(2.0, 3.0, (4 * shape[0], *shape[1:]))
    calibration = calibrate(nn.Sequential(model), Batches(x, shape[0]))
    model.running_mean.zero_()
    model.running_var.zero_()
    with torch.no_grad():
        for batch in Batches(x, shape[0]):
            model.train()(torch.from_numpy(batch.inputs["x"]))
    finalize_batch_average(model, 4)
    (found,) = calibration.layers
    np.testing.assert_allclose(found.mean, model.running_mean.flatten(), rtol=1e-12)
    np.testing.assert_allclose(found.var, model.running_var.flatten(), rtol=1e-12)
    assert not found.traits.assumed


def test_population_of_vectors_is_the_unbiased_variance_of_all():
    model = randomise_(SwitchNorm1d(5), 3).double()
    x = np.random.default_rng(0).normal(2.0, 3.0, (20, 5))
    for size in (20, 6):
        (found,) = calibrate(nn.Sequential(model), Batches(x, size), statistics=POPULATION).layers
        np.testing.assert_allclose(found.mean, x.mean(0), rtol=1e-13)
        np.testing.assert_allclose(found.var, x.var(0, ddof=1), rtol=1e-13)


def test_one_vector_has_no_variance_to_train_with_and_needs_none_in_a_sweep():
    model = nn.Sequential(randomise_(SwitchNorm1d(5), 3)).double()
    x = np.random.default_rng(0).normal(2.0, 3.0, (20, 5))
    with pytest.raises(SnDeployError, match=r"^batch 0, layer '0': its input is \(1, 5\): the variance over 1 values"):
        calibrate(model, Batches(x, 1))
    (found,) = calibration_from_pass(calibrate_part(model, Batches(x, 1), statistics=POPULATION)).layers
    np.testing.assert_allclose(found.var, x.var(0, ddof=1), rtol=1e-13)


# --- what stays as it is ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("statistics", [BATCH_AVERAGE, POPULATION])
@pytest.mark.parametrize("start", ["sums", "zeros", "NaN", "negative"])
def test_the_statistics_before_do_not_matter(statistics, start):
    model, data = chain(), Batches(images(), 8)
    expected = pairs(calibrate(model, data, statistics=statistics, tolerance=0))
    for layer in model.sn:
        layer.running_mean.mul_(300 if start == "sums" else float("nan") if start == "NaN" else 0)
        layer.running_var.mul_({"sums": 300, "zeros": 0, "NaN": float("nan"), "negative": -1}[start])
    for (mean, var), (m, v) in zip(
        pairs(calibrate(model, data, statistics=statistics, tolerance=0)), expected, strict=True
    ):
        np.testing.assert_array_equal(mean, m)
        np.testing.assert_array_equal(var, v)


def test_the_model_is_not_touched():
    model = chain().train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    random_state = torch.get_rng_state()
    calibrate(model, Batches(images(), 8), statistics=POPULATION)
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert model.training
    assert all(module.training for module in model.modules())
    assert not any(module._forward_pre_hooks or "forward" in vars(module) for module in model.modules())
    assert torch.equal(torch.get_rng_state(), random_state)


class CallsForward(Chain):
    """Hooks don't see such calls."""

    def forward(self, x: Tensor) -> Tensor:
        x = self.bn(x)
        for mix, sn in zip(self.mix, self.sn, strict=True):
            x = sn.forward(mix(x)).relu()
        return x


@pytest.mark.parametrize("statistics", [BATCH_AVERAGE, POPULATION])
def test_layers_whose_forward_is_called_directly_are_calibrated(statistics):
    model, data = chain(), Batches(images(), 8)
    expected = pairs(calibrate(model, data, statistics=statistics))
    model.__class__ = CallsForward
    np.testing.assert_array_equal(pairs(calibrate(model, data, statistics=statistics)), expected)


def test_half_precision_is_calibrated_in_float32():
    model, data = chain().float(), Batches(images(), 8)
    half = copy.deepcopy(model).half()
    for (mean, var), (m, v) in zip(pairs(calibrate(half, data)), pairs(calibrate(model, data)), strict=True):
        np.testing.assert_allclose(mean, m, rtol=0.02, atol=5e-3)  # the weights are rounded, the rest isn't
        np.testing.assert_allclose(var, v, rtol=5e-3)


# --- networks that are no chain --------------------------------------------------------------------------------------


class Odd(nn.Module):
    """A layer that is called twice under two names, one that never runs, one without BN, and heads for regions."""

    def __init__(self) -> None:
        super().__init__()
        self.shared = SwitchNorm2d(3)
        self.again = self.shared
        self.idle = SwitchNorm2d(3)
        self.plain = SwitchNorm2d(3, using_bn=False)
        self.head = SwitchNorm2d(3)

    def forward(self, image: Tensor, regions: Tensor) -> Tensor:
        x = self.again(self.plain(self.shared(image)))
        return x.mean() + self.head(regions).sum()


class OddData:
    """Images with 3, 0 and 2 regions, or some of these batches."""

    def __init__(self, *indices: int) -> None:
        self.indices = indices or (0, 1, 2)
        self.batches = len(self.indices)

    def __iter__(self):
        rng = np.random.default_rng(5)
        for index, count in enumerate((3, 0, 2)):
            regions, image = rng.normal(1, 2, (count, 3, 4, 4)), rng.normal(0, 1, (2, 3, 5, 5))
            if index in self.indices:
                yield Batch(index, 2 * index, {"regions": regions, "image": image})

    def describe(self) -> dict[str, object]:
        return {}


# torch says so of an empty tensor's variance, which nobody reads.
@pytest.mark.filterwarnings("ignore:var_mean:UserWarning")
def test_calls_are_counted_one_by_one_and_what_never_ran_is_listed():
    model = randomise_(Odd(), 0).double()
    calibration = calibrate(model, OddData())
    assert {layer.name: layer.calls for layer in calibration.layers} == {"shared": 6, "head": 2}
    assert calibration.unused == ("idle",)
    assert calibration.without_bn == ("plain",)
    head = calibration.layers[1]
    regions = [batch.inputs["regions"] for batch in OddData() if batch.inputs["regions"].size]
    flat = [x.reshape(len(x), 3, -1) for x in regions]
    np.testing.assert_allclose(head.mean, np.mean([x.mean((0, 2)) for x in flat], axis=0), rtol=1e-12)
    population = calibrate(model, OddData(), statistics=POPULATION, sweeps=20)
    np.testing.assert_allclose(population.layers[1].mean, np.concatenate(flat).mean((0, 2)), rtol=1e-12)
    assert population.converged
    assert min(population.moved[:-1]) > 1e-6  # and no sweep more than it takes


@pytest.mark.filterwarnings("ignore:var_mean:UserWarning")
@pytest.mark.parametrize("statistics", [BATCH_AVERAGE, POPULATION])
@pytest.mark.parametrize("first", [[1], [0, 2]])
def test_a_part_in_which_a_layer_never_ran_merges(statistics, first):
    model = randomise_(Odd(), 0).double()
    rest = [index for index in range(3) if index not in first]
    merged, other, whole = (
        calibrate_part(model, OddData(*indices), statistics=statistics) for indices in (first, rest, range(3))
    )
    merged.merge(other)
    found = {layer.name: layer for layer in calibration_from_pass(merged).layers}
    assert found.keys() == {"shared", "head"}
    for layer in calibration_from_pass(whole).layers:
        np.testing.assert_array_equal(found[layer.name].mean, layer.mean)
        np.testing.assert_array_equal(found[layer.name].var, layer.var)
        assert found[layer.name].traits == layer.traits


@pytest.mark.filterwarnings("ignore:var_mean:UserWarning")
def test_all_names_of_shared_statistics_are_written():
    model = randomise_(Odd(), 0).double()
    calibration = calibrate(model, OddData())
    state = with_statistics(model.state_dict(), calibration.layers)
    assert state.keys() == model.state_dict().keys()
    for name, value in state.items():
        is_new = name.split(".")[0] in {"shared", "again", "head"} and "running" in name
        assert torch.equal(value, model.state_dict()[name]) != is_new, name
    assert torch.equal(state["shared.running_mean"], state["again.running_mean"])
    # A checkpoint may have some of the names alone, or none; another number of values is another layer's.
    one = {name: value for name, value in model.state_dict().items() if not name.startswith("again")}
    assert with_statistics(one, calibration.layers).keys() == one.keys()
    assert with_statistics({}, calibration.layers).keys() == {
        f"{layer}.running_{which}" for layer in ("shared", "again", "head") for which in ("mean", "var")
    }
    one["head.running_var"] = one["head.running_var"][:, :2]
    with pytest.raises(SnDeployError, match=r"layer 'head': head.running_var has 2 values, its layer 3 channels"):
        with_statistics(one, calibration.layers)
    assert state["shared.running_mean"].shape == (1, 3, 1)


def test_layers_that_share_buffers_share_statistics():
    first, second = randomise_(SwitchNorm2d(3), 0), randomise_(SwitchNorm2d(3), 1)
    second.running_mean, second.running_var = first.running_mean, first.running_var
    model = nn.Sequential(first, nn.ReLU(), second).double()
    second.running_mean, second.running_var = first.running_mean, first.running_var
    (layer,) = calibrate(model, Batches(images()[:, :3], 6)).layers
    assert layer.calls == 8
    assert set(layer.identity.mean_keys) == {"0.running_mean", "2.running_mean"}


# --- refusals ---------------------------------------------------------------------------------------------------------


class Grouped(PublishedSwitchNorm):
    """Another layer under the same tensors: a deviation of the mean."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) + 0.1 * x


class AsksForCuda(PublishedSwitchNorm):
    """As SyncSN does."""

    def forward(self, x: Tensor) -> Tensor:
        if not x.is_cuda:
            raise RuntimeError("SyncSNFunc only support CUDA computation!")
        return super().forward(x)


class NeedsCuda(AsksForCuda):
    """In earnest."""

    def forward(self, x: Tensor) -> Tensor:
        out = super().forward(x)
        if x.device.type != "cuda":
            raise RuntimeError("no CUDA kernel for this tensor")
        return out


def with_layer(layer: nn.Module) -> nn.Module:
    return nn.Sequential(randomise_(SwitchNorm2d(CHANNELS), 0), randomise_(layer, 1)).double()


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        (Grouped(CHANNELS), r"^batch 0, layer '1': differs from Switchable Normalization by .* keep_unrecognised=True"),
        (
            NeedsCuda(CHANNELS),
            r"^batch 0, layer '1': its forward fails .* CUDA .* sn_deploy\.nn load the same checkpoint",
        ),
        (
            OfAPass(CHANNELS),
            r"^batch 0, layer '1': its evaluation doesn't read running_mean and running_var, .*keep_unrecognised=True",
        ),
    ],
)
def test_what_is_not_sn_is_refused_by_name(layer, message):
    with pytest.raises(SnDeployError, match=message):
        calibrate(with_layer(layer), Batches(images(), 8))


def test_layers_that_only_ask_for_cuda_are_calibrated_on_the_cpu():
    torch.manual_seed(0)
    data = Batches(images(), 8)
    asking, plain = with_layer(AsksForCuda(CHANNELS)), with_layer(PublishedSwitchNorm(CHANNELS))
    for (mean, var), (m, v) in zip(pairs(calibrate(asking, data)), pairs(calibrate(plain, data)), strict=True):
        np.testing.assert_array_equal(mean, m)
        np.testing.assert_array_equal(var, v)
    assert type(asking[1]) is AsksForCuda


def test_statistics_that_a_batch_norm_keeps_are_calibrated_there():
    torch.manual_seed(0)
    plain, kept = with_layer(ReferenceSN(CHANNELS)), with_layer(KeptByBatchNorm(CHANNELS))
    with torch.no_grad():
        kept[0].load_state_dict(plain[0].state_dict())
        for name, value in plain[1].state_dict().items():
            kept[1].state_dict()[f"bn.{name}" if name.startswith("running") else name].copy_(value)
    data = Batches(images(), 8)
    found = calibrate(kept, data)
    for (mean, var), (m, v) in zip(pairs(found), pairs(calibrate(plain, data)), strict=True):
        np.testing.assert_array_equal(mean, m)
        np.testing.assert_array_equal(var, v)
    written = with_statistics(kept.state_dict(), found.layers)
    np.testing.assert_allclose(written["1.bn.running_mean"].numpy(), pairs(found)[1][0], rtol=1e-6)


class Stubborn(PublishedSwitchNorm):
    """Whose training can't be tried by itself."""

    def record(self, mean: Tensor, var: Tensor) -> None:
        raise RuntimeError("the process group isn't there")


class Doubtful(PublishedSwitchNorm):
    """Whose training records what nobody knows."""

    def record(self, mean: Tensor, var: Tensor) -> None:
        super().record(mean, 3 * var.roll(1, 1))


@pytest.mark.parametrize("layer", [Stubborn, Doubtful])
def test_training_code_that_tells_nothing_is_taken_for_the_published_and_told(layer):
    torch.manual_seed(0)
    data = Batches(images(), 8)
    asked, assumed = (calibrate(with_layer(each(CHANNELS)), data) for each in (PublishedSwitchNorm, layer))
    for (mean, var), (m, v) in zip(pairs(assumed), pairs(asked), strict=True):
        np.testing.assert_array_equal(mean, m)
        np.testing.assert_array_equal(var, v)
    assert lines_from_calibration(asked) == []
    (line,) = lines_from_calibration(assumed)
    assert line.startswith("1: the training code couldn't be asked")


@pytest.mark.parametrize(
    ("old", "note"),
    [
        ((MEAN, VAR), None),
        ((MEAN + 0.49 * VAR**0.5, VAR / 1.9), None),
        ((MEAN + 0.51 * VAR**0.5, VAR), "moved far"),
        ((MEAN, VAR / 2.1), "moved far"),
        ((MEAN, VAR * 2.1), "moved far"),
        ((MEAN, VAR * [1, -1, 1]), "1 of the old variances were negative"),
        ((100 * MEAN, 100 * (VAR + MEAN**2)), "about 100 times too large, as sums that were never divided"),
        ((MEAN, 0 * VAR), "never recorded"),
        ((MEAN * np.nan, VAR), "NaN or infinite"),
        ((MEAN, VAR * np.inf), "NaN or infinite"),
        (None, "there were none before"),
    ],
)
def test_what_looks_wrong_about_the_statistics_before(old, note):
    found = movement(old, (MEAN, VAR))
    assert (found.suspicion is None) == (note is None)
    assert note is None or note in found.suspicion
    known = old is not None and np.isfinite(old[1]).all() and np.isfinite(old[0]).all() and old[1].any()
    assert (
        np.isfinite([found.mean, found.largest_mean, found.var, found.smallest_var, found.largest_var]).all() == known
    )


def test_parts_of_other_passes_do_not_merge():
    model, data = chain(), Batches(images(), 8)
    part = calibrate_part(model, data)
    with pytest.raises(SnDeployError, match="batch 0 is in two parts; give each part once"):
        part.merge(calibrate_part(model, data))
    for other in (
        calibrate_part(model, data, statistics=POPULATION),
        calibrate_part(with_layer(SwitchNorm2d(5)), data),
    ):
        with pytest.raises(SnDeployError, match="not of the same pass over the same model"):
            part.merge(other)


def test_what_is_not_sn_can_be_left_as_it_is():
    calibration = calibrate(with_layer(Grouped(CHANNELS)), Batches(images(), 8), keep_unrecognised=True)
    assert [layer.name for layer in calibration.layers] == ["0"]
    assert list(calibration.refused) == ["1"]
    assert calibration.unused == ()


@pytest.mark.parametrize(
    ("value", "kind"), [(float("nan"), "NaN values"), (float("inf"), "infinite values"), (1e200, "too large values")]
)
@pytest.mark.parametrize("statistics", [BATCH_AVERAGE, POPULATION])
def test_values_that_have_no_statistics_name_the_layer_they_reach_first(value, kind, statistics):
    model = chain()
    with torch.no_grad():
        model.mix[1].bias[3] = value
    with pytest.raises(SnDeployError, match=rf"^batch 0, layer 'sn.1': its input has {kind} in channel 3"):
        calibrate(model, Batches(images(), 8), statistics=statistics)


def test_data_with_nan_are_refused_by_input_and_batch():
    data = images()
    data[17, 2, 1, 1] = np.nan
    with pytest.raises(SnDeployError, match=r"^batch 2: input 'x' has NaN or infinite values"):
        calibrate(chain(), Batches(data, 8))


def test_too_few_values_name_the_layer():
    with pytest.raises(SnDeployError, match=r"^batch 0, layer '0': .*spatial positions"):
        calibrate(with_layer(SwitchNorm2d(CHANNELS)), Batches(images()[:, :, :1, :1], 8))


class Unsaved(SwitchNorm2d):
    def __init__(self) -> None:
        super().__init__(CHANNELS)
        self.register_buffer("running_mean", torch.zeros(1, CHANNELS, 1), persistent=False)


@pytest.mark.parametrize(
    ("model", "options", "message"),
    [
        (nn.Conv2d(5, 5, 1), {}, "no layer looks like SN with a BN branch"),
        (nn.Sequential(SwitchNorm2d(5, using_bn=False)), {}, "no layer looks like SN with a BN branch"),
        (chain(), {"statistics": "moving"}, "expected batch-average or population"),
        (chain(), {"sweeps": 2}, "of population statistics alone"),
        (chain(), {"statistics": POPULATION, "sweeps": 0}, "sweeps: is 0 (expected a whole number of at least 1)"),
        (chain(), {"device": "abacus"}, "device abacus: the model can't be moved there"),
        (nn.Sequential(Unsaved()), {}, "layer '0': running_mean is not part of the model's state dict"),
        ("resnet", {}, "the model is a str"),
    ],
)
def test_bad_requests_are_one_clear_line(model, options, message):
    with pytest.raises(SnDeployError) as caught:
        calibrate(model, Batches(images(), 8), **options)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_no_data_and_wrong_data_are_refused():
    with pytest.raises(SnDeployError, match="the data has no batch"):
        calibrate(chain(), Batches(images(), 8, keep=[]))
    with pytest.raises(SnDeployError, match=r"^batch 0: the model fails \(x: \(8, 4, 4, 5\) float64\): RuntimeError"):
        calibrate(chain(), Batches(images()[:, :4], 8))
    with pytest.raises(SnDeployError, match=r"^the data is a NoneType \(expected a source of batches"):
        calibrate(chain(), None)  # type: ignore[arg-type]
    with pytest.raises(
        SnDeployError, match=r"^the data gives a Tensor \(expected objects of sn_deploy.check.batch.Batch"
    ):
        calibrate(chain(), iter([torch.from_numpy(images())]))
    with pytest.raises(SnDeployError, match=r"^the data has no batch"):
        calibrate(chain(), [])


def test_data_as_check_takes_it():
    samples = torch.from_numpy(images())
    labels = torch.arange(len(samples))
    expected = calibrate(chain(), Batches(images(), 8))
    ways: dict[str, object] = {
        "loader": DataLoader(TensorDataset(samples, labels), batch_size=8),
        "dataset": TensorDataset(samples, labels),
        "tensor": samples,
        "tuple": (samples, labels),
        "dict": {"x": samples, "labels": labels},
        "list of batches": list(samples.split(8)),
        "function": lambda: iter(samples.split(8)),
        "options": DataOptions(images()),
        "options of a dataset": DataOptions(TensorDataset(samples), batch_size=8),
    }
    for name, data in ways.items():
        found = calibrate(chain(), data)
        assert (name, found.samples) == (name, expected.samples)
        for one, other in zip(found.layers, expected.layers, strict=True):
            assert np.array_equal(one.mean, other.mean), name
            assert np.array_equal(one.var, other.var), name
    assert calibrate(nn.DataParallel(chain()), samples, statistics="population").samples == len(samples)


def test_no_layer_that_ran_is_refused():
    class Idle(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.sn = SwitchNorm2d(5)

        def forward(self, x: Tensor) -> Tensor:
            return x

    with pytest.raises(SnDeployError, match="no SN layer with a BN branch ran"):
        calibrate(Idle(), Batches(images(), 8))


class OfADict(nn.Module):
    """A chain whose images, and what they are multiplied by, come in one dict."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, batch: dict[str, Tensor]) -> Tensor:
        return self.inner(batch["image"] * batch["gain"])


@pytest.mark.parametrize("nested", [True, False])
def test_a_parameter_that_holds_a_dict(nested):
    x = torch.from_numpy(images().astype(np.float32))
    gain = torch.linspace(0.5, 2.0, len(x)).reshape(-1, *[1] * (x.ndim - 1))
    wanted = calibrate(chain(), [x[:3] * gain[:3], x[3:] * gain[3:]])
    parts = [{"image": x[part], "gain": gain[part]} for part in (slice(3), slice(3, None))]
    data = [{"batch": part} if nested else {f"batch_{key}": each for key, each in part.items()} for part in parts]
    np.testing.assert_allclose(worst(pairs(calibrate(OfADict(chain()), data)), pairs(wanted)), 0, atol=1e-6)
    whole = {"image": x, "gain": gain}
    held = {"batch": whole} if nested else {f"batch_{key}": each for key, each in whole.items()}
    found = calibrate(OfADict(chain()), DataOptions({**held, "labels": np.arange(len(x))}, batch_size=len(x)))
    np.testing.assert_allclose(worst(pairs(found), pairs(calibrate(chain(), [x * gain]))), 0, atol=1e-6)


class KeepsTraining(nn.Module):
    """As code that freezes layers does, with the wrong mode."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = chain()

    def train(self, mode: bool = True) -> KeepsTraining:
        super().train(mode)
        for module in self.inner.sn:
            module.training = True
        return self

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(x)


def test_a_layer_in_training_mode_spoils_the_statistics_of_the_population():
    with pytest.raises(SnDeployError, match=r"layer .*: is in training mode though the model is in evaluation mode"):
        calibrate(KeepsTraining(), Batches(images(), 8), statistics=POPULATION)
    found, wanted = (calibrate(model, Batches(images(), 8)) for model in (KeepsTraining(), chain()))
    assert worst(pairs(found), pairs(wanted)) < RTOL

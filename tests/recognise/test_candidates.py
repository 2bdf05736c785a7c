"""Which modules look like SN: told by tensors, so that no ordinary layer is ever examined."""

import pytest
import torch
from torch import nn

from sn_deploy import nn as sn
from sn_deploy.recognise import candidate_names, recognise
from sn_deploy.recognise.candidates import candidate_from_module
from tests.recognise import deviants, variants


class Decoy(nn.Module):
    """A module with the given parameters and buffers, and some forward."""

    def __init__(self, buffers: dict[str, tuple[int, ...]] | None = None, **parameters: tuple[int, ...]) -> None:
        super().__init__()
        for name, shape in parameters.items():
            self.register_parameter(name, nn.Parameter(torch.ones(shape)))
        for name, shape in (buffers or {}).items():
            self.register_buffer(name, torch.ones(shape))

    def forward(self, x):
        return x


DECOYS = [
    *(nn.PReLU(size) for size in (1, 2, 3, 8)),
    *(nn.Linear(size, size) for size in (2, 3)),
    nn.Linear(1, 3),
    *(nn.GroupNorm(1, size) for size in (2, 3, 8)),
    *(nn.BatchNorm2d(size) for size in (2, 3, 8)),
    nn.SyncBatchNorm(3),
    *(nn.InstanceNorm2d(size, affine=True, track_running_stats=True) for size in (2, 3)),
    *(nn.LayerNorm(size) for size in (2, 3, 8)),
    *(nn.RMSNorm(size) for size in (2, 3)),
    *(nn.Conv2d(size, size, 1, groups=size) for size in (2, 3)),
    nn.Conv1d(1, 3, 1),
    nn.Bilinear(1, 1, 3),
    nn.Embedding(3, 1),
    nn.Embedding(2, 3),
    *(cell(1, 1) for cell in (nn.GRU, nn.LSTM, nn.RNN, nn.GRUCell, nn.LSTMCell)),
    nn.LSTM(2, 3),
    nn.MultiheadAttention(3, 1),
    nn.TransformerEncoderLayer(3, 1, 3),
    nn.ParameterList([torch.ones(3), torch.ones(3), torch.ones(8), torch.ones(8)]),
    nn.ParameterDict({"mean_weight": torch.ones(3), "var_weight": torch.ones(3)}),
    nn.LazyBatchNorm2d(),
    nn.LazyLinear(3),
    Decoy({"mean": (1, 3, 1, 1), "std": (1, 3, 1, 1)}),  # an image's normalisation
    Decoy({"mean": (3,), "std": (3,)}, weight=(8,), bias=(8,)),
    Decoy({"pixel_mean": (3, 1, 1), "pixel_std": (3, 1, 1)}),
    Decoy(mean=(3,), log_var=(3,)),  # a Gaussian
    Decoy(mean=(3,), log_var=(3,), weight=(3, 8), bias=(3,)),
    Decoy(w1=(2,), w2=(3,)),  # weighted feature fusion
    Decoy(w1=(3,), w2=(3,)),
    Decoy(gamma_1=(3,), gamma_2=(3,)),  # layer scale
    Decoy(gamma=(3,), beta=(3,)),
    Decoy(weight=(3,), bias=(3,), mean_scale=(3,)),  # graph norm
    Decoy(weight=(8,), bias=(8,), alpha=(1,)),  # dynamic tanh
    Decoy(weight=(3,), bias=(3,), alpha=(3,)),
    Decoy(weight=(8, 3, 3, 3), bias=(8,), a=(3,), b=(3,)),  # a convolution with something added
    Decoy(rho=(1, 3, 1, 1), gamma=(1, 3, 1, 1), beta=(1, 3, 1, 1)),
    Decoy(temperature=(3,), cls_token=(1, 1, 8), pos_embed=(1, 4, 8)),
    Decoy({"running_mean": (3,), "running_var": (3,)}, weight=(3,), bias=(3,), step=(1,)),
]


@pytest.mark.parametrize("decoy", DECOYS, ids=lambda decoy: type(decoy).__name__)
def test_ordinary_modules_are_no_candidates(decoy):
    assert candidate_names(decoy) == []


def test_the_class_name_is_not_asked():
    class SwitchNorm2d(nn.BatchNorm2d):
        pass

    found = recognise(SwitchNorm2d(3))
    assert not found.layers
    assert not found.refused


@pytest.mark.parametrize("variant", [*variants.ACCEPTED, *deviants.REFUSED])
def test_all_variants_are_candidates(variant):
    assert candidate_names(nn.Sequential(nn.ReLU(), variant())) == ["1"]


@pytest.mark.parametrize("channels", [2, 3])
@pytest.mark.parametrize("using_bn", [True, False])
def test_names_tell_the_tensors_apart_where_sizes_cannot(channels, using_bn):
    candidate = candidate_from_module("norm", sn.SwitchNorm2d(channels, using_bn=using_bn))
    assert candidate is not None
    assert (candidate.mean_mix, candidate.var_mix) == ("mean_weight", "var_weight")
    assert (candidate.scale, candidate.bias, candidate.channels) == ("weight", "bias", channels)
    assert (candidate.running_mean, candidate.running_var) == (
        ("running_mean", "running_var") if using_bn else (None, None)
    )


def test_sums_over_batches_are_told_from_running_statistics():
    layer = sn.SwitchNorm2d(4)
    layer._buffers = {"batch_mean": torch.ones(4), "batch_var": torch.ones(4), **layer._buffers}
    candidate = candidate_from_module("norm", layer)
    assert candidate is not None
    assert candidate.sums == ("batch_mean", "batch_var")
    assert candidate.running_var == "running_var"


def test_among_several_recorded_statistics_those_of_the_batch_are_taken():
    state = {f"running_{kind}_{branch}": (8,) for branch in ("in", "bn") for kind in ("mean", "var")}
    candidate = candidate_from_module("norm", Decoy(state, mean_weight=(3,), var_weight=(3,), weight=(8,), bias=(8,)))
    assert candidate is not None
    assert (candidate.running_mean, candidate.running_var) == ("running_mean_bn", "running_var_bn")


def test_whole_networks_without_sn_have_no_candidates():
    encoder = nn.TransformerEncoder(nn.TransformerEncoderLayer(4, 2, 8), 2, enable_nested_tensor=False)
    assert candidate_names(nn.Sequential(nn.Conv2d(3, 3, 3), nn.BatchNorm2d(3), nn.PReLU(3), encoder)) == []

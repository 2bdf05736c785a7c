"""Recognition leaves the user's model and process as they were."""

import copy

import numpy as np
import pytest
import torch
from torch import nn

from sn_deploy import nn as sn
from sn_deploy.recognise import recognise
from tests.randomise import randomise_
from tests.recognise import deviants
from tests.recognise.variants import ReferenceSN, trained_


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("layer", [ReferenceSN, deviants.KeepsUpdating, deviants.AlwaysBatchStatistics])
def test_state_mode_and_gradients_stay(layer, training):
    model = nn.Sequential(trained_(layer())).train(training)
    model[0].weight.grad = torch.ones_like(model[0].weight)
    before = copy.deepcopy(model.state_dict())
    pointers = [tensor.data_ptr() for tensor in model.state_dict().values()]
    attributes = set(vars(model[0]))
    recognise(model)
    after = model.state_dict()
    assert all(torch.equal(before[key], after[key]) and before[key].dtype == after[key].dtype for key in before)
    assert [tensor.data_ptr() for tensor in after.values()] == pointers
    assert model.training is training
    assert model[0].training is training
    assert torch.equal(model[0].weight.grad, torch.ones_like(model[0].weight))
    assert model[0].weight.requires_grad
    assert set(vars(model[0])) == attributes


def test_hooks_do_not_fire_and_stay():
    layer = trained_(ReferenceSN())
    fired = []
    layer.register_forward_hook(lambda *_: fired.append("forward"))
    layer.register_forward_pre_hook(lambda *_: fired.append("pre"))
    handle = torch.nn.modules.module.register_module_forward_hook(lambda *_: fired.append("global"))
    try:
        assert recognise(layer).layers
    finally:
        handle.remove()
    assert fired == []
    layer(torch.ones(1, 8, 2, 2))
    assert fired == ["pre", "forward"]


def test_a_hook_that_cannot_be_copied_is_no_obstacle():
    class Recorder:
        def __deepcopy__(self, memo):
            raise TypeError("not to be copied")

        def __call__(self, *_):
            return None

    layer = trained_(ReferenceSN())
    layer.register_forward_hook(Recorder())
    assert recognise(layer).layers


def test_a_tensor_with_a_graph_is_no_obstacle():
    layer = trained_(ReferenceSN())
    layer.cached = layer.mean_weight.softmax(0)
    assert recognise(layer).layers
    assert layer.cached.grad_fn is not None


@pytest.mark.parametrize("layer", [ReferenceSN, deviants.Noisy])
def test_random_states_stay(layer):
    module = trained_(layer())
    torch.manual_seed(5)
    np.random.seed(5)
    state, numpy_state = torch.random.get_rng_state(), np.random.get_state()[1].copy()
    recognise(module)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert np.array_equal(np.random.get_state()[1], numpy_state)


def test_the_result_keeps_its_values_when_training_goes_on():
    layer = randomise_(sn.SwitchNorm2d(4), 1).double()
    folded = recognise(layer).layers[""]
    before = folded.scale.copy(), folded.mean_offset.copy()
    with torch.no_grad():
        layer.weight.add_(1)
        layer.running_mean.add_(1)
    assert np.array_equal(folded.scale, before[0])
    assert np.array_equal(folded.mean_offset, before[1])


def test_autocast_and_default_dtype_of_the_caller_do_not_matter():
    layer = randomise_(sn.SwitchNorm2d(4), 1)
    expected = recognise(layer).layers[""]
    torch.set_default_dtype(torch.float64)
    try:
        with torch.autocast("cpu", dtype=torch.bfloat16), torch.inference_mode():
            found = recognise(layer).layers[""]
    finally:
        torch.set_default_dtype(torch.float32)
    assert np.array_equal(found.var_offset, expected.var_offset)
    assert found.mean_in == expected.mean_in

"""What isn't SN is refused with its cause, the size of the mismatch and a mend."""

import re

import pytest
import torch
from torch import nn

from sn_deploy import nn as sn
from sn_deploy.recognise import Refusal, recognise
from tests.randomise import randomise_
from tests.recognise import deviants
from tests.recognise.deviants import REFUSED
from tests.recognise.variants import C, RawWeights, ReferenceSN, trained_


def only_refusal(model: nn.Module, **options) -> Refusal:
    found = recognise(model, **options)
    assert not found.layers
    (refusal,) = found.refused.values()
    assert "\n" not in refusal.reason
    return refusal


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize(("deviant", "cause"), REFUSED.items(), ids=lambda value: getattr(value, "__name__", ""))
def test_deviations_are_named_with_their_size(deviant, cause, seed):
    refusal = only_refusal(trained_(deviant(), seed))
    size = r"differs from Switchable Normalization by (\d\.\de[+-]\d\d) of its output(: |, and )"
    found = re.fullmatch(size + re.escape(cause), refusal.reason)
    assert found, refusal.reason
    assert float(found[1]) > 1e-8
    assert refusal.mend


def test_deviations_of_vectors_are_named_too():
    refusal = only_refusal(trained_(deviants.VectorsWithMixedDeviations()))
    assert refusal.reason.endswith("of its output: standard deviations are mixed instead of variances")


@pytest.mark.parametrize("sw_type", [2, 3, 5])
@pytest.mark.parametrize(("tie_weight", "affine"), [(False, True), (True, True), (False, False), (True, False)])
def test_switchable_whitening_is_refused_by_what_it_does(sw_type, tie_weight, affine):
    refusal = only_refusal(trained_(deviants.Whitening(sw_type, tie_weight, affine)))
    assert "a mixture of 4 channels of its input, so it whitens them, as Switchable Whitening does" in refusal.reason
    assert "the operator has no covariance" in refusal.mend


def test_whitening_with_a_share_of_zero_is_still_no_switch_norm():
    """All weight on LN of three: the covariance is diagonal, and the layer is SN's LN branch but for its divisor."""
    layer = trained_(deviants.Whitening(3))
    with torch.no_grad():
        layer.sw_mean_weight.copy_(torch.tensor([-80.0, -80.0, 80.0]))
        layer.sw_var_weight.copy_(torch.tensor([-80.0, -80.0, 80.0]))
    assert "the layer variance is unbiased over C·HW values" in only_refusal(layer).reason


def test_a_module_that_only_trains():
    refusal = only_refusal(trained_(deviants.AlwaysBatchStatistics()))
    assert re.fullmatch(
        r"a training-mode-only module: the output of a sample changes by \d\.\de-0\d with the rest of its batch, so it "
        "uses batch statistics in evaluation mode",
        refusal.reason,
    )


@pytest.mark.parametrize(
    ("deviant", "reason", "mend"),
    [
        (
            deviants.NeedsCuda,
            "its forward fails on a 2×8×2×3 float64 input: RuntimeError: only CUDA tensors are supported",
            "give a layer that runs on the CPU: those of sn_deploy.nn load the same checkpoint",
        ),
        (
            deviants.NeedsProcessGroup,
            "its forward fails on a 2×8×2×3 float64 input: ValueError: Default process group has not been initialized, "
            "please call init_process_group",
            "make its forward skip communication in evaluation mode, or use a layer of sn_deploy.nn instead",
        ),
        (
            deviants.Raises,
            "its forward fails on a 2×8×2×3 float64 input: KeyError: 'not_there'",
            "make its forward work in evaluation mode on the CPU, in float64",
        ),
        (
            deviants.HalfOutput,
            "its output is float16 for a float32 input",
            "cast the output back to the input's dtype",
        ),
        (deviants.ReturnsPair, "its forward returns tuple, not a tensor", "return the normalised tensor alone"),
    ],
)
def test_a_forward_that_fails_or_gives_something_else(deviant, reason, mend):
    refusal = only_refusal(trained_(deviant()))
    assert (refusal.reason, refusal.mend) == (reason, mend)


def test_an_output_of_another_shape():
    refusal = only_refusal(trained_(deviants.OtherShape()), input_shapes={"": (1, C, 9, 9)})
    assert refusal.reason == "its output has shape 2×8×6 for an input of 2×8×2×3"


@pytest.mark.parametrize("deviant", [deviants.Noisy, deviants.KeepsUpdating])
def test_an_output_that_does_not_repeat(deviant):
    assert re.match(
        r"the same input gives another output the second time \(by \d\.\de[+-]\d\d\): it is random in evaluation mode, "
        "or changes its own state",
        only_refusal(trained_(deviant())).reason,
    )


def test_the_layers_own_size_is_probed_too():
    layer = trained_(deviants.SizeDependent())
    assert recognise(layer).layers  # probes can't see what they don't reach: hence input_shapes
    reason = only_refusal(layer, input_shapes={"": (1, C, 16, 16)}).reason
    assert re.match(r"it agrees .* on small inputs, but differs by 5.0e-01 .* its own size 1×8×16×16", reason)


@pytest.mark.parametrize(
    ("deviant", "which"), [(deviants.ClampedFarOut, "large"), (deviants.VarianceAboveALimit, "small")]
)
def test_a_limit_beyond_usual_inputs(deviant, which):
    refusal = only_refusal(trained_(deviant()))
    assert re.fullmatch(
        r"it agrees with Switchable Normalization on usual inputs, but differs by \d\.\de[+-]\d\d of its output on "
        f"very {which} ones",
        refusal.reason,
    )
    assert "clamp" in refusal.mend


def test_a_variance_kept_positive_is_the_same_layer():
    assert recognise(trained_(deviants.VarianceAboveALimit(1e-12))).layers
    assert recognise(trained_(deviants.VarianceAboveALimit(1e-12)).half().float()).layers


def test_a_single_position_has_no_unbiased_variance():
    refusal = only_refusal(randomise_(sn.SwitchNorm2d(4), 1), input_shapes={"": (2, 4, 1, 1)})
    assert "the variance of 1 spatial positions with divisor 1 - 1 has no value" in refusal.reason
    assert refusal.mend


@pytest.mark.parametrize("name", ["weight", "bias", "running_mean", "running_var", "mean_weight", "var_weight"])
@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_values_that_are_not_finite(name, value):
    layer = randomise_(sn.SwitchNorm2d(4), 1)
    getattr(layer, name).data.view(-1)[1:] = value
    more = 1 if "_weight" in name else 2
    assert only_refusal(layer).reason == f"{name}[1] is {value} (and {more} more)"


@pytest.mark.parametrize("value", [-0.25, -3.0])
def test_a_negative_running_variance(value):
    layer = randomise_(sn.SwitchNorm2d(4), 1)
    layer.running_var[0, 2] = value
    refusal = only_refusal(layer)
    assert refusal.reason.startswith(f"running_var[2] is {value:.4g}: with a negative running variance, var + eps can ")
    assert "statistics" in refusal.mend


def test_a_running_variance_that_eps_lifts_above_zero_is_accepted():
    layer = randomise_(sn.SwitchNorm2d(4), 1)
    layer.running_var[0, 2] = -1e-7
    assert recognise(layer).layers


def test_a_negative_share_of_the_running_variance():
    layer = trained_(RawWeights())
    layer.mix_var.data.copy_(torch.tensor([3.0, 3.0, -4e-5]))
    assert "can be below zero" in only_refusal(layer).reason


def test_channels_last():
    refusal = only_refusal(trained_(ReferenceSN()), input_shapes={"": (2, 49, C)})
    assert refusal.reason == "its input is 2×49×8, and its parameters have 8 channels: it takes its channels last"
    assert "sn-deploy fuse" in refusal.mend
    reason = only_refusal(trained_(ReferenceSN()), input_shapes={"": (2, 49, 7)}).reason
    assert reason == "its input is 2×49×7, with 49 channels along axis 1, and its parameters have 8"


def test_an_unknown_number_of_channels():
    layer = sn.SwitchNorm2d(4, using_bn=False)
    del layer.weight, layer.bias, layer.num_features
    refusal = only_refusal(layer)
    assert refusal.reason == ("nothing tells its number of channels: it has no affine part and no running statistics")
    assert refusal.mend == "give the shape of its input"


def test_the_meta_device():
    with torch.device("meta"):
        layer = sn.SwitchNorm2d(4)
    assert "meta device" in only_refusal(layer).reason


def test_sums_that_evaluation_does_not_read():
    layer = sn.SwitchNorm2d(4, using_moving_average=False)
    layer.register_buffer("batch_mean", torch.ones(1, 4, 1))
    layer.register_buffer("batch_var", torch.ones(1, 4, 1))
    refusal = only_refusal(layer)
    assert "batch_var holds sums over batches that were never divided" in refusal.reason
    assert "--finalize-batch-average N" in refusal.mend


def test_a_forward_that_a_copy_would_share():
    layer = trained_(ReferenceSN())
    own = layer.forward
    layer.forward = lambda x: own(x)
    assert "replaced on the instance by a closure" in only_refusal(layer).reason


def test_a_layer_that_is_more_than_its_forward():
    class Scaled(ReferenceSN):
        def __call__(self, x):
            return 2 * super().__call__(x)

    assert "has a __call__ of its own" in only_refusal(trained_(Scaled())).reason


def test_a_module_that_cannot_be_copied():
    class Uncopyable(ReferenceSN):
        def __deepcopy__(self, memo):
            raise TypeError("cannot pickle '_thread.lock' object")

    reason = only_refusal(trained_(Uncopyable())).reason
    assert reason == "it can't be copied, so it can't be probed: TypeError: cannot pickle '_thread.lock' object"

"""What is seen of the layers of a torch model: in place or not, alone, with a ReLU, with a residual."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from sn_deploy.capture.layer_taps import record_layers
from sn_deploy.graph.op import SWITCH_NORM, SWITCH_NORM_ADD_RELU, SWITCH_NORM_RELU
from sn_deploy.nn import SwitchNorm2d
from sn_deploy.recognise.running_layers import find_layers
from tests.randomise import randomise_

X = torch.randn(2, 4, 6, 5, generator=torch.Generator().manual_seed(0))
EVERYTHING: Callable[[str, str], bool] = lambda layer, point: True  # noqa: E731


class Net(nn.Module):
    """One layer and what a function makes of its output and its input."""

    def __init__(self, behind: Callable[[Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        self.sn, self.behind = SwitchNorm2d(4), behind
        randomise_(self.eval(), 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.behind(self.sn(x), x)


def added_in_place(y: Tensor, x: Tensor) -> Tensor:
    y += x
    return F.relu(y, inplace=True)


def added_to_the_residual(y: Tensor, x: Tensor) -> Tensor:
    residual = x.clone()
    residual += y
    return residual.relu_()


BEHIND: dict[str, tuple[Callable[[Tensor, Tensor], Tensor], str]] = {
    "ReLU": (lambda y, x: F.relu(y), SWITCH_NORM_RELU),
    "ReLU in place": (lambda y, x: F.relu(y, inplace=True), SWITCH_NORM_RELU),
    "clamp": (lambda y, x: y.clamp(min=0), SWITCH_NORM_RELU),
    "residual": (lambda y, x: torch.relu(y + x), SWITCH_NORM_ADD_RELU),
    "residual first": (lambda y, x: torch.relu(x + y), SWITCH_NORM_ADD_RELU),
    "residual in place": (added_in_place, SWITCH_NORM_ADD_RELU),
    "added to the residual": (added_to_the_residual, SWITCH_NORM_ADD_RELU),
}


@pytest.mark.parametrize("name", list(BEHIND))
@pytest.mark.parametrize("mode", [torch.inference_mode, torch.no_grad])
def test_a_layer_is_followed_to_its_relu(name: str, mode: Callable[[], torch.no_grad]) -> None:
    behind, form = BEHIND[name]
    model = Net(behind)
    with mode():
        calls = record_layers(model, {"sn": None}, lambda: model(X.clone()), EVERYTHING)
        sn = model.sn(X)
    assert list(calls) == ["sn"]
    call = calls["sn"]
    torch.testing.assert_close(call.x, X, rtol=0, atol=0)
    assert set(call.outputs) == {SWITCH_NORM, form}
    torch.testing.assert_close(call.outputs[SWITCH_NORM], sn, rtol=0, atol=0)
    wanted = torch.relu(sn + X) if form == SWITCH_NORM_ADD_RELU else torch.relu(sn)
    torch.testing.assert_close(call.outputs[form], wanted, rtol=0, atol=0)
    if form == SWITCH_NORM_ADD_RELU:
        torch.testing.assert_close(call.residual, X, rtol=0, atol=0)


@pytest.mark.parametrize(
    "behind",
    [
        lambda y, x: y.clamp(-1, 1),
        lambda y, x: F.relu6(y),
        lambda y, x: torch.relu(y + x[:1]),  # broadcast
        lambda y, x: torch.relu(torch.add(y, x, alpha=2)),
        lambda y, x: torch.relu((y + x) + x),
        lambda y, x: torch.relu(y * 2),
    ],
)
def test_what_the_fused_operators_are_not_is_not_seen_as_them(behind: Callable[[Tensor, Tensor], Tensor]) -> None:
    model = Net(behind)
    calls = record_layers(model, {"sn": None}, lambda: model(X), EVERYTHING)
    assert set(calls["sn"].outputs) == {SWITCH_NORM}


def test_a_layer_whose_forward_is_called_directly_is_seen_without_what_its_hooks_do() -> None:
    class CallsForward(Net):
        def forward(self, x: Tensor) -> Tensor:
            return torch.relu(self.sn.forward(x)) + self.sn(x)

    model = CallsForward(lambda y, x: y)
    model.sn.register_forward_hook(lambda _module, _args, y: y * 3)
    calls = record_layers(model, {"sn": None}, lambda: model(X), EVERYTHING)
    assert list(calls) == ["sn", "sn#2"]
    assert set(calls["sn"].outputs) == {SWITCH_NORM, SWITCH_NORM_RELU}
    wanted = model.sn.forward(X)
    for call in calls.values():
        torch.testing.assert_close(call.outputs[SWITCH_NORM], wanted, rtol=0, atol=0)
    assert list(find_layers(model, lambda: model(X)).layers) == ["sn"]


def test_only_what_is_wanted_is_kept_and_the_watch_goes() -> None:
    model = Net(lambda y, x: torch.relu(y + x))
    calls = record_layers(model, {"sn": None}, lambda: model(X), lambda layer, point: point == SWITCH_NORM)
    assert calls["sn"].x is None
    assert calls["sn"].residual is None
    assert set(calls["sn"].outputs) == {SWITCH_NORM}
    assert not model.sn._forward_hooks
    assert "forward" not in vars(model.sn)


def test_two_calls_and_two_layers_of_one_sum() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one, self.other = SwitchNorm2d(4), SwitchNorm2d(4)
            randomise_(self.eval(), 2)

        def forward(self, x: Tensor) -> Tensor:
            total = self.one(x) + self.other(x)
            return self.one(torch.relu(total))

    model = Twice()
    calls = record_layers(model, {"one": None, "other": None}, lambda: model(X), EVERYTHING)
    assert list(calls) == ["one", "other", "one#2"]
    assert set(calls["one"].outputs) == set(calls["other"].outputs) == {SWITCH_NORM, SWITCH_NORM_ADD_RELU}
    torch.testing.assert_close(calls["one"].residual, calls["other"].outputs[SWITCH_NORM])
    torch.testing.assert_close(calls["one#2"].x, calls["one"].outputs[SWITCH_NORM_ADD_RELU])
    found = find_layers(model, lambda: model(X))
    assert list(found.layers) == ["one", "other"]


def test_a_layer_that_is_no_sn_is_told() -> None:
    class GroupNormIn(SwitchNorm2d):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x) * 2

    model = Net(lambda y, x: y)
    model.sn = randomise_(GroupNormIn(4).eval(), 3)  # type: ignore[assignment]
    found = find_layers(model, lambda: model(X))
    assert found.layers == {}
    assert list(found.refused) == ["sn"]

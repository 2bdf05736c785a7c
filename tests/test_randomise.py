"""The helper itself: tests that lean on it must not agree by accident."""

from __future__ import annotations

import torch

from sn_deploy.nn import SwitchNorm1d, SwitchNorm2d
from tests.randomise import centre_logits_, randomise_


def model() -> torch.nn.Sequential:
    return torch.nn.Sequential(
        SwitchNorm2d(3), SwitchNorm2d(3, using_bn=False, last_gamma=True), torch.nn.Flatten(), SwitchNorm1d(12)
    )


def test_the_seed_alone_decides() -> None:
    torch.manual_seed(1)
    one = randomise_(model(), 5)
    torch.manual_seed(2)
    state = torch.get_rng_state()
    two = randomise_(model().double(), 5)
    assert torch.equal(state, torch.get_rng_state())
    assert all(torch.equal(a, b.float()) for a, b in zip(one.parameters(), two.parameters(), strict=True))
    other = randomise_(model(), 6)
    assert not any(torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))


def test_no_two_shares_are_equal_and_variances_are_positive() -> None:
    randomised = randomise_(model(), 5)
    for name, value in randomised.state_dict().items():
        assert value.unique().numel() == value.numel(), name
        assert "running_var" not in name or bool((value > 0).all())


def test_centred_logits_tell_images_apart() -> None:
    net = torch.nn.Sequential(model(), torch.nn.Linear(12, 20))
    images = torch.randn(8, 3, 2, 2, generator=torch.Generator().manual_seed(0))
    logits = centre_logits_(randomise_(net, 5), images)(images)
    torch.testing.assert_close(logits.mean(0), torch.zeros(20), atol=1e-5, rtol=0)
    assert logits.argmax(1).unique().numel() > 2

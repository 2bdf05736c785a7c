"""`sn_deploy.nn.convert`: the BatchNorm model's own output at the start, then a model to train and deploy."""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

import sn_deploy
from sn_deploy.compare.parity import compare
from sn_deploy.errors import SnDeployError
from sn_deploy.nn import SwitchNorm1d, SwitchNorm2d, SwitchNorm3d, SwitchNormSequence, convert
from sn_deploy.nn.conversion import DEFAULT_SHARE
from sn_deploy.runtime.ort import OrtSession
from tests.tolerances import TOLERANCES

BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


class Block(nn.Module):
    """A residual block as torchvision has it, one ReLU for both places."""

    def __init__(self, channels: int, out: int, stride: int) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(channels, out, 3, stride, 1, bias=False), nn.BatchNorm2d(out)
        self.conv2, self.bn2 = nn.Conv2d(out, out, 3, 1, 1, bias=False), nn.BatchNorm2d(out)
        self.relu = nn.ReLU(inplace=True)
        changes = stride != 1 or channels != out
        down = nn.Sequential(nn.Conv2d(channels, out, 1, stride, bias=False), nn.BatchNorm2d(out))
        self.downsample = down if changes else None

    def forward(self, x: Tensor) -> Tensor:
        y = self.relu(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        return self.relu(y + (x if self.downsample is None else self.downsample(x)))


class ResNet(nn.Module):
    def __init__(self, blocks: int = 2) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, 8, 7, 2, 3, bias=False), nn.BatchNorm2d(8)
        layers = [
            nn.Sequential(*(Block(c if i == 0 else o, o, s if i == 0 else 1) for i in range(blocks)))
            for c, o, s in ((8, 8, 1), (8, 16, 2), (16, 32, 2))
        ]
        self.layer1, self.layer2, self.layer3 = layers
        self.fc = nn.Linear(32, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = F.max_pool2d(self.bn1(self.conv1(x)).relu(), 3, 2, 1)
        return self.fc(self.layer3(self.layer2(self.layer1(x))).mean((2, 3)))


def trained_(model: nn.Module, seed: int = 0) -> nn.Module:
    """BatchNorm layers with statistics, factors and shifts as after training."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, BATCH_NORMS):
                module.running_mean.copy_(torch.randn(module.running_mean.shape, generator=generator))
                module.running_var.copy_(0.5 + torch.rand(module.running_var.shape, generator=generator))
                if module.affine:
                    module.weight.copy_(0.5 + torch.rand(module.weight.shape, generator=generator))
                    module.bias.copy_(0.2 * torch.randn(module.bias.shape, generator=generator))
    return model.eval()


def resnet(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return trained_(ResNet(), seed)


def images(count: int = 4, size: int = 48, seed: int = 0) -> Tensor:
    return torch.randn(count, 3, size, size, generator=torch.Generator().manual_seed(seed))


def rel_l2(model: nn.Module, other: nn.Module, *inputs: Tensor) -> float:
    with torch.no_grad():
        return compare(model(*inputs).numpy(), other(*inputs).numpy()).rel_l2


def test_a_resnet_computes_the_same_in_evaluation_mode():
    model = resnet()
    converted = convert(copy.deepcopy(model))
    assert sum(isinstance(m, SwitchNorm2d) for m in converted.modules()) == 15
    assert not any(isinstance(m, nn.BatchNorm2d) for m in converted.modules())
    assert rel_l2(model, converted, images()) < 1e-5
    with torch.no_grad():
        assert (converted(images()) - model(images())).abs().max() < 1e-5
    assert converted.layer2[0].downsample[1].running_var.shape == (1, 16, 1)


@pytest.mark.parametrize("fault", ["weight", "running_mean", "running_var", "eps", "order"])
def test_what_is_not_carried_over_shows(fault):
    model = resnet()
    converted = convert(copy.deepcopy(model))
    for module in converted.modules():
        if isinstance(module, SwitchNorm2d):
            if fault == "eps":
                module.eps = 1e-3
            elif fault == "order":
                module.mean_weight.data = module.mean_weight.data.roll(1)
            else:
                getattr(module, fault).data.fill_(1)
    assert rel_l2(model, converted, images()) > 1e-4


def test_the_shares_are_one_for_bn_and_their_logits_finite_and_small():
    layer = convert(resnet()).bn1
    for logits in (layer.mean_weight, layer.var_weight):
        shares = logits.double().softmax(0)
        assert torch.isfinite(logits).all()
        assert logits.abs().max() < 17
        assert shares[:2].tolist() == pytest.approx([DEFAULT_SHARE] * 2, rel=1e-5)
        assert shares[2].item() == pytest.approx(1, abs=3 * DEFAULT_SHARE)


def test_other_options_are_carried_over():
    model = nn.Sequential(nn.BatchNorm2d(3, eps=1e-3, momentum=0.25, affine=False), nn.BatchNorm2d(3, momentum=None))
    model[1].bias.requires_grad_(False)
    converted = convert(trained_(model).double().train())
    first, second = converted
    assert (first.eps, first.momentum) == (1e-3, 0.75)
    assert second.momentum == SwitchNorm2d(3).momentum
    assert first.training
    assert first.running_mean.dtype == first.weight.dtype == torch.float64
    assert [p.requires_grad for p in (first.weight, first.bias, second.weight, second.bias)] == [
        False,
        False,
        True,
        False,
    ]


def test_ranks_are_taken_from_example_inputs():
    class Mixed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.vectors, self.sequences, self.volumes = nn.BatchNorm1d(6), nn.BatchNorm1d(4), nn.BatchNorm3d(2)

        def forward(self, vectors: Tensor, sequences: Tensor, volumes: Tensor) -> Tensor:
            parts = (self.vectors(vectors), self.sequences(sequences), self.volumes.forward(volumes))
            return torch.cat([part.flatten() for part in parts])

    model = trained_(Mixed())
    inputs = torch.randn(3, 6), torch.randn(3, 4, 7), torch.randn(2, 2, 3, 4, 5)
    converted = convert(copy.deepcopy(model), inputs)
    assert type(converted.vectors) is SwitchNorm1d
    assert type(converted.sequences) is SwitchNormSequence
    assert type(converted.volumes) is SwitchNorm3d
    assert rel_l2(model, converted, *inputs) < 1e-6
    with pytest.raises(SnDeployError, match=r"^layer 'vectors': is a BatchNorm1d.*give example_inputs"):
        convert(copy.deepcopy(model))


def test_example_inputs_are_given_by_name_as_for_export():
    class Named(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm = nn.BatchNorm1d(4)

        def forward(self, first: Tensor, second: Tensor) -> Tensor:
            return self.norm(input=first) + second

    model = trained_(Named())
    inputs = {"second": torch.randn(3, 4, 7), "first": torch.randn(3, 4, 7)}
    converted = convert(copy.deepcopy(model), inputs)
    assert type(converted.norm) is SwitchNormSequence
    with torch.no_grad():
        torch.testing.assert_close(converted(**inputs), model(**inputs))


def test_a_model_whose_copy_would_run_the_original_is_refused_and_keeps_its_statistics():
    """The original is in training mode: a call of it would record the example's statistics."""
    norm = nn.BatchNorm1d(4)
    bound = nn.Sequential(norm)
    bound.forward = lambda x: norm(x)  # type: ignore[method-assign]

    class Calls(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm = nn.BatchNorm1d(4)
            self.steps = [lambda x: self.norm(x)]

        def forward(self, x: Tensor) -> Tensor:
            return self.steps[0](x)

    calls = Calls()
    for model, layer, message in (
        (bound, norm, "a copy of the model would run the original"),
        (calls, calls.norm, "'norm'.*is called by what a copy of the model shares with it"),
    ):
        with pytest.raises(SnDeployError, match=message):
            convert(model, torch.randn(8, 4) + 5)
        assert layer.running_mean is not None
        assert not layer.running_mean.any()


def test_what_is_no_model_is_told():
    with pytest.raises(SnDeployError, match=r"^the model is a str \(expected a torch.nn.Module\); .*load_state_dict"):
        convert("best.pth")  # type: ignore[arg-type]
    with pytest.raises(SnDeployError, match=r"^the model is a type .*; give an instance of it: BatchNorm2d\("):
        convert(nn.BatchNorm2d)  # type: ignore[arg-type]


def test_shared_modules_and_parameters_stay_shared():
    class Shared(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 3, 3, padding=1)
            self.norm = nn.BatchNorm2d(3)
            self.again = nn.ModuleDict({"norm": self.norm})
            self.tied = nn.BatchNorm2d(3)
            self.tied.weight = self.norm.weight

        def forward(self, x: Tensor) -> Tensor:
            return self.tied(self.again["norm"](self.conv(self.norm(self.conv(x)))))

    model = trained_(Shared())
    converted = convert(copy.deepcopy(model))
    assert converted.norm is converted.again["norm"]
    assert converted.norm.weight is converted.tied.weight
    assert rel_l2(model, converted, images(2, 8)) < 1e-6


def test_a_model_that_is_a_layer_gives_the_new_one_and_layers_can_stay():
    assert isinstance(convert(nn.BatchNorm2d(3)), SwitchNorm2d)
    model = convert(resnet(), keep=["bn1", "layer2.0.downsample.1"])
    assert isinstance(model.bn1, nn.BatchNorm2d)
    assert isinstance(model.layer2[0].downsample[1], nn.BatchNorm2d)
    assert isinstance(model.layer2[0].bn1, SwitchNorm2d)


class Own(nn.BatchNorm2d):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) + 1


@pytest.mark.parametrize(
    ("model", "options", "message"),
    [
        (nn.Sequential(nn.BatchNorm2d(3), Own(3)), {}, "layer '1': is a Own, whose forward isn't BatchNorm's"),
        (nn.Sequential(nn.SyncBatchNorm(3)), {}, "layer '0': is a SyncBatchNorm"),
        (nn.Sequential(nn.LazyBatchNorm2d()), {}, "layer '0': is lazy"),
        (nn.Sequential(nn.BatchNorm2d(3, track_running_stats=False)), {}, "layer '0': has no running statistics"),
        (nn.Sequential(nn.Conv2d(3, 3, 1), nn.InstanceNorm2d(3)), {}, "there is no BatchNorm layer to convert"),
        (convert(nn.Sequential(nn.BatchNorm2d(3))), {}, "it has 1 SN layers: it may have been converted before"),
        (nn.Sequential(nn.BatchNorm2d(3)), {"keep": ["bn"]}, "there is no BatchNorm layer 'bn'"),
        (nn.Sequential(nn.Conv2d(3, 3, 1)), {"keep": ["bn"]}, "expected none: the model has no such layer"),
        (nn.Sequential(nn.BatchNorm2d(3)), {"other_share": 0}, "other_share is 0"),
        (
            nn.Sequential(nn.BatchNorm2d(3)),
            {"example_inputs": torch.zeros(1, 4, 5, 5)},
            "the model fails on the example",
        ),
        (nn.Sequential(nn.BatchNorm2d(3)), {"example_inputs": torch.zeros(1, 3, 1, 1)}, "one position"),
    ],
)
def test_what_cannot_be_converted_is_named_and_nothing_is_changed(model, options, message):
    before = list(model.named_modules())
    with pytest.raises(SnDeployError) as caught:
        convert(model, **options)
    assert message in str(caught.value)
    assert list(model.named_modules()) == before


# --- afterwards -------------------------------------------------------------------------------------------------------


def problem(seed: int = 0) -> tuple[Tensor, Tensor]:
    """Images whose class is in their contrast, not in their level, which differs from image to image as in the wild."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(32) % 2
    noise = torch.randn(32, 3, 24, 24, generator=generator) * (1 + labels[:, None, None, None])
    return noise + 2 * torch.randn(32, 1, 1, 1, generator=generator), labels


@pytest.mark.parametrize(("optimizer", "share"), [("sgd", 0.1), ("sgd", DEFAULT_SHARE), ("adam", DEFAULT_SHARE)])
def test_gradients_reach_every_parameter_and_the_shares_can_move(optimizer, share):
    """By SGD from a large share alone; by Adam, which doesn't mind small gradients, from the default one, too."""
    torch.manual_seed(0)
    converted = convert(trained_(ResNet(blocks=1)), other_share=share).train()
    mix = [p for name, p in converted.named_parameters() if name.endswith(("mean_weight", "var_weight"))]
    rest = [p for name, p in converted.named_parameters() if not name.endswith(("mean_weight", "var_weight"))]
    before = [p.detach().softmax(0).clone() for p in mix]
    x, labels = problem()
    groups = [{"params": mix, "lr": 0.5}, {"params": rest, "lr": 0.01}]
    optim = torch.optim.SGD(groups) if optimizer == "sgd" else torch.optim.Adam(groups, eps=1e-15)
    losses = []
    for _ in range(20):
        optim.zero_grad()
        loss = F.cross_entropy(converted(x)[:, :2], labels)
        loss.backward()
        if not losses:
            assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in converted.parameters())
            assert all(p.grad.abs().max() > 0 for p in mix)
        optim.step()
        losses.append(loss.item())
    assert losses[-1] < 0.7 * losses[0]
    moved = max((p.detach().softmax(0) - old).abs().max().item() for p, old in zip(mix, before, strict=True))
    if optimizer == "sgd" and share == DEFAULT_SHARE:
        assert moved < 1e-6  # as the guide says: a share of p has a gradient of the order of p
    else:
        assert moved > 0.005


def test_a_converted_model_is_exported_like_any_other(tmp_path: Path):
    converted = convert(resnet())
    report = sn_deploy.export(converted, images(1), tmp_path / "net.onnx", dynamic=("batch", "spatial"))
    assert sum(report.forms.values()) == 15
    with OrtSession(tmp_path / "net.onnx") as session:
        for x in (images(3), images(2, 64)):
            (y,) = session.run({session.inputs[0].name: x.numpy()}).values()
            with torch.no_grad():
                expected = copy.deepcopy(converted).double()(x.double()).numpy()
            assert np.isfinite(y).all()
            assert compare(expected, y).rel_l2 < TOLERANCES["float32"].rel_l2

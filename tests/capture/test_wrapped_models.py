"""What training puts around a model and its blocks: the file has the model's own layers, and computes what it does."""

from __future__ import annotations

import copy
import functools
import types
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from torch import Tensor, distributed, nn
from torch.distributed import fsdp
from torch.distributed.algorithms._checkpoint.checkpoint_wrapper import checkpoint_wrapper
from torch.nn.utils import parametrizations, parametrize, prune
from torch.utils.checkpoint import checkpoint, checkpoint_sequential

import sn_deploy
from sn_deploy.calibrate import calibrate
from sn_deploy.capture.user_model import build_model
from sn_deploy.check.batch import Batch
from sn_deploy.compare.parity import compare
from sn_deploy.errors import SnDeployError
from sn_deploy.nn import SwitchNorm2d
from sn_deploy.runtime.ort import OrtSession
from sn_deploy.runtime.torch import array_from_tensor
from tests.randomise import randomise_
from tests.tolerances import TOLERANCES

X = torch.randn(2, 3, 8, 9, generator=torch.Generator().manual_seed(0))
LAYERS = ["sn", "block.1"]

Change = Callable[[nn.Module], nn.Module]


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.sn = nn.Conv2d(3, 4, 3, padding=1), SwitchNorm2d(4)
        self.block = nn.Sequential(nn.Conv2d(4, 4, 1), SwitchNorm2d(4))
        self.head = nn.Conv2d(4, 2, 1)

    def forward(self, image: Tensor) -> Tensor:
        return self.head(self.block(torch.relu(self.sn(self.conv(image)))))


def make(kind: type[nn.Module] = Net) -> nn.Module:
    torch.manual_seed(0)
    return randomise_(kind(), 1)


def exported(model: nn.Module, path: Path) -> tuple[list[str], np.ndarray]:
    """The names of the layers that became nodes, and the file's output for X."""
    report = sn_deploy.export(model, X, path, trust_statistics=True)
    assert list(report.inputs) == ["image"]
    assert not report.unused
    with OrtSession(path) as session:
        (output,) = session.run({"image": array_from_tensor(X)}).values()
    return [layer.folded.name for layer in report.layers], output


def in_float64(model: nn.Module) -> np.ndarray:
    with torch.no_grad():
        return array_from_tensor(copy.deepcopy(model).double().eval()(X.double()))


def compiled(what: Any) -> Any:
    return torch.compile(what, backend="eager")


def with_child(name: str, wrap: Callable[[Any], Any]) -> Change:
    """Another module in the place of a child of the model."""

    def change(model: nn.Module) -> nn.Module:
        setattr(model, name, wrap(getattr(model, name)))
        return model

    return change


def with_forward(name: str, wrap: Callable[[Any], Any]) -> Change:
    """Another forward on an instance: of the model, or of a part."""

    def change(model: nn.Module) -> nn.Module:
        part = model.get_submodule(name)
        part.forward = wrap(part.forward)
        return model

    return change


def compiled_in_place(model: nn.Module) -> nn.Module:
    model.sn.compile(backend="eager")
    model.compile(backend="eager")
    return model


WRAPPED: dict[str, Change] = {
    "AveragedModel": torch.optim.swa_utils.AveragedModel,
    "checkpoint_wrapper": checkpoint_wrapper,
    "compiled in parallel": lambda model: nn.DataParallel(compiled(model)),
    "compiled layer": with_child("sn", compiled),
    "compiled block": with_child("block", compiled),
    "block in parallel": with_child("block", nn.DataParallel),
    "checkpointed block": with_child("block", checkpoint_wrapper),
    "both": with_child("block", lambda block: compiled(checkpoint_wrapper(block))),
    "compile()": compiled_in_place,
    "compiled forward": with_forward("", compiled),
    "compiled forward of a layer": with_forward("sn", compiled),
    # torch.compile puts a function of its own around a forward that is torch's.
    "compiled forward of a Sequential": with_forward("block", compiled),
    "method": with_forward("", lambda forward: types.MethodType(Net.forward, forward.__self__)),
    "partial": with_forward("", lambda forward: functools.partial(Net.forward, forward.__self__)),
}


@pytest.mark.parametrize("name", list(WRAPPED))
def test_wrappers_are_taken_off_wherever_they_stand(name: str, tmp_path: Path) -> None:
    expected = in_float64(make())
    wrapped = WRAPPED[name](make())
    before = list(wrapped.state_dict())
    layers, output = exported(wrapped, tmp_path / "net.onnx")
    assert layers == LAYERS
    assert compare(expected, output).rel_l2 < TOLERANCES["float32"].rel_l2
    assert list(wrapped.state_dict()) == before  # the user's stays wrapped


@pytest.mark.parametrize("name", list(WRAPPED))
def test_calibrate_keeps_the_names_that_the_model_has(name: str) -> None:
    class Data:
        batches = 2

        def __iter__(self) -> Any:
            rng = np.random.default_rng(0)
            return (Batch(i, 2 * i, {"image": rng.normal(size=X.shape).astype(np.float32)}) for i in range(2))

    expected = calibrate(make(), Data())
    wrapped = WRAPPED[name](make())
    found = calibrate(wrapped, Data())
    for layer, plain in zip(found.layers, expected.layers, strict=True):
        np.testing.assert_array_equal(layer.mean, plain.mean)
        assert set(layer.identity.mean_keys) <= wrapped.state_dict().keys()


def test_the_command_lines_model_has_its_own_names(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(globals(), "wrapped", lambda: nn.DataParallel(WRAPPED["both"](make())))
    assert list(build_model(f"{__name__}:wrapped", {}).state_dict()) == list(make().state_dict())


@pytest.mark.parametrize(
    "wrap",
    [
        lambda forward: lambda image: forward(image) * 2,
        lambda forward: compiled(lambda image: forward(image) * 2),
        torch.no_grad(),
    ],
    ids=["closure", "compiled closure", "decorator"],
)
@pytest.mark.parametrize(("part", "place"), [("", "Net"), ("block", "module 'block'"), ("sn", "module 'sn'")])
def test_a_forward_that_would_run_the_original_is_refused(
    wrap: Callable[[Any], Any], part: str, place: str, tmp_path: Path
) -> None:
    """It did: with the original's layers, unseen, and in its mode."""
    model = with_forward(part, wrap)(make())
    with pytest.raises(SnDeployError, match=f"^{place}: its forward was replaced on the instance"):
        sn_deploy.export(model, X, tmp_path / "net.onnx")
    with pytest.raises(SnDeployError, match=f"^{place}: its forward was replaced on the instance"):
        calibrate(model, [])  # type: ignore[arg-type]
    assert not list(tmp_path.iterdir())


class HoldsLambda(Net):
    def __init__(self) -> None:
        super().__init__()
        self.act = lambda x: torch.relu(self.sn(x))

    def forward(self, image: Tensor) -> Tensor:
        return self.head(self.block(self.act(self.conv(image))))


class HoldsWeakly(Net):
    def __init__(self) -> None:
        super().__init__()
        self.own = weakref.ref(self)

    def forward(self, image: Tensor) -> Tensor:
        own = self.own()
        assert own is not None
        return self.head(self.block(torch.relu(own.sn(self.conv(image)))))


@pytest.mark.parametrize("kind", [HoldsLambda, HoldsWeakly])
@pytest.mark.parametrize("training", [False, True])
def test_what_would_run_the_original_is_refused(kind: type[nn.Module], training: bool, tmp_path: Path) -> None:
    """It did: its layer was called one that doesn't run, and in training mode its statistics were the user's loss."""
    model = make(kind).train(training)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with pytest.raises(SnDeployError, match=r"^module 'sn': is called by what a copy of the model shares"):
        sn_deploy.export(model, X, tmp_path / "net.onnx")
    data = [Batch(0, 0, {"image": array_from_tensor(X)})]
    with pytest.raises(SnDeployError, match=r"^batch 0, module 'sn': is called by what a copy of the model shares"):
        calibrate(model, data)  # type: ignore[arg-type]
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    with torch.no_grad():
        model.eval()(X)  # whose own calls are nobody's business


class HoldsLists(Net):
    """Modules beside their names, as towers of detectors are often held."""

    def __init__(self) -> None:
        super().__init__()
        self.tower = [self.sn, torch.relu, *self.block]
        self.method = functools.partial(HoldsLists.run, self)

    def run(self, x: Tensor) -> Tensor:
        for part in self.tower:
            x = part(x)
        return x

    def forward(self, image: Tensor) -> Tensor:
        return self.head(self.method(self.conv(image)))


class Slotted(SwitchNorm2d):
    __slots__ = ("left",)


def test_a_layer_with_slots_is_a_node(tmp_path: Path) -> None:
    """It can't become the operator, and is replaced by it."""
    model = make()
    model.sn = Slotted(4)
    randomise_(model, 1)
    layers, output = exported(model, tmp_path / "net.onnx")
    assert layers == LAYERS
    assert compare(in_float64(make()), output).rel_l2 < TOLERANCES["float32"].rel_l2
    sn_deploy.export(model.sn, torch.randn(2, 4, 5, 5), tmp_path / "layer.onnx")


def test_layers_that_are_held_in_lists_are_nodes(tmp_path: Path) -> None:
    layers, output = exported(make(HoldsLists), tmp_path / "net.onnx")
    assert layers == LAYERS
    assert compare(in_float64(make()), output).rel_l2 < TOLERANCES["float32"].rel_l2


class HoldsForwards(Net):
    """Forwards of layers in the place of the layers, in an attribute and in containers."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = self.sn.forward
        self.steps: tuple[dict[str, Any], ...] = ({"norm": [self.block[1].forward]}, {})

    def forward(self, image: Tensor) -> Tensor:
        h = torch.relu(self.norm(self.conv(image)))
        return self.head(self.steps[0]["norm"][0](self.block[0](h)))


def test_layers_whose_forward_the_model_holds_on_to_are_nodes(tmp_path: Path) -> None:
    """They ran unseen, and were said not to run."""
    model = make(HoldsForwards)
    found = calibrate(model, [Batch(0, 0, {"image": array_from_tensor(X)})])  # type: ignore[arg-type]
    assert [layer.identity.layer for layer in found.layers] == LAYERS
    layers, output = exported(model, tmp_path / "net.onnx")
    assert layers == LAYERS
    assert compare(in_float64(make()), output).rel_l2 < TOLERANCES["float32"].rel_l2
    assert model.norm.__func__ is SwitchNorm2d.forward


class Vmapped(Net):
    def forward(self, image: Tensor) -> Tensor:
        return torch.vmap(lambda one: self.head(self.block(self.sn(self.conv(one[None])))))(image)[:, 0]


def test_a_layer_inside_of_vmap_is_told_as_such(tmp_path: Path) -> None:
    message = r"layer 'sn': is called inside of torch\.vmap.*call it on the whole batch"
    with pytest.raises(SnDeployError, match=f"^{message}"):
        sn_deploy.export(make(Vmapped), X, tmp_path / "net.onnx")
    with pytest.raises(SnDeployError, match=f"^batch 0, {message}"):
        calibrate(make(Vmapped), [Batch(0, 0, {"image": array_from_tensor(X)})])  # type: ignore[arg-type]


def test_a_closure_over_other_things_is_none_of_that(tmp_path: Path) -> None:
    factor = 3.0
    model = make()
    model.head.forward = lambda x: x * factor
    layers, output = exported(model, tmp_path / "net.onnx")
    assert layers == LAYERS
    assert compare(in_float64(model), output).rel_l2 < TOLERANCES["float32"].rel_l2


class Checkpointed(Net):
    """Recomputes its activations in the backward pass."""

    reentrant = False

    def forward(self, image: Tensor) -> Tensor:
        x = checkpoint(lambda x: torch.relu(self.sn(self.conv(x))), image, use_reentrant=self.reentrant)
        return self.head(checkpoint_sequential(self.block, 2, x, use_reentrant=self.reentrant))


class Reentrant(Checkpointed):
    reentrant = True


@pytest.mark.parametrize("kind", [Checkpointed, Reentrant])
@pytest.mark.filterwarnings("ignore:None of the inputs have requires_grad:UserWarning")
def test_layers_inside_of_activation_checkpoints_are_seen(kind: type[nn.Module], tmp_path: Path) -> None:
    model = make(kind)
    layers, output = exported(model, tmp_path / "net.onnx")
    assert layers == LAYERS
    assert compare(in_float64(make()), output).rel_l2 < TOLERANCES["float32"].rel_l2


class Softplus(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.softplus(x)


def parametrized(part: str, name: str) -> Change:
    def change(model: nn.Module) -> nn.Module:
        parametrize.register_parametrization(model.get_submodule(part), name, Softplus())
        return model

    return change


PARAMETRIZED: dict[str, Change] = {
    "weight norm": with_child("conv", parametrizations.weight_norm),
    "spectral norm": with_child("conv", parametrizations.spectral_norm),
    "spectral norm by hooks": with_child("conv", nn.utils.spectral_norm),
    "weight norm by hooks": with_child("conv", nn.utils.weight_norm),
    "pruned": with_child("conv", lambda conv: prune.l1_unstructured(conv, "weight", 0.5)),
    "pruned twice": with_child(
        "conv", lambda conv: prune.random_unstructured(prune.l1_unstructured(conv, "weight", 0.5), "weight", 0.2)
    ),
    "the layer's scale, pruned": with_child("sn", lambda sn: prune.l1_unstructured(sn, "weight", 0.25)),
    "the layer's scale": parametrized("sn", "weight"),
    "the layer's mix weights": parametrized("block.1", "mean_weight"),
}


def test_a_callers_autocast_is_not_the_models(tmp_path: Path) -> None:
    data = [Batch(0, 0, {"image": array_from_tensor(X)})]
    expected = calibrate(make(), data)  # type: ignore[arg-type]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        layers, output = exported(make(), tmp_path / "net.onnx")
        found = calibrate(make(), data)  # type: ignore[arg-type]
    assert layers == LAYERS
    assert compare(in_float64(make()), output).rel_l2 < TOLERANCES["float32"].rel_l2
    for layer, plain in zip(found.layers, expected.layers, strict=True):
        np.testing.assert_array_equal(layer.mean, plain.mean)


class CastsItself(Net):
    def forward(self, image: Tensor) -> Tensor:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return super().forward(image).float()


def test_a_models_own_autocast_needs_an_opset_that_has_the_type(tmp_path: Path) -> None:
    with pytest.raises(SnDeployError, match=r"^opset: opset 20 has no Conv of bfloat16 .*torch.autocast"):
        sn_deploy.export(make(CastsItself), X, tmp_path / "net.onnx")
    assert not list(tmp_path.iterdir())
    report = sn_deploy.export(make(CastsItself), X, tmp_path / "net.onnx", opset=22)
    assert [layer.folded.name for layer in report.layers] == LAYERS


@pytest.mark.parametrize("trained", [False, True])
@pytest.mark.parametrize("name", list(PARAMETRIZED))
def test_parametrized_weights_are_what_they_compute(name: str, trained: bool, tmp_path: Path) -> None:
    model = PARAMETRIZED[name](make())
    if trained:  # tensors that carry a graph stay behind
        model(X).sum().backward()
    before = list(model.state_dict())
    layers, output = exported(model, tmp_path / "net.onnx")
    assert layers == LAYERS
    assert {node.op_type for node in onnx.load(tmp_path / "net.onnx").graph.node} == {
        "Conv",
        "SwitchNormRelu",
        "SwitchNorm",
    }
    assert list(model.state_dict()) == before
    with torch.no_grad():
        expected = array_from_tensor(model.eval()(X))
    assert compare(expected, output).rel_l2 < TOLERANCES["float32"].rel_l2


@pytest.fixture
def one_process(tmp_path: Path) -> Iterator[None]:
    """A process group of this process alone."""
    distributed.init_process_group("gloo", init_method=f"file://{tmp_path / 'group'}", rank=0, world_size=1)
    yield
    distributed.destroy_process_group()


@pytest.mark.usefixtures("one_process")
@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning")
def test_a_model_of_a_process_group(tmp_path: Path) -> None:
    expected = in_float64(make())
    for name, wrap in (
        ("whole", nn.parallel.DistributedDataParallel),
        ("block", with_child("block", nn.parallel.DistributedDataParallel)),
    ):
        layers, output = exported(wrap(make()), tmp_path / f"{name}.onnx")
        assert layers == LAYERS
        assert compare(expected, output).rel_l2 < TOLERANCES["float32"].rel_l2

    on_cpu = functools.partial(fsdp.FullyShardedDataParallel, device_id=torch.device("cpu"))
    for wrap, place in (
        (on_cpu, "FullyShardedDataParallel"),
        (with_child("block", on_cpu), "module 'block'"),
        (fsdp.fully_shard, "FSDPNet"),
        (with_child("block", fsdp.fully_shard), "module 'block'"),
    ):
        with pytest.raises(SnDeployError, match=rf"^{place}: its weights are spread over processes \(FSDP\); gather"):
            sn_deploy.export(wrap(make()), X, tmp_path / "net.onnx")


def test_a_model_without_values_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SnDeployError, match=r"^conv.weight of the model: is on the meta device and has no values"):
        sn_deploy.export(make().to("meta"), X, tmp_path / "net.onnx")
    lazy = with_child("conv", lambda conv: nn.LazyConv2d(4, 3, padding=1))(make())
    with pytest.raises(SnDeployError, match=r"^conv.weight of the model: is lazy, and has no values yet"):
        sn_deploy.export(lazy, X, tmp_path / "net.onnx")


class KeepsTraining(Net):
    """As code that freezes layers does, with the wrong mode."""

    def train(self, mode: bool = True) -> KeepsTraining:
        super().train(mode)
        self.sn.train(True)
        return self


class GivesEps(Net):
    def forward(self, image: Tensor) -> Tensor:
        first = super().forward(image)
        self.sn.eps = 0.5
        return first + super().forward(image)


class Trains(Net):
    def forward(self, image: Tensor) -> Tensor:
        self.sn.train()
        return super().forward(image)


class CallsWithOthers(Net):
    def forward(self, image: Tensor) -> Tensor:
        others = {"bias": self.sn.bias + 1}
        return self.head(torch.func.functional_call(self.sn, others, (self.conv(image),)))


class ReadsBias(Net):
    """The stand-in has a bias, too, of another shape."""

    def forward(self, image: Tensor) -> Tensor:
        return super().forward(image) * self.sn.bias.sum()


class Shares(SwitchNorm2d):
    """Tells what it has learned."""

    def shares(self) -> Tensor:
        return torch.softmax(self.mean_weight, 0)


class AsksForShares(Net):
    def __init__(self) -> None:
        super().__init__()
        self.sn = Shares(4)

    def forward(self, image: Tensor) -> Tensor:
        return super().forward(image) * self.sn.shares()[0]


class ReadsNumbers(Net):
    """What is no weight may be read, and counted in."""

    def forward(self, image: Tensor) -> Tensor:
        self.sn.calls = getattr(self.sn, "calls", 0) + 1
        assert not hasattr(self.sn, "groups")
        return super().forward(image) * (self.sn.num_features + self.sn.eps)


def test_what_code_reads_of_a_layer(tmp_path: Path) -> None:
    net = make(ReadsNumbers)
    expected = in_float64(net)
    _, output = exported(net, tmp_path / "net.onnx")
    assert compare(expected, output).rel_l2 < TOLERANCES["float32"].rel_l2


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        (KeepsTraining, "is in training mode after the model's eval"),
        (GivesEps, "the model's forward gives it another 'eps'"),
        (Trains, "the model's forward gives it another 'training'"),
        (CallsWithOthers, "the model's code reads its 'bias' beside calling it"),
        (ReadsBias, "the model's code reads its 'bias' beside calling it"),
        (AsksForShares, "the model's code calls its 'shares'"),
    ],
)
def test_a_layer_that_does_not_stay_as_it_is_is_refused(kind: type[nn.Module], message: str, tmp_path: Path) -> None:
    """The operator's constants are those of one setting."""
    net = make(kind).eval()
    with pytest.raises(SnDeployError, match=message):
        sn_deploy.export(net, X, tmp_path / "net.onnx", trust_statistics=True)
    assert not (tmp_path / "net.onnx").exists()


class SaysTheSame(Net):
    def forward(self, image: Tensor) -> Tensor:
        self.sn.eps, self.sn.seen = 1e-5, image.shape
        return super().forward(image) * self.sn.eps


def test_what_a_layer_is_may_be_read_and_said_again(tmp_path: Path) -> None:
    net = make(SaysTheSame).eval()
    _, output = exported(net, tmp_path / "net.onnx")
    np.testing.assert_allclose(output, in_float64(net), rtol=1e-4, atol=1e-9)

"""From a torch model to an ONNX file: what the file holds, and that it computes what the model does."""

from __future__ import annotations

import copy
import dataclasses
from collections import Counter, OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from torch import nn

import sn_deploy
from sn_deploy.compare.parity import compare
from sn_deploy.errors import SnDeployError
from sn_deploy.nn import SwitchNorm1d, SwitchNorm2d, SwitchNorm3d
from sn_deploy.runtime.native import ort_library
from sn_deploy.runtime.ort import OrtSession
from sn_deploy.runtime.torch import TorchModel, array_from_tensor
from tests.conftest import OLD_LIBRARIES
from tests.randomise import randomise_
from tests.tolerances import TOLERANCES


class Net(nn.Module):
    """Two convolutions with SN, one without the BN branch, and a head with SN1d."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), SwitchNorm2d(8), nn.ReLU())
        self.body = nn.Sequential(nn.Conv2d(8, 6, 3, stride=2), SwitchNorm2d(6, using_bn=False), nn.ReLU())
        self.head = nn.Linear(6, 5)
        self.head_sn = SwitchNorm1d(5)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return self.head_sn(self.head(self.body(self.stem(image)).mean((2, 3))))


@pytest.fixture
def net() -> nn.Module:
    torch.manual_seed(0)
    return randomise_(Net(), seed=1)


def image(batch: int = 2, size: int = 9, seed: int = 0) -> torch.Tensor:
    return torch.randn(batch, 3, size, size, generator=torch.Generator().manual_seed(seed))


def expected(model: nn.Module, *inputs: torch.Tensor) -> np.ndarray:
    """The model's output in float64; the model itself stays as it was."""
    with torch.no_grad():
        return array_from_tensor(copy.deepcopy(model).double().eval()(*(tensor.double() for tensor in inputs)))


def run(path: Path, **inputs: torch.Tensor) -> np.ndarray:
    with OrtSession(path) as session:
        (output,) = session.run({name: array_from_tensor(value) for name, value in inputs.items()}).values()
    return output


def nodes(path: Path) -> Counter[tuple[str, str]]:
    return Counter((node.domain, node.op_type) for node in onnx.load(path).graph.node)


def test_one_node_a_layer_and_the_same_result(net: nn.Module, tmp_path: Path) -> None:
    path = tmp_path / "net.onnx"
    report = sn_deploy.export(net, image(), path)
    assert report.forms == {"SwitchNormRelu": 2, "SwitchNorm": 1}
    assert nodes(path)["sn_deploy", "SwitchNormRelu"] == 2
    assert nodes(path)["sn_deploy", "SwitchNorm"] == 1
    assert nodes(path)["", "Relu"] == 0
    assert report.apart == {}
    assert [layer.folded.name for layer in report.layers] == ["stem.1", "body.1", "head_sn"]
    assert [layer.shape for layer in report.layers] == [(2, 8, 9, 9), (2, 6, 4, 4), (2, 5)]
    assert report.inputs == {"image": "2×3×9×9 float32"}
    assert report.file_bytes == path.stat().st_size
    assert report.nodes == sum(nodes(path).values())
    assert compare(expected(net, image()), run(path, image=image())).rel_l2 < TOLERANCES["float32"].rel_l2


@pytest.mark.skipif(OLD_LIBRARIES, reason="the oldest torch.onnx.export can't write the published formula")
def test_the_summary_has_the_nodes_of_torchs_own_export(net: nn.Module, tmp_path: Path) -> None:
    report = sn_deploy.export(net, image(), tmp_path / "net.onnx")
    assert "nodes_standard" not in vars(report)  # not counted before somebody asks
    assert report.nodes_standard is not None
    assert report.nodes_standard > report.nodes + 3 * 15


def test_the_file_says_where_its_nodes_come_from_and_nothing_of_the_machine(net: nn.Module, tmp_path: Path) -> None:
    path = tmp_path / "net.onnx"
    sn_deploy.export(net, image(), path)
    model = onnx.load(path)
    layers = [node for node in model.graph.node if node.domain == "sn_deploy"]
    assert [node.name for node in layers] == ["stem.1", "body.1", "head_sn"]
    props = {prop.key: prop.value for prop in layers[0].metadata_props}
    weights = torch.softmax(net.stem[1].mean_weight.double(), 0)
    assert props["sn_deploy.layer"] == "stem.1"
    assert float(props["sn_deploy.mean_bn"]) == pytest.approx(weights[2].item())
    attributes = {attribute.name: onnx.helper.get_attribute_value(attribute) for attribute in layers[0].attribute}
    assert attributes["mean_in"] == pytest.approx(weights[0].item())
    assert attributes["plugin_namespace"] == b""
    assert model.producer_name == "sn-deploy"
    raw = path.read_bytes()
    assert str(Path(__file__).parent).encode() not in raw, "stack traces of the exporting machine"
    assert b"site-packages" not in raw
    assert b"pkg.torch" not in raw


def test_the_model_is_not_changed(net: nn.Module, tmp_path: Path) -> None:
    net.train()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    modules = dict(net.named_modules())
    sn_deploy.export(net, image(), tmp_path / "net.onnx", precision="fp16")
    assert net.training
    assert dict(net.named_modules()) == modules
    for name, value in net.state_dict().items():
        assert value.dtype == before[name].dtype
        assert torch.equal(value, before[name])
    assert not any(module._forward_pre_hooks for module in modules.values())


def test_dynamic_axes_take_any_size(net: nn.Module, tmp_path: Path) -> None:
    path = tmp_path / "net.onnx"
    report = sn_deploy.export(net, image(batch=1), path, dynamic=("batch", "spatial"))
    assert report.inputs == {"image": "batch×3×height×width float32"}
    for batch, size in ((1, 5), (3, 12), (2, 33)):
        x = image(batch, size)
        assert compare(expected(net, x), run(path, image=x)).rel_l2 < TOLERANCES["float32"].rel_l2


def test_a_sample_does_not_depend_on_its_batch(net: nn.Module, tmp_path: Path) -> None:
    # Bitwise where the native operator stands alone. ONNX Runtime's own reductions (in the function) and convolutions
    # round otherwise for other batches.
    layer = nn.Sequential(net.stem[1], nn.ReLU())
    sn_deploy.export(layer, torch.zeros(2, 8, 9, 9), tmp_path / "layer.onnx", dynamic="batch")
    sn_deploy.export(net, image(), tmp_path / "net.onnx", dynamic="batch")
    features = torch.randn(5, 8, 9, 9, generator=torch.Generator().manual_seed(0))
    layer_together = run(tmp_path / "layer.onnx", input=features)
    net_together = run(tmp_path / "net.onnx", image=image(5))
    for n in range(5):
        one = slice(n, n + 1)
        layer_alone = run(tmp_path / "layer.onnx", input=features[one])
        assert compare(layer_together[one], layer_alone).rel_l2 < TOLERANCES["float32"].rel_l2
        if ort_library() is not None:
            np.testing.assert_array_equal(layer_alone, layer_together[one])
        alone = run(tmp_path / "net.onnx", image=image(5)[one])
        assert compare(net_together[one], alone).rel_l2 < TOLERANCES["float32"].rel_l2


def test_fp16_keeps_parameters_and_statistics_in_float32(net: nn.Module, tmp_path: Path) -> None:
    path = tmp_path / "net.onnx"
    report = sn_deploy.export(net, image(), path, precision="fp16")
    assert report.inputs == {"image": "2×3×9×9 float16"}
    types = {tensor.name: tensor.data_type for tensor in onnx.load(path).graph.initializer}
    assert types["stem.1.scale"] == onnx.TensorProto.FLOAT
    assert types["stem.0.weight"] == onnx.TensorProto.FLOAT16
    # A mean of 300 over deviations of 1: sums of squares overflow float16, and its digits are gone.
    shifted = image() + 300
    ours = compare(expected(net, shifted), run(path, image=shifted.half())).rel_l2
    assert ours < TOLERANCES["float16"].roundoff * 1200


def test_io_types_can_stay_float32(net: nn.Module, tmp_path: Path) -> None:
    path = tmp_path / "net.onnx"
    report = sn_deploy.export(net, image(), path, precision="fp16", keep_io_types=True)
    assert report.inputs == {"image": "2×3×9×9 float32"}
    output = run(path, image=image())
    assert output.dtype == np.float32
    assert compare(expected(net, image()), output).rel_l2 < 4 * TOLERANCES["float16"].roundoff


def test_bf16_at_the_operator(tmp_path: Path) -> None:
    # ONNX Runtime has no bfloat16 convolution on the CPU.
    layer = randomise_(nn.Sequential(SwitchNorm2d(4), nn.Flatten()), seed=2)
    x = image()[:, :1].expand(2, 4, 9, 9).contiguous() * torch.arange(1, 5).view(1, 4, 1, 1)
    sn_deploy.export(layer, x, tmp_path / "net.onnx", precision="bf16")
    output = run(tmp_path / "net.onnx", input=x.bfloat16())
    assert compare(expected(layer, x.bfloat16().float()), output).rel_l2 < TOLERANCES["bfloat16"].roundoff


def test_bf16_has_the_opset_of_its_convolutions(net: nn.Module, tmp_path: Path) -> None:
    import openvino

    # ONNX Runtime has none on the CPU; OpenVINO takes the types of the file, and computes in float32.
    path = tmp_path / "net.onnx"
    assert sn_deploy.export(net, image(), path, precision="bf16", inline=True).opset == 22
    (weight,) = (one for one in onnx.load(path).graph.initializer if one.name == "stem.0.weight")
    assert weight.data_type == onnx.TensorProto.BFLOAT16
    compiled = openvino.compile_model(openvino.Core().read_model(path), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    x = image().bfloat16()
    given = openvino.Tensor(x.view(torch.int16).numpy(), openvino.Shape(x.shape), openvino.Type.bf16)
    found = torch.from_numpy(compiled(given)[0].view("int16").copy()).view(torch.bfloat16).float().numpy()
    assert compare(expected(net, x.float()), found).rel_l2 < 16 * TOLERANCES["bfloat16"].roundoff


def test_an_opset_without_bfloat16_is_refused(net: nn.Module, tmp_path: Path) -> None:
    with pytest.raises(SnDeployError, match=r"opset: opset 21 has no Conv.* of bfloat16 \(expected 22 to 23"):
        sn_deploy.export(net, image(), tmp_path / "net.onnx", precision="bf16", opset=21)
    assert not list(tmp_path.iterdir())


def test_inlined_files_hold_standard_operators_alone(net: nn.Module, tmp_path: Path) -> None:
    import openvino

    path = tmp_path / "net.onnx"
    report = sn_deploy.export(net, image(), path, dynamic="batch", inline=True)
    model = onnx.load(path)
    assert {opset.domain for opset in model.opset_import} == {""}
    assert not model.functions
    assert report.inlined
    reference = expected(net, image())
    assert compare(reference, run(path, image=image())).rel_l2 < TOLERANCES["float32"].rel_l2
    compiled = openvino.compile_model(openvino.Core().read_model(path), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    assert compare(reference, compiled(image().numpy())[0]).rel_l2 < TOLERANCES["float32"].rel_l2


@pytest.mark.parametrize("opset", [18, 19, 21, 22, 23])
def test_every_opset(opset: int, tmp_path: Path) -> None:
    layer = randomise_(nn.Sequential(SwitchNorm2d(3), nn.ReLU()), seed=3)
    sn_deploy.export(layer, image(), tmp_path / "net.onnx", opset=opset)
    assert {entry.domain: entry.version for entry in onnx.load(tmp_path / "net.onnx").opset_import}[""] == opset
    difference = compare(expected(layer, image()), run(tmp_path / "net.onnx", input=image()))
    assert difference.rel_l2 < TOLERANCES["float32"].rel_l2


def test_three_dimensions_and_a_net_that_is_one_layer(tmp_path: Path) -> None:
    layer = randomise_(SwitchNorm3d(4), seed=4)
    x = torch.randn(2, 4, 3, 5, 2, generator=torch.Generator().manual_seed(0))
    report = sn_deploy.export(layer, x, tmp_path / "net.onnx", dynamic=("batch", "spatial"), output_names=["y"])
    assert list(report.inputs.values()) == ["batch×4×depth×height×width float32"]
    assert list(report.outputs) == ["y"]
    (name,) = report.inputs
    assert compare(expected(layer, x), run(tmp_path / "net.onnx", **{name: x})).rel_l2 < TOLERANCES["float32"].rel_l2


class Shared(nn.Module):
    """One SN module under two names, called three times, beside one that is never called."""

    def __init__(self) -> None:
        super().__init__()
        self.first = SwitchNorm2d(3)
        self.blocks = nn.ModuleList([self.first, nn.Conv2d(3, 3, 1)])
        self.idle = SwitchNorm2d(3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.blocks[0](self.blocks[1](self.first(self.first(x))))


def test_a_shared_layer_is_one_layer_with_several_calls(tmp_path: Path) -> None:
    model = randomise_(Shared(), seed=5)
    report = sn_deploy.export(model, image(), tmp_path / "net.onnx")
    assert [(layer.folded.name, layer.calls) for layer in report.layers] == [("first", 3)]
    assert report.unused == ("idle",)
    names = [node.name for node in onnx.load(tmp_path / "net.onnx").graph.node if node.domain]
    assert names == ["first", "first#2", "first#3"]
    difference = compare(expected(model, image()), run(tmp_path / "net.onnx", x=image()))
    assert difference.rel_l2 < TOLERANCES["float32"].rel_l2


class Pyramid(nn.Module):
    """A head that is shared by the levels of a feature pyramid, as in one-stage detectors."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.head = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), layer, nn.ReLU())

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        return [self.head(nn.functional.avg_pool2d(x, 2**level) if level else x) for level in range(3)]


class AnotherAt(SwitchNorm2d):
    """Computes something else at one size of its input alone."""

    def __init__(self, channels: int, size: int) -> None:
        super().__init__(channels)
        self.size = size

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x) * (2.0 if x.shape[-1] == self.size else 1.0)


class JointlyUnbiased(SwitchNorm2d):
    """Its layer variance is unbiased over all C·HW values at once, so its divisor fits no share at two sizes."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        def mixed(shares: torch.Tensor, *parts: torch.Tensor) -> torch.Tensor:
            return sum(share * part for share, part in zip(shares.softmax(0), parts, strict=True))  # type: ignore[return-value]

        mean = mixed(
            self.mean_weight, x.mean((2, 3), True), x.mean((1, 2, 3), True), self.running_mean.view(1, -1, 1, 1)
        )
        var = mixed(
            self.var_weight,
            x.var((2, 3), keepdim=True),
            x.var((1, 2, 3), keepdim=True),
            self.running_var.view(1, -1, 1, 1),
        )
        return (x - mean) / (var + self.eps).sqrt() * self.weight.view(1, -1, 1, 1) + self.bias.view(1, -1, 1, 1)


def test_a_layer_that_holds_at_one_size_gets_no_dynamic_sides(tmp_path: Path) -> None:
    path, model = tmp_path / "net.onnx", randomise_(nn.Sequential(JointlyUnbiased(3)), seed=4).eval()
    with pytest.raises(SnDeployError, match=r"layer '0': is Switchable Normalization at the example's size alone"):
        sn_deploy.export(model, image(), path, dynamic=("batch", "spatial"))
    assert not list(tmp_path.iterdir())
    sn_deploy.export(model, image(), path, dynamic="batch")
    x = image(3)
    with torch.no_grad():
        wanted = copy.deepcopy(model).double()(x.double())
    with OrtSession(path) as session:
        (y,) = session.run({session.inputs[0].name: array_from_tensor(x)}).values()
    assert compare(array_from_tensor(wanted), y).rel_l2 < TOLERANCES["float32"].rel_l2


@pytest.mark.parametrize("dynamic", [(), ("batch", "spatial")])
def test_a_head_on_several_sizes_is_right_at_each(dynamic: tuple[str, ...], tmp_path: Path) -> None:
    model = randomise_(Pyramid(SwitchNorm2d(4)), seed=4)
    report = sn_deploy.export(model, image(size=32), tmp_path / "net.onnx", dynamic=dynamic)
    assert [(layer.folded.name, layer.calls) for layer in report.layers] == [("head.1", 3)]
    x = image(3, size=48) if dynamic else image(size=32)
    with torch.no_grad():
        wanted = copy.deepcopy(model).double().eval()(x.double())
    with OrtSession(tmp_path / "net.onnx") as session:
        found = session.run({"x": array_from_tensor(x)}).values()
    for y, reference in zip(found, wanted, strict=True):
        assert compare(array_from_tensor(reference), y).rel_l2 < TOLERANCES["float32"].rel_l2


@pytest.mark.parametrize("size", [32, 16, 8])
def test_a_layer_is_proven_at_the_size_of_each_call(size: int, tmp_path: Path) -> None:
    model = randomise_(Pyramid(AnotherAt(4, size)), seed=4)
    with pytest.raises(SnDeployError, match=rf"layer 'head.1': .* at its own size 2×4×{size}×{size}"):
        sn_deploy.export(model, image(size=32), tmp_path / "net.onnx")


class TwoInputs(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.sn = SwitchNorm2d(3)
        self.embedding = nn.Embedding(4, 3)

    def forward(self, x: torch.Tensor, *, ids: torch.Tensor, mask: torch.Tensor | None = None) -> dict[str, Any]:
        y = self.sn(x) + self.embedding(ids)[:, :, None, None]
        return {"y": y, "sum": (y.sum((1, 2, 3)),)}


class Published(SwitchNorm2d):
    """The authors' layer calls its input so."""

    def forward(self, input: torch.Tensor, scale: float = 1.0) -> torch.Tensor:
        return super().forward(input) * scale


class ByName(nn.Module):
    def __init__(self, **options: Any) -> None:
        super().__init__()
        self.sn, self.options = Published(3), options

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.sn(input=x, **self.options)


class ByPosition(ByName):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.sn(x, 2.0)


@pytest.mark.parametrize(("kind", "name"), [(lambda: Published(3), "input"), (ByName, "x")])
def test_a_layer_takes_its_input_under_its_own_name(kind: Callable[[], nn.Module], name: str, tmp_path: Path) -> None:
    model = randomise_(kind(), seed=4)
    sn_deploy.export(model, image(), tmp_path / "net.onnx")
    difference = compare(expected(model, image()), run(tmp_path / "net.onnx", **{name: image()}))
    assert difference.rel_l2 < TOLERANCES["float32"].rel_l2


@pytest.mark.parametrize("alone", [False, True])
def test_hooks_of_a_layer_are_part_of_the_model(alone: bool, tmp_path: Path) -> None:
    layer = randomise_(SwitchNorm2d(3), seed=4)
    layer.register_forward_pre_hook(lambda module, args, kwargs: ((args[0] * 2 + 1,), kwargs), with_kwargs=True)
    layer.register_forward_hook(lambda module, args, y: y * 3 - args[0])
    model = layer if alone else nn.Sequential(layer, nn.ReLU())
    sn_deploy.export(model, image(), tmp_path / "net.onnx")
    with OrtSession(tmp_path / "net.onnx") as session:
        (name,) = (info.name for info in session.inputs)
    difference = compare(expected(model, image()), run(tmp_path / "net.onnx", **{name: image()}))
    assert difference.rel_l2 < TOLERANCES["float32"].rel_l2


class CallsForward(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.called, self.passed_by = SwitchNorm2d(3), SwitchNorm2d(3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.passed_by.forward(torch.relu(self.called(x)))


def test_a_layer_whose_forward_is_called_directly_is_one_too(tmp_path: Path) -> None:
    """Hooks don't see such a call, and PyTorch runs none in it."""
    model = randomise_(CallsForward(), seed=4)
    model.passed_by.register_forward_hook(lambda module, args, y: y * 3)
    report = sn_deploy.export(model, image(), tmp_path / "net.onnx")
    assert sum(report.forms.values()) == 2
    assert not report.unused
    difference = compare(expected(model, image()), run(tmp_path / "net.onnx", x=image()))
    assert difference.rel_l2 < TOLERANCES["float32"].rel_l2
    assert "forward" not in vars(model.passed_by)


def test_several_inputs_by_name_and_nested_outputs(tmp_path: Path) -> None:
    model = randomise_(TwoInputs(), seed=6)
    ids = torch.tensor([1, 3])
    report = sn_deploy.export(
        model, {"": (image(),), "ids": ids}, tmp_path / "net.onnx", dynamic={"x": {0: "n"}, "ids": {0: "n"}}
    )
    assert report.inputs == {"x": "n×3×9×9 float32", "ids": "n int64"}
    with OrtSession(tmp_path / "net.onnx") as session:
        outputs = list(session.run({"x": image().numpy(), "ids": ids.numpy()}).values())
    with torch.no_grad():
        reference = model.eval()(image(), ids=ids)
    for output, value in zip(outputs, (reference["y"], *reference["sum"]), strict=True):
        assert compare(value, output).rel_l2 < TOLERANCES["float32"].rel_l2


@dataclasses.dataclass
class Output:
    logits: torch.Tensor
    features: Any
    scale: float = 1.0


class Record(OrderedDict[str, Any]):
    """A mapping that torch doesn't know, as libraries of models have them."""


class Gives(nn.Module):
    def __init__(self, make: Callable[[torch.Tensor], Any]) -> None:
        super().__init__()
        self.sn, self.make = SwitchNorm2d(3), make

    def forward(self, x: torch.Tensor) -> Any:
        return self.make(self.sn(x))


OUTPUTS: dict[str, Callable[[torch.Tensor], Any]] = {
    "dataclass": lambda y: Output(y, [y.mean((2, 3)), None]),
    "mapping": lambda y: Record(logits=y, features=y.mean((2, 3))),
    "dataclass in a tuple": lambda y: (Output(y, "text"), y.mean((2, 3))),
    "numbers and text": lambda y: (y, 3, "text", {"mean": y.mean((2, 3)), "shape": y.shape[0]}),
    "None": lambda y: {"y": y, "auxiliary": None, "mean": y.mean((2, 3))},
}


@pytest.mark.parametrize("name", list(OUTPUTS))
def test_the_tensors_that_a_model_gives_are_the_outputs(name: str, tmp_path: Path) -> None:
    model = randomise_(Gives(OUTPUTS[name]), seed=4).eval()
    sn_deploy.export(model, image(), tmp_path / "net.onnx", dynamic="batch", output_names=["y", "mean"])
    x = image(3)
    with OrtSession(tmp_path / "net.onnx") as session:
        found = session.run({"x": array_from_tensor(x)})
    y = expected(randomise_(nn.Sequential(SwitchNorm2d(3)), seed=4), x)
    assert compare(y, found["y"]).rel_l2 < TOLERANCES["float32"].rel_l2
    np.testing.assert_allclose(found["mean"], y.mean((2, 3)), atol=1e-5)
    own = TorchModel(model, ["x"], ["y", "mean"]).run({"x": array_from_tensor(x)})  # what a check compares with
    np.testing.assert_allclose(own["mean"], y.mean((2, 3)), atol=1e-5)
    assert not model._forward_hooks


@pytest.mark.parametrize("make", [lambda y: None, lambda y: {"size": y.shape[0]}, lambda y: []])
def test_a_model_that_gives_no_tensor_is_refused(make: Callable[[torch.Tensor], Any], tmp_path: Path) -> None:
    model = randomise_(Gives(make), seed=4).eval()
    with pytest.raises(SnDeployError, match=r"^Gives.forward: gives a \w+ without a tensor in it"):
        sn_deploy.export(model, image(), tmp_path / "net.onnx")
    assert not list(tmp_path.iterdir())
    with pytest.raises(SnDeployError, match=r"^the PyTorch model: gives a \w+ without a tensor in it"):
        TorchModel(model, ["x"]).run({"x": array_from_tensor(image())})


def test_the_outputs_of_layers_are_called_after_them(tmp_path: Path) -> None:
    model = randomise_(nn.Sequential(nn.Conv2d(3, 4, 1), SwitchNorm2d(4), SwitchNorm2d(4)), seed=4)
    report = sn_deploy.export(model, image(), tmp_path / "net.onnx")
    assert list(report.outputs) == ["switch_norm_1"]
    difference = compare(expected(model, image()), run(tmp_path / "net.onnx", input=image()))
    assert difference.rel_l2 < TOLERANCES["float32"].rel_l2


def test_external_data_on_request(tmp_path: Path) -> None:
    model = nn.Sequential(nn.Conv2d(3, 400, 3), randomise_(SwitchNorm2d(400), seed=7))
    report = sn_deploy.export(model, image(), tmp_path / "net.onnx", external_data=True)
    assert report.data_path is not None
    assert report.file_bytes == sum(path.stat().st_size for path in tmp_path.iterdir())
    difference = compare(expected(model, image()), run(tmp_path / "net.onnx", input=image()))
    assert difference.rel_l2 < TOLERANCES["float32"].rel_l2


class FixedSize(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.sn = SwitchNorm2d(3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.sn(x).view(2, 3 * 9 * 9)


class Pair(nn.Module):
    """Gives its layer a pair of tensors."""

    def __init__(self) -> None:
        super().__init__()
        self.sn = SwitchNorm2d(3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.sn((x, x))


class AnyRank(SwitchNorm2d):
    """Vectors are images of one position to it, and not what the operator takes them for."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x.reshape(*x.shape[:2], -1, 1)).reshape(x.shape)


class TwoRanks(nn.Module):
    def __init__(self, other: Callable[[torch.Tensor], torch.Tensor]) -> None:
        super().__init__()
        self.sn, self.other = AnyRank(3, ddof=0), other

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.other(self.sn(x)) + self.sn(self.other(x))


class Branching(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.sn = SwitchNorm2d(3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.sn(x) if x.sum() > 0 else x


class SwitchedNorms(nn.Module):
    """Another layer of a like name: a mixture of normalised outputs, with modules and not tensors of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.parts = nn.ModuleList([nn.InstanceNorm2d(3), nn.BatchNorm2d(3), nn.GroupNorm(1, 3)])
        self.weight = nn.Parameter(torch.ones(3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return sum(share * part(x) for share, part in zip(self.weight.softmax(0), self.parts, strict=True))


@pytest.mark.parametrize(
    ("model", "example", "options", "message"),
    [
        (
            FixedSize(),
            image(),
            {"dynamic": "batch"},
            r"input 'x': the model fixes axis 0 \(batch\) to 2 \(expected code",
        ),
        (Branching(), image(), {}, "Branching: torch can't capture the model: .*in the traceback above"),
        (nn.Sequential(SwitchNorm2d(3)), image(size=1), {}, r"layer '0': the unbiased variance .* has no value"),
        (nn.Sequential(SwitchNorm2d(3)), torch.zeros(2, 4, 5, 5), {}, "layer '0': input has shape"),
        # What fails behind a layer isn't said of the layer.
        (
            nn.Sequential(SwitchNorm2d(3), nn.Linear(5, 2)),
            image(),
            {},
            r"the model fails on the example inputs \(input: \(2, 3, 9, 9\) torch.float32\): RuntimeError: .*mat1",
        ),
        (randomise_(ByPosition(), seed=4), image(), {}, r"layer 'sn': is given 2 arguments \(expected .*; call it so"),
        (randomise_(ByName(scale=2.0), seed=4), image(), {}, r"layer 'sn': is given 2 arguments \(expected its input"),
        (
            randomise_(TwoRanks(lambda x: x.mean((2, 3))), seed=4),
            image(),
            {},
            "layer 'sn': is called with inputs of rank 4 and 2, and isn't the same layer for both",
        ),
        (Pair(), image(), {}, r"fails on the example inputs \(.*\) in layer 'sn': AttributeError"),
        (nn.Conv2d(3, 3, 1), image(), {}, "no SN layer runs on the example inputs; check model"),
        (
            nn.Sequential(SwitchedNorms()),
            image(),
            {},
            "no SN layer runs on the example inputs, and '0', a SwitchedNorms, hasn't the tensors .*variants.md",
        ),
        (
            nn.Sequential(SwitchNorm2d(3), nn.AvgPool2d(3, divisor_override=7)),
            image(),
            {},
            "torch exports an average pooling without its divisor_override of 7",
        ),
        (SwitchNorm2d(3), image(), {"opset": 17}, r"opset: opset 17 can't be exported \(expected 18 to 23\)"),
        (SwitchNorm2d(3), image(), {"precision": "int8"}, r"precision: 'int8' is no precision"),
        (SwitchNorm2d(3), image(), {"dynamic": "time"}, "dynamic: can't read 'time'"),
        (3, image(), {}, r"the model is a int \(expected a torch.nn.Module\)"),
    ],
)
def test_what_cannot_be_exported_is_refused_and_leaves_nothing(
    model: Any, example: torch.Tensor, options: dict[str, Any], message: str, tmp_path: Path
) -> None:
    with pytest.raises(SnDeployError, match=message):
        sn_deploy.export(model, example, tmp_path / "net.onnx", **options)
    assert list(tmp_path.iterdir()) == []


def test_a_layer_of_two_ranks_that_is_the_same_for_both(tmp_path: Path) -> None:
    model = randomise_(TwoRanks(lambda x: x.flatten(2)), seed=4)
    report = sn_deploy.export(model, image(), tmp_path / "net.onnx")
    assert [layer.calls for layer in report.layers] == [2]
    difference = compare(expected(model, image()), run(tmp_path / "net.onnx", x=image()))
    assert difference.rel_l2 < TOLERANCES["float32"].rel_l2


def test_an_existing_file_survives_a_failure(tmp_path: Path) -> None:
    (tmp_path / "net.onnx").write_text("old")
    with pytest.raises(SnDeployError):
        sn_deploy.export(nn.Conv2d(3, 3, 1), image(), tmp_path / "net.onnx")
    assert (tmp_path / "net.onnx").read_text() == "old"


class Sums(nn.Module):
    """Three convolutions with SN, trained without the moving average: its statistics are sums over batches."""

    def __init__(self, **options: Any) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(3, 8, 3), SwitchNorm2d(8, **options), nn.Conv2d(8, 8, 3), SwitchNorm2d(8, **options)
        )

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return self.body(image)


def test_running_sums_are_refused_and_divided_on_request(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = Sums(using_moving_average=False)
    with torch.no_grad():
        for seed in range(50):
            model.train()(image(4, seed=seed))
    with pytest.raises(SnDeployError, match=r"layer 'body.1': running_var is about \d+.* finalize_batch_average=N"):
        sn_deploy.export(model, image(), tmp_path / "net.onnx")
    assert list(tmp_path.iterdir()) == []

    report = sn_deploy.export(model, image(), tmp_path / "net.onnx", finalize_batch_average=50)
    divided = copy.deepcopy(model)
    for layer in (divided.body[1], divided.body[3]):
        layer.finalize_batch_average(50)
    reference = expected(divided, image())
    assert compare(reference, run(tmp_path / "net.onnx", image=image())).rel_l2 < TOLERANCES["float32"].rel_l2
    assert np.abs(report.layers[0].folded.mean_offset).max() < 1

    # The way out for whoever knows better: exported as the model computes now.
    sn_deploy.export(model, image(), tmp_path / "net.onnx", trust_statistics=True)
    difference = compare(expected(model, image()), run(tmp_path / "net.onnx", image=image()))
    assert difference.rel_l2 < TOLERANCES["float32"].rel_l2

    with pytest.raises(SnDeployError, match="divided by 5, give the variance -"):
        sn_deploy.export(model, image(), tmp_path / "net.onnx", finalize_batch_average=5)


class Deep(nn.Module):
    """Four convolutions without bias and their SN: of zeros a layer's output varies at the borders alone."""

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for channels in (3, 8, 8, 8):
            layers += [nn.Conv2d(channels, 8, 3, padding=1, bias=False), SwitchNorm2d(8), nn.ReLU()]
        self.body = nn.Sequential(*layers)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return self.body(image)


def test_zeros_as_an_example_are_no_evidence_of_sums(tmp_path: Path) -> None:
    torch.manual_seed(1)
    model, zeros = randomise_(Deep(), seed=1), torch.zeros_like(image())
    sn_deploy.export(model, zeros, tmp_path / "net.onnx")
    difference = compare(expected(model, image()), run(tmp_path / "net.onnx", image=image()))
    assert difference.rel_l2 < TOLERANCES["float32"].rel_l2

    summed = copy.deepcopy(model)
    for layer in summed.modules():
        if isinstance(layer, SwitchNorm2d):
            layer.running_var.copy_(100 * (layer.running_var + layer.running_mean.square()))
            layer.running_mean.mul_(100)
    with pytest.raises(SnDeployError, match=r"running_var is about \d+.* finalize_batch_average=N"):
        sn_deploy.export(summed, zeros, tmp_path / "sums.onnx")


class OnlyZeros(Deep):
    """Takes no other image."""

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        if torch.compiler.is_compiling() or not bool(image.any()):
            return super().forward(image)
        raise ValueError("no zeros")


def test_a_model_that_takes_its_example_alone_is_judged_by_that(tmp_path: Path) -> None:
    torch.manual_seed(1)
    model = randomise_(OnlyZeros(), seed=1)
    with pytest.raises(SnDeployError, match=r"running_var is about \d+.* trust_statistics=True"):
        sn_deploy.export(model, torch.zeros_like(image()), tmp_path / "net.onnx")


class Group(nn.Module):
    """Has the tensors of an SN layer and computes something else."""

    def __init__(self) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.ones(4)), nn.Parameter(torch.zeros(4))
        self.mean_weight, self.var_weight = nn.Parameter(torch.zeros(2)), nn.Parameter(torch.zeros(2))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return nn.functional.group_norm(x, 2, self.weight, self.bias)


def test_unrecognised_layers_are_refused_or_kept(tmp_path: Path) -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 1), Group(), randomise_(SwitchNorm2d(4), seed=8))
    model[0].spare = Group()  # never runs, as an auxiliary head in evaluation
    with pytest.raises(SnDeployError, match=r"layer '1': .*keep_unrecognised=True"):
        sn_deploy.export(model, image(), tmp_path / "net.onnx")
    report = sn_deploy.export(model, image(), tmp_path / "net.onnx", keep_unrecognised=True)
    assert list(report.kept) == ["1"]
    assert [layer.folded.name for layer in report.layers] == ["2"]
    difference = compare(expected(model, image()), run(tmp_path / "net.onnx", input=image()))
    assert difference.rel_l2 < TOLERANCES["float32"].rel_l2


def _compiled(model: nn.Module) -> nn.Module:
    compiled = torch.compile(model, backend="eager")
    assert isinstance(compiled, nn.Module)
    return compiled


@pytest.mark.parametrize(
    "wrap", [nn.DataParallel, _compiled, lambda model: nn.DataParallel(_compiled(model))], ids=["parallel", "c", "both"]
)
def test_what_training_wraps_around_a_model_is_taken_off(
    net: nn.Module, wrap: Callable[[nn.Module], nn.Module], tmp_path: Path
) -> None:
    report = sn_deploy.export(wrap(net), image(), tmp_path / "net.onnx", dynamic="batch")
    assert list(report.inputs) == ["image"]
    assert [layer.folded.name for layer in report.layers] == ["stem.1", "body.1", "head_sn"]
    np.testing.assert_allclose(run(tmp_path / "net.onnx", image=image(3)), expected(net, image(3)), atol=1e-5)


@pytest.mark.filterwarnings(
    "ignore:.*torch.jit:FutureWarning", "ignore:.*torch.jit:DeprecationWarning", "ignore::torch.jit.TracerWarning"
)
def test_torchscript_is_refused_in_words(net: nn.Module, tmp_path: Path) -> None:
    traced = torch.jit.trace(net.eval(), image())
    with pytest.raises(
        SnDeployError, match=r"is a TorchScript module \(expected the torch.nn.Module that it was made of"
    ):
        sn_deploy.export(traced, image(), tmp_path / "net.onnx")

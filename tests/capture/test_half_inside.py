"""Models in half precision: weights become float32 and all is well, unless the code itself casts to half."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import sn_deploy
from sn_deploy.calibrate import calibrate
from sn_deploy.check.backends.torch_model import TorchRunner, in_float64
from sn_deploy.check.batch import Batch
from sn_deploy.compare.parity import compare
from sn_deploy.errors import SnDeployError
from sn_deploy.nn import SwitchNorm2d
from sn_deploy.precision import convert_precision
from sn_deploy.runtime.ort import OrtSession
from sn_deploy.runtime.tensors import TensorInfo
from tests.tolerances import TOLERANCES

IMAGES = torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(0))


class Net(nn.Module):
    """A stem, and a head behind it; ``cast`` is what forward does to its input, ``back`` what to the stem's output."""

    def __init__(self, cast: Callable[[Tensor], Tensor], back: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 6, 3), SwitchNorm2d(6), nn.ReLU())
        self.head = nn.Conv2d(6, 2, 3)
        self.cast, self.back = cast, back

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.back(self.stem(self.cast(x))))


def same(x: Tensor) -> Tensor:
    return x


def made(cast: Callable[[Tensor], Tensor] = same, back: Callable[[Tensor], Tensor] = same) -> Net:
    torch.manual_seed(0)
    return Net(cast, back).eval()


def batches() -> list[Batch]:
    return [Batch(0, 0, {"x": IMAGES.numpy()})]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("part", ["", "stem"])
def test_half_weights_become_float32(tmp_path: Path, dtype, part):
    model = made()
    model.get_submodule(part).to(dtype)
    reference = copy.deepcopy(model).double()  # the rounded weights
    sn_deploy.export(model, IMAGES, tmp_path / "net.onnx")
    with OrtSession(tmp_path / "net.onnx") as session, torch.no_grad():
        (output,) = session.run({"x": IMAGES.numpy()}).values()
        assert compare(reference(IMAGES.double()).numpy(), output).rel_l2 < TOLERANCES["float32"].rel_l2
    (layer,) = calibrate(model, batches()).layers  # type: ignore[arg-type]
    with torch.no_grad():
        np.testing.assert_allclose(
            layer.mean.reshape(-1), reference.stem[0](IMAGES.double()).mean((0, 2, 3)), rtol=1e-4, atol=1e-5
        )
    assert next(model.stem.parameters()).dtype == dtype


@pytest.mark.parametrize(
    ("cast", "back", "dtype", "place"),
    [
        (Tensor.half, same, "float16", "Net.forward"),
        (Tensor.half, Tensor.float, "float16", "Net.forward"),
        (Tensor.bfloat16, Tensor.float, "bfloat16", "Net.forward"),
        (same, Tensor.half, "float16", "Net.forward"),
    ],
)
def test_a_forward_that_casts_to_half_is_told_as_such(tmp_path: Path, cast, back, dtype, place):
    model = made(cast, back)
    message = rf"{place} makes {dtype} of its input.*take the cast out, or cast to the type of a weight"
    with pytest.raises(SnDeployError, match=message):
        sn_deploy.export(model, IMAGES, tmp_path / "net.onnx")
    with pytest.raises(SnDeployError, match=rf"batch 0: the model fails: {message}"):
        calibrate(model, batches())  # type: ignore[arg-type]
    assert not list(tmp_path.iterdir())


def test_the_reference_in_float64_tells_it_too() -> None:
    runner = TorchRunner(in_float64(made(Tensor.half)), [TensorInfo("x", None, np.dtype(np.float32))])
    with pytest.raises(SnDeployError, match=r"Net.forward makes float16 of its input, and weights are float64 here"):
        runner.run({"x": IMAGES.double().numpy()})
    with pytest.raises(RuntimeError, match="channels"):
        TorchRunner(in_float64(made()), runner.inputs).run({"x": IMAGES[:, :2].double().numpy()})


def test_the_module_that_casts_is_named(tmp_path: Path):
    model = nn.Sequential(nn.Conv2d(3, 3, 1), made(Tensor.half))
    with pytest.raises(SnDeployError, match="module '1' makes float16 of its input"):
        sn_deploy.export(model, IMAGES, tmp_path / "net.onnx")


def test_the_mend_that_is_named_works(tmp_path: Path):
    class ToWeight(Net):
        def forward(self, x: Tensor) -> Tensor:
            return self.head(self.stem(x.to(self.stem[0].weight.dtype)).to(self.head.weight.dtype))

    mended = ToWeight(same, same).eval()
    mended.stem.half()
    assert sn_deploy.export(mended, IMAGES, tmp_path / "net.onnx").layers


def test_a_forward_that_casts_to_float32_is_exported_in_half_by_convert_precision(tmp_path: Path):
    model = made(back=Tensor.float)
    with pytest.raises(SnDeployError, match=r"casts to float32, export it in that.*convert-precision"):
        sn_deploy.export(model, IMAGES, tmp_path / "net.onnx", precision="fp16")
    sn_deploy.export(model, IMAGES, tmp_path / "net.onnx")
    convert_precision(tmp_path / "net.onnx", tmp_path / "half.onnx", precision="fp16")


def test_another_failure_is_told_as_before(tmp_path: Path):
    with pytest.raises(SnDeployError, match=r"fails on the example inputs.*check the shapes"):
        sn_deploy.export(made(), IMAGES[:, :2], tmp_path / "net.onnx")

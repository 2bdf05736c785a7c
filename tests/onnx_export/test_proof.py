"""The file is run beside the model: a fault anywhere is refused, and what can't be told is none."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
import torch
from torch import nn

import sn_deploy
from sn_deploy import cli
from sn_deploy.errors import CheckFailedError
from sn_deploy.nn import SwitchNorm2d
from sn_deploy.onnx_export import Proof, run
from sn_deploy.onnx_export.reference import Reference
from tests.conftest import OLD_LIBRARIES
from tests.randomise import randomise_

TOLERANCE = 2e-5
Code = Callable[[torch.Tensor, torch.Tensor], Any]


class Net(nn.Module):
    """A convolution and SN, and what ``code`` makes of the input and their result."""

    def __init__(self, code: Code = lambda x, y: y) -> None:
        super().__init__()
        self.conv, self.sn = nn.Conv2d(3, 8, 3, padding=1), SwitchNorm2d(8)
        self.code = code

    def forward(self, x: torch.Tensor) -> Any:
        return self.code(x, self.sn(self.conv(x)))


def net(code: Code = lambda x, y: y) -> nn.Module:
    torch.manual_seed(0)
    return randomise_(Net(code), seed=1)


def proof(model: nn.Module, folder: Path, size: tuple[int, ...] = (2, 3, 16, 16), **options: Any) -> Proof:
    torch.manual_seed(2)
    return sn_deploy.export(model, torch.randn(size), folder / "net.onnx", **options).proof


def refused(model: nn.Module, folder: Path, **options: Any) -> CheckFailedError:
    """What is said of it, nothing being written."""
    with pytest.raises(CheckFailedError) as raised:
        proof(model, folder, **options)
    assert not list(folder.iterdir())
    return raised.value


def alter_weight(monkeypatch: pytest.MonkeyPatch, index: int | tuple[int, ...], factor: float) -> None:
    """Makes the export multiply a part of a convolution's weight."""
    complete = run.graph_layers.complete

    def alters(model: ir.Model) -> None:
        complete(model)
        weight = model.graph.initializers["conv.weight"]
        assert weight.const_value is not None
        values = weight.const_value.numpy().copy()
        values[index] *= values.dtype.type(factor)
        weight.const_value = ir.tensor(values, name="conv.weight")

    monkeypatch.setattr(run.graph_layers, "complete", alters)


def test_a_file_of_fixed_sizes_runs_at_them(tmp_path: Path) -> None:
    found = proof(net(), tmp_path)
    assert found.why_not is None
    assert found.runs == [{"x": "2×3×16×16"}]
    assert found.rel_l2 is not None
    assert 0 < found.rel_l2 < 1e-6
    assert (found.tolerance, found.changed, found.left_out, found.in_float32) == (TOLERANCE, None, {}, False)


def test_other_sizes_are_run_along_dynamic_axes(tmp_path: Path) -> None:
    found = proof(net(), tmp_path, (1, 3, 16, 16), dynamic="batch")
    assert found.runs == [{"x": "2×3×16×16"}, {"x": "1×3×16×16"}]
    found = proof(net(), tmp_path, dynamic=("batch", "spatial"))
    assert found.runs == [{"x": "2×3×16×16"}, {"x": "1×3×16×16"}, {"x": "1×3×17×18"}]


def test_sides_are_such_as_the_model_takes(tmp_path: Path) -> None:
    halved = net(lambda x, y: y + nn.functional.interpolate(nn.functional.max_pool2d(y, 4), scale_factor=4.0))
    found = proof(halved, tmp_path, dynamic="spatial")
    assert {"x": "2×3×32×16"} in found.runs
    assert {"x": "2×3×17×18"} not in found.runs


@pytest.mark.parametrize("precision", ["fp32", "fp16", "bf16"])
def test_a_wrong_weight_is_refused(precision: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if precision == "bf16" and OLD_LIBRARIES:
        pytest.skip("ONNX Runtime 1.18 has no opset 22")
    good = proof(net(), tmp_path, precision=precision)
    assert good.in_float32 == (precision != "fp32")
    assert good.rel_l2 is not None
    assert good.rel_l2 < 1e-6
    (tmp_path / "net.onnx").unlink()
    if precision == "fp32":
        alter_weight(monkeypatch, (0, 0, 0, 0), 4)
    else:
        alter_weight(monkeypatch, 0, -1)
    error = refused(net(), tmp_path, precision=precision)
    assert "the exported file differs from the model by " in error.what
    assert error.where == f"{tmp_path / 'net.onnx'}, output switch_norm"
    assert "run=False writes it unseen" in str(error)


def test_constants_of_half_precision_are_no_fault(tmp_path: Path) -> None:
    found = proof(net(lambda x, y: y * 0.1), tmp_path, precision="fp16")
    assert found.rel_l2 is not None
    assert 1e-5 < found.rel_l2 < 2.0**-11  # 0.1 rounded
    assert found.tolerance == 2 * 16 * 2.0**-11


@pytest.mark.parametrize(
    ("code", "dynamic", "says"),
    [
        (lambda x, y: 2 * y if x.shape[0] == 1 else y, "batch", "with x 1×3×16×16, "),
        (lambda x, y: 2 * y if x.shape[0] > 4 else y, "batch", "does where batch <= 4, "),
        (lambda x, y: 2 * y if x.shape[2] < 12 else y, "spatial", "does where height >= 12, "),
        (lambda x, y: 2 * y if x.shape[3] > 40 else y, "spatial", "does where width <= 40, "),
        (lambda x, y: 2 * y if x.shape[2] % 8 else y, "spatial", "with x 2×3×17×18, "),
    ],
)
def test_code_that_asks_for_a_dynamic_size_is_refused(code: Code, dynamic: str, says: str, tmp_path: Path) -> None:
    error = refused(net(code), tmp_path, dynamic=dynamic)
    assert says in str(error)
    assert "leave the axis out of dynamic" in str(error)
    fixed = sn_deploy.export(net(code), torch.randn(2, 3, 16, 16), tmp_path / "net.onnx").proof
    assert fixed.why_not is None


def test_code_that_asks_and_makes_the_same_is_taken(tmp_path: Path) -> None:
    def in_parts(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return torch.cat([y[:4] * 2, y[4:] * 2]) if x.shape[0] > 4 else y * 2

    found = proof(net(in_parts), tmp_path, dynamic="batch")
    assert {"x": "5×3×16×16"} in found.runs


def test_what_is_too_large_to_be_tried_is_told(tmp_path: Path) -> None:
    found = proof(net(lambda x, y: 2 * y if x.shape[0] > 5000 else y), tmp_path, dynamic="batch")
    assert found.not_tried == ["batch <= 5000"]


def test_a_result_that_is_squeezed_at_one_sample_is_taken(tmp_path: Path) -> None:
    found = proof(net(lambda x, y: y.mean((2, 3)).squeeze()), tmp_path, dynamic="batch")
    assert found.runs == [{"x": "2×3×16×16"}, {"x": "1×3×16×16"}]


@pytest.mark.skipif(OLD_LIBRARIES, reason="older exporters leave the dropout out")
def test_random_outputs_are_left_out(tmp_path: Path) -> None:
    found = proof(net(lambda x, y: (y, nn.functional.dropout(y, 0.5, training=True))), tmp_path)
    assert len(found.left_out) == 1
    assert "the model itself makes something else of it" in next(iter(found.left_out.values()))
    assert found.rel_l2 is not None
    found = proof(net(lambda x, y: nn.functional.dropout(y, 0.5, training=True)), tmp_path)
    assert found.why_not is not None
    assert "the model itself makes something else of it" in found.why_not


def test_constant_examples_are_no_proof_and_noise_takes_their_place(tmp_path: Path) -> None:
    seen: list[torch.Tensor] = []

    def keep(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        if not isinstance(x, torch._subclasses.FakeTensor):
            seen.append(x)
        return y

    path = tmp_path / "net.onnx"
    sn_deploy.export(net(keep), torch.zeros(1, 3, 16, 16), path, dynamic="batch", trust_statistics=True)
    assert float(seen[0].std()) == 0
    assert float(seen[-1].std()) > 0.5

    def wants_zeros(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        if not isinstance(x, torch._subclasses.FakeTensor) and bool(x.any()):
            raise ValueError("zeros alone")
        return y

    report = sn_deploy.export(net(wants_zeros), torch.zeros(2, 3, 16, 16), path, trust_statistics=True)
    assert report.proof.why_not is None


def test_samples_that_are_repeated_differ(tmp_path: Path) -> None:
    seen: list[torch.Tensor] = []
    model = net(lambda x, y: (seen.append(x), y)[1])
    sn_deploy.export(model, torch.randn(1, 3, 16, 16), tmp_path / "net.onnx", dynamic="batch")
    pairs = [x for x in seen if not isinstance(x, torch._subclasses.FakeTensor) and len(x) == 2]
    assert not torch.equal(pairs[-1][0], pairs[-1][1])


def test_integers_are_compared(tmp_path: Path) -> None:
    found = proof(net(lambda x, y: y.argmax(1)), tmp_path)
    assert (found.rel_l2, found.tolerance) == (None, None)
    assert found.changed is not None
    assert found.changed <= 0.01


def test_without_a_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    branch = net(lambda x, y: 2 * y if x.shape[0] == 1 else y)
    assert proof(branch, tmp_path, dynamic="batch", run=False).why_not == "it wasn't asked for"
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "onnxruntime" else find_spec(name))
    assert proof(branch, tmp_path, dynamic="batch").why_not == "onnxruntime isn't installed"


def test_a_file_that_onnx_runtime_has_no_kernel_for_is_written(tmp_path: Path) -> None:
    found = proof(net(lambda x, y: torch.acosh(y.double() ** 2 + 2)), tmp_path)
    assert found.why_not is not None
    assert "it can't be run here: " in found.why_not
    assert (tmp_path / "net.onnx").is_file()


def test_the_model_is_not_there_twice() -> None:
    model = net().eval()
    reference = Reference(model, ["sn"], torch.float32)
    shared = {tensor.data_ptr() for tensor in model.parameters()}
    assert {tensor.data_ptr() for tensor in reference._model.parameters()} == shared
    rounded = Reference(model, ["sn"], torch.bfloat16)._model
    weight = model.get_parameter("conv.weight").detach()
    assert torch.equal(rounded.get_parameter("conv.weight"), weight.bfloat16().float())
    assert torch.equal(rounded.get_parameter("sn.weight"), model.get_parameter("sn.weight"))
    assert not torch.equal(weight, weight.bfloat16().float())


def test_weights_in_a_file_of_their_own(tmp_path: Path) -> None:
    model = net(lambda x, y: y)
    model.conv = nn.Conv2d(3, 8, 33, padding=16)
    for precision in ("fp32", "fp16"):
        found = proof(randomise_(model, seed=1), tmp_path, external_data=True, precision=precision)
        assert found.why_not is None


MODEL = """
import torch
from sn_deploy.nn import SwitchNorm2d

class Branch(torch.nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.sn = SwitchNorm2d(3)
    def forward(self, x):
        return self.sn(x) * 2 if x.shape[0] == 1 else self.sn(x)
"""


def test_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    Path("branch.py").write_text(MODEL)
    common = ["export", "--model", "branch.py:Branch", "--input", "2x3x8x8", "-o", "net.onnx"]
    with pytest.raises(SystemExit, match="1"):
        cli.main([*common, "--dynamic", "batch"])
    error = capsys.readouterr().err
    assert "with x 1×3×8×8, the exported file differs from the model by 5.0e-01" in error
    assert "leave the axis out of --dynamic" in error
    assert not Path("net.onnx").exists()
    cli.main([*common, "--dynamic", "batch", "--no-run"])
    assert "not compared with the model, as it wasn't asked for" in " ".join(capsys.readouterr().out.split())
    cli.main(common)
    assert "(at most 2.0e-05) from the model, both run on x 2×3×8×8" in " ".join(capsys.readouterr().out.split())


def test_names_of_inputs_and_outputs_are_the_files_own(tmp_path: Path) -> None:
    """Of a model that is a layer itself, too, whose input has another name in the file."""
    layer = randomise_(SwitchNorm2d(3), seed=1)
    report = sn_deploy.export(layer, torch.randn(2, 3, 8, 8), tmp_path / "layer.onnx", dynamic="batch")
    assert report.proof.why_not is None
    report = sn_deploy.export(
        net(lambda x, y: {"b": y, "a": (y + 1, x + 1)}),
        torch.randn(2, 3, 8, 8),
        tmp_path / "net.onnx",
        input_names=["image"],
    )
    assert report.proof.runs == [{"image": "2×3×8×8"}]
    assert {value.name for value in onnx.load(tmp_path / "net.onnx").graph.output} == {"b", "a.0", "a.1"}
    assert np.isfinite(report.proof.rel_l2 or 0)


def test_another_number_of_outputs_is_refused(tmp_path: Path) -> None:
    error = refused(net(lambda x, y: [y] * (1 if x.shape[0] == 1 else 2)), tmp_path, dynamic="batch")
    assert error.what == "with x 1×3×16×16, the exported file gives 2 outputs, and the model 1"

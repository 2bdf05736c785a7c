"""``sn-deploy export`` as a user calls it: what it prints, what it leaves, how it ends."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from tests.cli.command import exit_code
from tests.randomise import randomise_

MODEL = """
import torch
from torch import nn
from sn_deploy.nn import SparseSwitchNorm2d, SwitchNorm2d

class Net(nn.Module):
    def __init__(self, width=4, num_classes=5):
        super().__init__()
        self.conv = nn.Conv2d(3, width, 3, stride=2)
        self.sn = SwitchNorm2d(width)
        self.fc = nn.Linear(width, num_classes)

    def forward(self, image, scale=None):
        y = self.sn(self.conv(image)).relu().mean((2, 3))
        return self.fc(y if scale is None else y * scale)

net = Net()

class Sparse(Net):
    def __init__(self):
        super().__init__()
        for weight in (self.sn.mean_weight, self.sn.var_weight):
            nn.init.zeros_(weight)
            weight.data[2] = 1e4

class SSN(Net):
    def __init__(self):
        super().__init__()
        self.sn = SparseSwitchNorm2d(4)

def text():
    return "no module"
"""


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A user's folder: the code of a model, and a checkpoint as DataParallel and a training script leave it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    # A module name of its own for each test: Python imports a name once.
    name = "mynets_" + tmp_path.name.replace("-", "_")
    (tmp_path / f"{name}.py").write_text(MODEL)
    monkeypatch.setenv("MYNETS", name)
    torch.manual_seed(0)
    namespace: dict[str, object] = {"__name__": name}
    exec(MODEL, namespace)
    net = randomise_(namespace["Net"](width=6), seed=0)  # type: ignore[operator]
    state = {f"module.{key}": value for key, value in net.state_dict().items()}
    torch.save({"epoch": 3, "state_dict": state}, tmp_path / "best.pth")
    return tmp_path


def export(project: Path, *arguments: str, model: str = "Net") -> int:
    reference = f"mynets_{project.name.replace('-', '_')}:{model}"
    return exit_code("export", "--model", reference, "-o", "net.onnx", *arguments)


def files(project: Path) -> set[str]:
    return {path.name for path in project.iterdir() if path.suffix not in {".py", ""} and path.name != "best.pth"}


def test_a_checkpoint_becomes_a_file_and_a_summary(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--model-arg", "width=6", "--checkpoint", "best.pth", "--input", "1x3x9x9", "--dynamic", "batch"]
    assert export(project, *arguments) == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert "loaded 10 tensors from best.pth, key 'state_dict'" in printed
    assert "image: batch×3×9×9 float32" in printed
    assert "fp32, 1 SN layer operators 1 SwitchNorm: 1 with ReLU; each form with a local function nodes" in printed
    assert "torch's own export:" in printed
    weights = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in onnx.load("net.onnx").graph.initializer}
    trained = torch.load("best.pth", weights_only=True)["state_dict"]
    np.testing.assert_array_equal(weights["conv.weight"], trained["module.conv.weight"].numpy())
    assert files(project) == {"net.onnx"}


def test_no_line_is_folded_where_no_terminal_tells_how_wide_it_is(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = "a-name-that-is-long-" * 6 + ".onnx"
    arguments = ["--model-arg", "width=6", "--checkpoint", "best.pth", "--input", "1x3x9x9", "-o", path]
    assert export(project, *arguments) == 0
    assert any(path in line for line in capsys.readouterr().out.splitlines())


def test_weights_that_no_checkpoint_gave_are_told(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert export(project, "--input", "1x3x9x9") == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert "no --checkpoint: the weights are those that" in printed
    assert "of 1 layer, the BN statistics of 1" in printed


def test_a_model_in_data_parallel_takes_the_weights_and_names_of_the_one_inside(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (code,) = project.glob("*.py")
    code.write_text(f"{MODEL}\ndef parallel(): return torch.nn.DataParallel(Net(width=6))\n")
    assert export(project, "--checkpoint", "best.pth", "--input", "1x3x9x9", model="parallel") == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert "loaded 10 tensors" in printed
    assert "image: 1×3×9×9 float32" in printed


def test_fusion_is_told_and_can_be_turned_off(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert export(project, "--input", "1x3x9x9", "--no-fuse") == 0
    assert "operators 1 SwitchNorm; each form with" in " ".join(capsys.readouterr().out.split())
    assert [node.op_type for node in onnx.load("net.onnx").graph.node][1:3] == ["SwitchNorm", "Relu"]
    assert export(project, "--input", "1x3x9x9", "--inline") == 0
    assert "operators 1 SwitchNorm: 1 with ReLU; inlined" in " ".join(capsys.readouterr().out.split())


def test_specialise_folds_a_sparse_layer_into_its_convolution(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert export(project, "--input", "1x3x9x9", "--dynamic", "batch", "--specialise", model="Sparse") == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert "sn – folded" in printed
    assert "forms the same as SwitchNorm to" in printed
    assert not [node for node in onnx.load("net.onnx").graph.node if node.domain]
    assert files(project) == {"net.onnx"}
    assert export(project, "--input", "1x3x9x9", "--specialise", "--inline", model="Sparse") == 2


def test_what_torch_cannot_capture_of_a_layer_alone_is_not_printed(
    project: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """torch's exporter takes no layer that branches on its weights, and prints its graph; nobody asked it to."""
    assert export(project, "--input", "1x3x9x9", model="SSN") == 0
    printed = capfd.readouterr()
    assert "torch's own export: not possible" in " ".join(printed.out.split())
    assert printed.err == ""


def test_several_inputs_by_position_and_by_name(project: Path) -> None:
    assert export(project, "--input", "2x3x9x9", "--input", "scale=1x1", "--dynamic", "image:0=n", model="net") == 0
    inputs = onnx.load("net.onnx").graph.input
    assert [value.name for value in inputs] == ["image", "scale"]
    assert inputs[0].type.tensor_type.shape.dim[0].dim_param == "n"


@pytest.mark.parametrize(
    ("arguments", "model", "message"),
    [
        (["--input", "1x3x"], "Net", "error: --input 1x3x: can't read the shape '1x3x'"),
        (["--input", "1x3x9x9"], "Nett", "has no 'Nett'; did you mean Net"),
        (["--input", "1x3x9x9"], "text", "gives a str (expected a torch.nn.Module)"),
        (["--input", "1x3x9x9", "--model-arg", "depth=3"], "Net", "doesn't take these arguments"),
        (["--input", "1x3x9x9", "--model-arg", "depth=3"], "net", "is a module already"),
        (["--input", "1x3x9x9", "--checkpoint", "none.pth"], "Net", "none.pth"),
        (["--input", "1x3x9x9", "--checkpoint", "best.pth"], "Net", "shape"),
        (["--input", "1x3x3x3"], "Net", "layer 'sn': the unbiased variance over the spatial positions of (1, 4, 1, 1)"),
        (["--input", "1x4x9x9"], "Net", "the model fails on the example inputs (image: (1, 4, 9, 9)"),
        (["--input", "1x3x9x9", "--input", "1x3x9x9", "--input", "3"], "Net", "too many positional arguments"),
        (["--input", "1x3x9x9", "--checkpoint-key", "ema"], "Net", "--checkpoint-key: without effect"),
        (["--input", "1x3x9x9", "--opset", "9"], "Net", "--opset: opset 9 can't be exported (expected 18 to 23)"),
        (["--input", "1x3x9x9", "-o", "nowhere/net.onnx"], "Net", "its folder doesn't exist; create it with"),
    ],
)
def test_bad_input_is_one_line_exit_2_and_no_file(
    project: Path, arguments: list[str], model: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert export(project, *arguments, model=model) == 2
    errors = capsys.readouterr().err
    assert message in errors
    assert errors.startswith("error: ")
    assert errors.count("\n") == 1
    assert files(project) == set()


def test_wrong_usage_is_exit_2(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert export(project, "--input", "1x3x9x9", "--precision", "int8") == 2
    assert "'int8' is not one of" in capsys.readouterr().err
    assert exit_code("export", "--input", "1") == 2


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys\n"
        "from sn_deploy.cli import main\n"
        "try:\n    main(['export', '--help'])\n"
        "finally:\n    assert not {'torch', 'onnxruntime', 'tensorrt', 'matplotlib'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "--finalize-batch-average" in done.stdout

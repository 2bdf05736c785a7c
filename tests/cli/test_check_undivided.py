"""``sn-deploy check`` against a checkpoint whose running statistics are still sums over batches."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tests.cli.command import run_folded

BATCHES = 50
OPTION = "give --finalize-batch-average N"
DATA = ("--data", "random", "--limit", "8", "--no-latency")

NET = """\
import torch
from torch import nn
from sn_deploy.nn import SwitchNorm2d


class Apart(SwitchNorm2d):
    def __init__(self, channels):
        super().__init__(channels)
        self.register_buffer("batch_mean", torch.zeros(channels))
        self.register_buffer("batch_var", torch.zeros(channels))


def net(apart=False):
    torch.manual_seed(0)
    norm = Apart if apart else SwitchNorm2d
    return nn.Sequential(nn.Conv2d(3, 4, 3), norm(4), nn.ReLU(), nn.Conv2d(4, 4, 3), norm(4))
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "net.py").write_text(NET)
    return tmp_path


def checkpoint(*, apart: bool) -> None:
    """Sums over all batches, where training with ``using_moving_average=False`` or the detection code keeps them."""
    namespace: dict[str, object] = {}
    exec(NET, namespace)
    model = namespace["net"](apart)  # type: ignore[operator]
    model.eval()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        x = torch.randn(64, 3, 8, 8, generator=generator)
        for module in model:
            if isinstance(module, namespace["SwitchNorm2d"]):  # type: ignore[arg-type]
                mean, var = x.mean((0, 2, 3)), x.var((0, 2, 3))
                names = ("batch_mean", "batch_var") if apart else ("running_mean", "running_var")
                for name, value in zip(names, (BATCHES * mean, BATCHES * (mean**2 + var)), strict=True):
                    buffer = getattr(module, name)
                    buffer.copy_(value.view_as(buffer))
            x = module(x)
    torch.save(model.state_dict(), "sums.pth")


def export(capsys: pytest.CaptureFixture[str], *model: str) -> None:
    shape = ("--input", "2x3x8x8", "--dynamic", "batch")
    code, _, error = run_folded(capsys, "export", *model, *shape, "-o", "a.onnx")
    assert code == 0, error


@pytest.mark.parametrize("apart", [False, True])
def test_a_check_that_fails_for_sums_names_the_option(
    apart: bool, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    checkpoint(apart=apart)
    model = ("--model", "net.py:net", "--model-arg", f"apart={apart}", "--checkpoint", "sums.pth")
    divided = ("--finalize-batch-average", str(BATCHES))
    export(capsys, *model, *divided)
    assert run_folded(capsys, "check", "a.onnx", *model, *divided, *DATA)[0] == 0
    code, _, error = run_folded(capsys, "check", "a.onnx", *model, *DATA)
    assert code == 1
    assert "limits don't hold" in error
    assert "layer '1': running_var is" in error
    assert OPTION in error
    # A part has no verdict of its own, and says it all the same.
    part = ("--limit", "16", "--shard", "1/2", "--json", "part.json")
    code, out, _ = run_folded(capsys, "check", "a.onnx", *model, *DATA, *part)
    assert code == 0
    assert OPTION in out


def test_a_check_that_fails_for_another_reason_does_not(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    checkpoint(apart=False)
    model = ("--model", "net.py:net", "--checkpoint", "sums.pth")
    divided = ("--finalize-batch-average", str(BATCHES))
    export(capsys, *model, *divided)
    other = torch.load("sums.pth")
    other["0.weight"] *= 1.5
    torch.save(other, "sums.pth")
    code, _, error = run_folded(capsys, "check", "a.onnx", *model, *divided, *DATA)
    assert code == 1
    assert OPTION not in error
    # Averages, and another network: nothing looks like a sum.
    for name in ("1", "4"):
        other[f"{name}.running_mean"] /= BATCHES
        other[f"{name}.running_var"] /= BATCHES
    torch.save(other, "sums.pth")
    code, _, error = run_folded(capsys, "check", "a.onnx", *model, *DATA)
    assert code == 1
    assert OPTION not in error


@pytest.mark.filterwarnings(
    "ignore:.*torch.jit:FutureWarning", "ignore:.*torch.jit:DeprecationWarning", "ignore::torch.jit.TracerWarning"
)
def test_a_layer_in_torchscript_stops_no_check(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    checkpoint(apart=False)
    model = ("--model", "net.py:net", "--checkpoint", "sums.pth")
    export(capsys, *model, "--finalize-batch-average", str(BATCHES))
    with (folder / "net.py").open("a") as file:
        file.write("\n\ndef traced():\n    model = net()\n    model.load_state_dict(torch.load('sums.pth'))\n")
        file.write("    model.eval()[1] = torch.jit.trace(model[1], torch.zeros(2, 4, 6, 6))\n    return model\n")
    code, _, error = run_folded(capsys, "check", "a.onnx", "--model", "net.py:traced", *DATA)
    assert code == 1
    assert "limits don't hold" in error

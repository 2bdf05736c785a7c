"""Outputs are called as the model calls them, whatever it gives them in, and each has a name of its own."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import sn_deploy
from sn_deploy.nn import SwitchNorm2d
from sn_deploy.runtime.ort import OrtSession
from sn_deploy.runtime.torch import output_tensors
from tests.cli.command import exit_code
from tests.randomise import randomise_


class Pair(NamedTuple):
    scores: Tensor
    boxes: Tensor


@dataclass
class Found:
    scores: Tensor
    boxes: list[Tensor]
    kind: str


def shared(y: Tensor) -> dict[str, Tensor]:
    z = y * 2
    return {"first": z, "second": z}


class Returns(nn.Module):
    def __init__(self, give: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.conv, self.sn, self.give = nn.Conv2d(3, 4, 3), SwitchNorm2d(4), give

    def forward(self, x: Tensor) -> Any:
        return self.give(self.sn(self.conv(x)))


X = np.random.default_rng(0).normal(size=(2, 3, 8, 8)).astype(np.float32)


@pytest.mark.parametrize(
    ("give", "names"),
    [
        (lambda y: {"scores": y + 1, "boxes": y * 2}, ["scores", "boxes"]),
        (lambda y: Pair(y + 1, y * 2), ["scores", "boxes"]),
        (lambda y: {"levels": [y + 1, y * 2], "mean": y.mean()}, ["levels.0", "levels.1", "mean"]),
        (lambda y: [y + 1, y * 2], [None, None]),
        (lambda y: {"x": y + 1, "conv.weight": y * 2, "y": y - 1}, [None, None, "y"]),  # what else has that name
        (shared, [None, None]),
        (lambda y: {"size": 3, "y": y + 1, "loss": None}, ["y"]),
        (lambda y: Found(y + 1, [y * 2], "text"), ["scores", "boxes.0"]),
    ],
    ids=["dict", "named tuple", "nested", "list", "taken", "twice the same", "no tensors", "dataclass"],
)
def test_names(give: Callable[[Tensor], Any], names: list[str | None], tmp_path: Path) -> None:
    model = randomise_(Returns(give), seed=1).eval()
    sn_deploy.export(model, torch.from_numpy(X), tmp_path / "net.onnx", dynamic="batch")
    with OrtSession(tmp_path / "net.onnx") as session:
        found = session.run({"x": X})
    with torch.no_grad():
        expected = output_tensors(model(torch.from_numpy(X)), "the model")
    assert len(found) == len({id(value) for value in expected}) or give is shared
    for name, own, value in zip(names, found, expected, strict=False):
        assert name in (None, own)
        np.testing.assert_allclose(found[own], value.numpy(), rtol=1e-4, atol=1e-5)


def test_the_option_gives_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("named.py").write_text(
        "import torch\nfrom sn_deploy.nn import SwitchNorm2d\nclass Net(torch.nn.Module):\n"
        "    def __init__(self):\n        super().__init__()\n        self.sn = SwitchNorm2d(3)\n"
        "    def forward(self, x):\n        y = self.sn(x)\n        return {'a': y, 'b': y * 2}\n"
    )
    command = ("export", "--model", "named.py:Net", "--input", "1x3x8x8", "-o", "net.onnx")
    assert exit_code(*command, "--output-name", "left", "--output-name", "right") == 0
    assert "outputs left: 1×3×8×8 float32 right: 1×3×8×8 float32" in " ".join(capsys.readouterr().out.split())
    assert exit_code(*command, "--output-name", "left") == 2
    assert "--output-name: has 1 names (expected 2, one for each output)" in capsys.readouterr().err
    assert exit_code(*command, "--output-name", "x", "--output-name", "y") == 2
    assert "--output-name: 'x' is an input's name" in capsys.readouterr().err

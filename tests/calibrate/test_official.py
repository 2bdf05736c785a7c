"""Batch averages against the authors' own modules, where a folder has their repository.

    SN_REPOSITORIES=FOLDER python -m pytest tests/calibrate/test_official.py

FOLDER holds clones under their own names, as for tools/zoo.py. Elsewhere `tests.calibrate.published` stands for them.
"""

from __future__ import annotations

import copy
import importlib.util
import os
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from sn_deploy.calibrate import calibrate
from sn_deploy.recognise import finalize_batch_average_
from tests.calibrate.oracle import Batches
from tests.randomise import randomise_

SOURCE = Path("Switchable-Normalization", "devkit", "ops", "switchable_norm.py")


@pytest.fixture(scope="module")
def official() -> ModuleType:
    folder = os.environ.get("SN_REPOSITORIES")
    if folder is None:
        pytest.skip("SN_REPOSITORIES names no folder of the authors' repositories")
    path = Path(folder, SOURCE)
    if not path.is_file():
        pytest.skip(f"{path} isn't there")
    spec = importlib.util.spec_from_file_location("official_switchable_norm", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Net(nn.Module):
    """Images through two of the authors' SwitchNorm2d, and vectors through their SwitchNorm1d."""

    def __init__(self, official: ModuleType) -> None:
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(3, 6, 3), nn.Conv2d(6, 5, 3)
        self.sn1 = official.SwitchNorm2d(6, using_moving_average=False)
        self.sn2 = official.SwitchNorm2d(5, using_moving_average=False)
        self.sn3 = official.SwitchNorm1d(5, using_moving_average=False)

    def forward(self, x: Tensor) -> Tensor:
        x = self.sn1(self.conv1(x)).relu()
        return self.sn3(self.sn2(self.conv2(x)).mean((2, 3)))


def test_batch_averages_are_those_of_the_authors_training(official: ModuleType) -> None:
    torch.manual_seed(0)
    model = randomise_(Net(official), 0)
    x = np.random.default_rng(1).normal(0.5, 1.5, (30, 3, 11, 10)).astype(np.float32)
    calibration = calibrate(model, Batches(x, 8))
    trained = copy.deepcopy(model).train()
    for buffer in trained.buffers():
        buffer.zero_()
    with torch.no_grad():
        for batch in Batches(x, 8):
            trained(torch.from_numpy(batch.inputs["x"]))
    assert finalize_batch_average_(trained, 4) == ["sn1", "sn2", "sn3"]
    assert [layer.name for layer in calibration.layers] == ["sn1", "sn2", "sn3"]
    for layer in calibration.layers:
        own = trained.get_submodule(layer.name)
        np.testing.assert_allclose(layer.mean, own.running_mean.flatten(), rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose(layer.var, own.running_var.flatten(), rtol=1e-4)

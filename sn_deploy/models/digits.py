"""A small SN network for 8x8 handwritten digits, with weights that tools/train_demo.py has trained."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final, cast

import torch.nn.functional as F  # noqa: N812
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from sn_deploy.errors import SnDeployError
from sn_deploy.nn import SwitchNorm2d

WEIGHTS: Final = Path(__file__).with_name("digits.safetensors")

# One key with everything in it: safetensors writes several keys in an order that changes from run to run.
METADATA_KEY: Final = "sn_deploy.training"


class DigitsNet(nn.Module):
    """Four 3x3 convolutions, each with SN, in turn with and without the BN branch; the last has a residual.

    There is one layer of each kind that a deployment meets: SN alone with ReLU, and SN with a residual before ReLU.
    """

    def __init__(self, num_classes: int = 10) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 32, 3, padding=1, bias=False)
        self.sn1 = SwitchNorm2d(32)
        self.conv2 = nn.Conv2d(32, 32, 3, padding=1, bias=False)
        self.sn2 = SwitchNorm2d(32, using_bn=False)
        self.conv3 = nn.Conv2d(32, 64, 3, padding=1, bias=False)
        self.sn3 = SwitchNorm2d(64)
        self.conv4 = nn.Conv2d(64, 64, 3, padding=1, bias=False)
        self.sn4 = SwitchNorm2d(64, using_bn=False)
        self.fc = nn.Linear(64 * 2 * 2, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Images (N, 1, 8, 8) in 0 to 1 to logits (N, num_classes)."""
        x = F.relu(self.sn1(self.conv1(x)))  # (N, 32, 8, 8)
        x = F.relu(self.sn2(self.conv2(x)))
        x = F.max_pool2d(x, 2)
        x = F.relu(self.sn3(self.conv3(x)))  # (N, 64, 4, 4)
        x = F.relu(self.sn4(self.conv4(x)) + x)
        x = F.max_pool2d(x, 2)  # (N, 64, 2, 2)
        return cast(Tensor, self.fc(x.flatten(1)))


def digits(num_classes: int = 10) -> DigitsNet:
    """The network with random weights, in training mode."""
    return DigitsNet(num_classes)


def load_pretrained(path: Path = WEIGHTS) -> DigitsNet:
    """The trained network, in eval mode.

    Raises:
        SnDeployError: the file of weights is missing, damaged or another network's.
    """
    tensors, _ = _read(path)
    model = DigitsNet()
    try:
        model.load_state_dict(tensors)
    except RuntimeError as error:
        raise SnDeployError(f"doesn't fit DigitsNet: {error}", where=str(path), mend=_MEND) from error
    return model.eval()


def training_record(path: Path = WEIGHTS) -> dict[str, Any]:
    """How the weights came about: ``seed``, ``epochs``, ``correct`` of ``held_out``, ``accuracy``, ``torch``.

    Raises:
        SnDeployError: the file of weights is missing or damaged, or has no such record.
    """
    _, metadata = _read(path)
    if METADATA_KEY not in metadata:
        raise SnDeployError("has no record of its training", where=str(path), mend=_MEND)
    return cast("dict[str, Any]", json.loads(metadata[METADATA_KEY]))


_MEND: Final = "reinstall sn-deploy, or train again with: python tools/train_demo.py"


def _read(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    try:
        with safe_open(path, framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}, file.metadata() or {}  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        raise SnDeployError(f"the weights can't be read: {error}", where=str(path), mend=_MEND) from error

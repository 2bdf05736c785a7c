"""Where the real Triton, its clients and the schemas of Kubernetes are; without them these tests are skipped.

``make test-triton`` brings them and runs the tests. TRITON_TEST_ROOT names what ``python tools/get_triton.py`` filled;
its ``client`` has to be on PYTHONPATH.
"""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path

import pytest

from tests.check.small_net import write_net

MAKE = "make test-triton brings it"


def need(module: str) -> pytest.MarkDecorator:
    """Skips where a module isn't there."""
    return pytest.mark.skipif(importlib.util.find_spec(module) is None, reason=f"{module} isn't installed: {MAKE}")


@pytest.fixture(scope="session")
def triton_root() -> Path:
    """The folder with a real Triton."""
    root = os.environ.get("TRITON_TEST_ROOT")
    if not root or not (Path(root) / "server").is_dir():
        pytest.skip(f"no Triton: TRITON_TEST_ROOT isn't set: {MAKE}")
    if importlib.util.find_spec("tritonclient") is None:
        pytest.skip(f"tritonclient isn't installed: {MAKE}")
    return Path(root).resolve()


@pytest.fixture
def net(tmp_path: Path) -> Path:
    """A small net with a batch of any size."""
    return write_net(tmp_path / "net.onnx")


@pytest.fixture(scope="session")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the demo's trained network, digits.onnx, and its held-out digits, digits.npz."""
    import numpy as np
    from torch import from_numpy

    import sn_deploy
    from sn_deploy.check.digits_data import load_digits_split
    from sn_deploy.models.digits import load_pretrained

    folder = tmp_path_factory.mktemp("digits")
    split = load_digits_split()
    np.savez(folder / "digits.npz", x=split.test_images, labels=split.test_labels)
    sn_deploy.export(load_pretrained(), from_numpy(split.test_images[:1]), folder / "digits.onnx", dynamic="batch")
    return folder

from __future__ import annotations

from pathlib import Path

import pytest

from sn_deploy.runtime.ort import block_size
from tests.native.conftest import library as library
from tests.optimise.nets import plain_chain


@pytest.fixture(scope="session")
def block(library: str) -> int:
    """Channels in a block here; the test is skipped where nothing can be optimised."""
    size = block_size()
    if size is None:
        pytest.skip("ONNX Runtime has no blocked convolutions on this processor")
    return size


@pytest.fixture
def portable(block: int, tmp_path: Path) -> Path:
    """A portable file of two layers."""
    return plain_chain(tmp_path / "net.onnx")

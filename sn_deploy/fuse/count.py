"""How many SN layers a file has in standard operators, for who only tells of them."""

from __future__ import annotations

import contextlib
from pathlib import Path

import onnx_ir.passes.common as common_passes

from sn_deploy.fuse.find import find
from sn_deploy.fuse.load import load


def unfused_layers(path: Path) -> int:
    """The layers of an ONNX file that `fuse` would make SwitchNorm nodes of; 0 where that can't be told."""
    # The libraries raise whatever they stumble over in a file that breaks the format, which is nothing to say here.
    with contextlib.suppress(Exception):
        model = load(path).model
        common_passes.RemoveUnusedNodesPass()(model)
        return len(find(model).layers)
    return 0

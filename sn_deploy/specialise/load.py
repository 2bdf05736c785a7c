"""Reading the file that is to be specialised, and writing drafts of it that ONNX Runtime can open."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import onnx_ir as ir

from sn_deploy.graph.inference import infer_shapes
from sn_deploy.graph.layers import needed_nodes
from sn_deploy.graph.portable_file import load_portable
from sn_deploy.graph.save import EXTERNAL_DATA_FROM_BYTES, weight_bytes
from sn_deploy.input_file import read_head
from sn_deploy.runtime.stamp import refuse_optimised

_DRAFT_DATA: Final = "draft.data"


def load(path: Path) -> ir.Model:
    """A file with SwitchNorm nodes.

    Raises:
        SnDeployError: as `load_portable`, or one made for a single machine, or without SwitchNorm nodes.
    """
    read_head(path)
    refuse_optimised(path, mend="specialise the portable file that it was made of, {source}, and optimise the result")
    model = load_portable(path)
    needed_nodes(model, str(path), mend="find the layers of other files with: sn-deploy fuse")
    infer_shapes(model, str(path))
    return model


def write_draft(model: ir.Model, folder: Path, name: str) -> Path:
    """The model as a file in ``folder``, its weights inside where that is possible."""
    path = folder / f"{name}.onnx"
    large = weight_bytes(model) >= EXTERNAL_DATA_FROM_BYTES
    if not large:
        ir.external_data.load_to_model(model)  # the source's external data isn't where the draft is
    ir.save(model, path, external_data=_DRAFT_DATA if large else None)
    return path

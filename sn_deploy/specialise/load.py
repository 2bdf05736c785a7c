"""Reading the file that is to be specialised, and writing drafts of it that ONNX Runtime can open."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import onnx_ir as ir

from sn_deploy.errors import SnDeployError
from sn_deploy.graph.inference import check_openable, infer_shapes
from sn_deploy.graph.layers import check_nodes, switch_norm_nodes
from sn_deploy.graph.order import check_order
from sn_deploy.graph.random_nodes import refuse_random
from sn_deploy.graph.save import EXTERNAL_DATA_FROM_BYTES, weight_bytes
from sn_deploy.input_file import read_head
from sn_deploy.onnx_file import read_model
from sn_deploy.runtime.stamp import refuse_optimised

_DRAFT_DATA: Final = "draft.data"


def load(path: Path) -> ir.Model:
    """A file with SwitchNorm nodes.

    Raises:
        SnDeployError: no ONNX file, one made for a single machine, or one without SwitchNorm nodes.
    """
    read_head(path)
    refuse_optimised(path, mend="specialise the portable file that it was made of, {source}, and optimise the result")
    model = read_model(path)
    check_order(model, str(path))
    if not switch_norm_nodes(model):
        raise SnDeployError(
            "has no SwitchNorm node",
            where=str(path),
            expected="a file written by `sn-deploy export` without --inline, or by `sn-deploy fuse`",
            mend="find the layers of other files with: sn-deploy fuse",
        )
    check_nodes(model, str(path))
    refuse_random(model, str(path))
    infer_shapes(model, str(path))
    check_openable(path)
    return model


def write_draft(model: ir.Model, folder: Path, name: str) -> Path:
    """The model as a file in ``folder``, its weights inside where that is possible."""
    path = folder / f"{name}.onnx"
    large = weight_bytes(model) >= EXTERNAL_DATA_FROM_BYTES
    if not large:
        ir.external_data.load_to_model(model)  # the source's external data isn't where the draft is
    ir.save(model, path, external_data=_DRAFT_DATA if large else None)
    return path

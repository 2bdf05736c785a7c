"""The ONNX file that is to be converted: read, and refused where its arithmetic is already decided."""

from __future__ import annotations

from pathlib import Path

import onnx_ir as ir

from sn_deploy.errors import SnDeployError
from sn_deploy.graph.layers import check_nodes
from sn_deploy.graph.order import check_order
from sn_deploy.input_file import read_head
from sn_deploy.onnx_file import read_model
from sn_deploy.output_file import check_onnx_output
from sn_deploy.runtime.stamp import refuse_optimised


def check_paths(source: Path, output: Path) -> None:
    """Refuses, before any work is done, files that can't be read, written, or are one.

    Raises:
        SnDeployError: see above, or the source was optimised for one machine.
    """
    read_head(source)
    check_onnx_output(output)
    if output.exists() and output.samefile(source):
        raise SnDeployError(
            "is the file to be converted, which the result is held against", where=str(output), mend="write to another"
        )
    refuse_optimised(source, "is optimised for {machine}", "give the portable file: {source}")


def load_model(source: Path) -> ir.Model:
    """The model of an ONNX file; weights outside it are read when they are needed.

    Raises:
        SnDeployError: it is no valid ONNX file, imports no standard operators, or has an SN layer without its inputs.
    """
    model = read_model(source)
    if "" not in model.opset_imports:
        raise SnDeployError("imports no standard operators", where=str(source), expected="an ONNX model of a network")
    check_order(model, str(source))
    check_nodes(model, str(source))
    return model


def file_bytes(path: Path) -> int:
    """Of an ONNX file and of the files that hold its external data."""
    tensors = (value.const_value for value in load_model(path).graph.initializers.values())
    beside = {path.parent / tensor.location for tensor in tensors if isinstance(tensor, ir.ExternalTensor)}
    return sum(file.stat().st_size for file in {path, *beside})

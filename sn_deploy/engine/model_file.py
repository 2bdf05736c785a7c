"""What is to be known of an ONNX file before an engine is built of it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import onnx_ir as ir

from sn_deploy.check.backends.onnx_file import OnnxFacts, read_facts
from sn_deploy.errors import SnDeployError
from sn_deploy.graph import op
from sn_deploy.graph.inline import inline
from sn_deploy.graph.interface import stated_interface
from sn_deploy.input_file import utf8_path
from sn_deploy.onnx_file import read_model, read_proto
from sn_deploy.runtime.tensors import TensorInfo


@dataclass(frozen=True)
class ModelFile:
    """An ONNX file.

    Attributes:
        facts: hashes, precision and the number of SN layers.
        inputs, outputs: in the file's order; axes are sizes, names, or None.
        body_nodes: nodes of the function that stands for an SN layer; None where the file has none.
    """

    path: Path
    facts: OnnxFacts
    inputs: tuple[TensorInfo, ...]
    outputs: tuple[TensorInfo, ...]
    body_nodes: int | None


def read_model_file(path: Path) -> ModelFile:
    """Reads it without its external data.

    Raises:
        SnDeployError: it can't be read, is no ONNX file, its data isn't beside it, or ONNX Runtime alone can run it.
    """
    utf8_path(path)  # for TensorRT, and for the sidecar
    facts = read_facts(path)
    if not facts.portable:
        raise SnDeployError(
            "was made for ONNX Runtime on one kind of processor by sn-deploy optimise",
            where=str(path),
            mend="build the engine of the file that it was made of",
        )
    model = read_proto(path)
    inputs, outputs = stated_interface(model, path)
    bodies = [len(function.node) for function in model.functions if function.domain == op.DOMAIN]
    return ModelFile(path, facts, inputs, outputs, max(bodies, default=None))


def without_functions(path: Path) -> bytes:
    """The model without the functions of the SN layers, whose nodes can then be the plugin's alone.

    TensorRT 10.6's parser prefers a function of the file to a plugin of that name, whatever the node says; later ones
    don't. External data stays where it is.
    """
    proto = read_proto(path)
    kept = [function for function in proto.functions if function.domain != op.DOMAIN]
    del proto.functions[:]
    proto.functions.extend(kept)
    content: bytes = proto.SerializeToString()
    return content


def inlined(path: Path) -> bytes:
    """The model with the functions' nodes in the place of the SN layers; external data stays where it is.

    Raises:
        SnDeployError: an SN layer has no function in the file.
    """
    model = read_model(path)
    inline(model)
    content: bytes = ir.to_proto(model).SerializeToString()
    return content

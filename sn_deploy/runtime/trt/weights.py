"""Which files' weights an engine may get.

Only weights can be replaced. Everything else of the file is in the engine for good, and with it the share that an SN
layer gives to IN, LN and BN: these are attributes of its node, which TensorRT's refitter doesn't look at. Another
checkpoint's file, whose shares are others, would go in without a word and be wrong.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import onnx

from sn_deploy.errors import SnDeployError
from sn_deploy.hashing import sha256_of_file
from sn_deploy.onnx_file import external_files, load_external_data, read_proto, tensors_of
from sn_deploy.runtime.trt.replaceable import replaceable
from sn_deploy.runtime.trt.sidecar import Sidecar, sidecar_path


def structure_sha256(path: Path) -> str:
    """A hash of all that an engine can't get from another file: the graph and its functions without float weights.

    Floats that are settings of a layer, such as the scales of a Resize, are no weights (`replaceable`).

    Where a file keeps its data, inside or beside it and under which name, makes no difference.

    Raises:
        SnDeployError: it can't be read, is no ONNX file, or its external data is missing or cut off.
    """
    proto = read_proto(path)
    graph = proto.graph
    weights = replaceable(graph)
    for tensor in graph.initializer:
        if tensor.name in weights:
            kept = onnx.TensorProto(name=tensor.name, data_type=tensor.data_type, dims=tensor.dims)
            tensor.CopyFrom(kept)
    for tensor in tensors_of(proto):
        load_external_data(tensor, path)
        if tensor.HasField("raw_data"):
            # Protobuf writes no more than 2 GiB.
            tensor.raw_data = hashlib.sha256(tensor.raw_data).digest()
    # What tools note about a file changes nothing of what it computes.
    for field in ("producer_name", "producer_version", "doc_string", "metadata_props", "domain", "model_version"):
        proto.ClearField(field)
    for field in ("name", "doc_string", "value_info", "metadata_props"):
        graph.ClearField(field)
    for node in graph.node:
        node.ClearField("doc_string")
        node.ClearField("metadata_props")
    return hashlib.sha256(proto.SerializeToString(deterministic=True)).hexdigest()


def check_weights(sidecar: Sidecar, engine: Path, weights: Path) -> None:
    """Whether an engine may get the weights of a file.

    Raises:
        SnDeployError: its weights can't be replaced, or only by the same, or the file differs in more than weights.
    """
    proto = read_proto(weights)
    found = {name: sha256_of_file(file) for name, file in external_files(proto, weights).items()}
    if sha256_of_file(weights) == sidecar.onnx.get("sha256") and found == sidecar.onnx.get("data_sha256"):
        return
    source = str(sidecar.onnx["file"])
    if not sidecar.settings.get("refit"):
        what = "takes the weights of no other" if sidecar.needs_weights else "has its weights for good"
        raise SnDeployError(
            f"isn't the file that {engine.name} was built of, and that engine {what}",
            where=str(weights),
            expected=f"{source} as it was then",
            mend="build it with --refit, to replace weights later",
        )
    known = sidecar.onnx.get("structure_sha256")
    if structure_sha256(weights) != known:
        told = "differs in more than its weights from" if known else "can't be held against"
        raise SnDeployError(
            f"{told} the file that {engine.name} was built of ({source}): the graph, or what SN layers give to IN, LN "
            "and BN, which is fixed in an engine",
            where=str(weights),
            mend=f"build an engine of it: sn-deploy build {weights.name}",
        )


def without_sidecar(engine: Path, *, in_memory: bool = False) -> SnDeployError:
    """That it isn't known which weights an engine takes; of one that was given as bytes no sidecar is read."""
    return SnDeployError(
        "which weights the engine takes isn't known: there is no sidecar",
        where=str(engine),
        expected=f"{sidecar_path(engine).name} beside it, as build writes it",
        mend="give the file's path in the place of its bytes" if in_memory else None,
    )

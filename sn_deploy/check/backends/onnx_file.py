"""What a check has to know of an ONNX file before it runs: read without its weights where these lie outside."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import onnx

from sn_deploy.check.backends.read_values import read_values
from sn_deploy.compare.tolerances import TOLERANCES
from sn_deploy.graph import op
from sn_deploy.graph.inference import check_openable
from sn_deploy.hashing import sha256_of_file
from sn_deploy.onnx_file import external_files, read_proto
from sn_deploy.runtime.stamp import read_stamp

# Weights of fewer elements than this are constants of a graph, not what it computes with.
_FEW: Final = 8


@dataclass(frozen=True)
class OnnxFacts:
    """What was read.

    Attributes:
        sha256: of the file; data_sha256: of the files that hold its external data, by name.
        precision: the coarsest type of its weights, inputs and outputs: files whose borders are float32 may compute in
            half precision inside, and a part that does costs what a whole does. Where most of its weights are of a type
            that has no tolerance, int8 say, that. What no output depends on doesn't count.
        switch_norm_nodes: how many nodes the native operator would run.
        portable: whether any runtime can run it: not so what `sn-deploy optimise` made for one machine.
    """

    sha256: str
    data_sha256: dict[str, str]
    precision: str
    switch_norm_nodes: int
    portable: bool


def read_facts(path: Path) -> OnnxFacts:
    """The facts of an ONNX file, which ONNX Runtime may be given then.

    Raises:
        SnDeployError: it can't be read or is no ONNX file, its external data isn't there, or it would end the process.
    """
    model = read_proto(path)
    check_openable(path, model)
    return OnnxFacts(
        sha256=sha256_of_file(path),
        data_sha256={name: sha256_of_file(file) for name, file in sorted(external_files(model, path).items())},
        precision=_precision(model),
        switch_norm_nodes=sum(node.domain == op.DOMAIN for node in model.graph.node),
        portable=read_stamp(path) is None,
    )


def _precision(model: onnx.ModelProto) -> str:
    read = read_values(model)
    elements: Counter[str] = Counter()
    for tensor in _weights(model, read):
        count = 1
        for size in tensor.dims:
            count *= size
        if count >= _FEW:
            elements[_dtype_name(tensor.data_type)] += count
    borders = [
        _dtype_name(value.type.tensor_type.elem_type)
        for value in (*model.graph.input, *model.graph.output)
        if value.name in read
    ]
    most = elements.most_common(1)[0][0] if elements else None
    if most is not None and most not in TOLERANCES and most not in _INDICES:
        return most  # int8, float8 and the like: more than rounding
    floats = [name for name in (*elements, *borders) if name in TOLERANCES]
    return max(floats, key=lambda name: TOLERANCES[name].roundoff) if floats else "float32"


# Integers that a graph computes shapes and places with.
_INDICES: Final = frozenset({"int32", "int64", "bool"})


def _weights(model: onnx.ModelProto, read: Collection[str]) -> Iterator[onnx.TensorProto]:
    yield from (tensor for tensor in model.graph.initializer if tensor.name in read)
    for node in model.graph.node:
        if node.op_type == "Constant" and node.output[:1] and node.output[0] in read:
            yield from (attribute.t for attribute in node.attribute if attribute.HasField("t"))


def _dtype_name(data_type: int) -> str:
    name: str = onnx.TensorProto.DataType.Name(data_type).lower()
    return {"float": "float32", "double": "float64"}.get(name, name)

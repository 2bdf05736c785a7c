"""ONNX files in which expanding 1 x 1 convolutions and the SN layers behind them are one node: for engines with the
trial of such a kernel (plugins/tensorrt/convolution), which nothing but these benchmarks has.

A node has the layer's name, attributes and inputs X, scale, bias, mean_offset and var_offset; then the convolution's
filter; then the residual. X is the convolution's; the attribute ``stride`` is new.
"""

from __future__ import annotations

from collections import Counter
from typing import Final

import onnx
from onnx import TensorProto, helper

from sn_deploy.graph.op import DOMAIN, SWITCH_NORM, SWITCH_NORM_ADD_RELU

CONVOLUTION, CONVOLUTION_ADD_RELU = "SwitchNormConvolution", "SwitchNormConvolutionAddRelu"
OPS: Final = {SWITCH_NORM: CONVOLUTION, SWITCH_NORM_ADD_RELU: CONVOLUTION_ADD_RELU}
DEPTHS: Final = (64, 128, 256, 512)  # that there are kernels for
CHUNK: Final = 64  # channels of Y come in whole ones


def fused(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model with each pair that the trial can do as one node; without the functions, which have none for it.

    Only of float16, and of convolutions that make more channels than they read, have no bias, and whose output nothing
    else reads.
    """
    made = onnx.ModelProto()
    made.CopyFrom(model)
    graph = made.graph
    filters = {tensor.name: tensor for tensor in graph.initializer}
    makers = {name: node for node in graph.node for name in node.output}
    reads = Counter(name for node in graph.node for name in node.input)
    reads.update(value.name for value in graph.output)
    replaced: list[onnx.NodeProto] = []
    for node in graph.node:
        maker = makers.get(node.input[0]) if node.domain == DOMAIN and node.op_type in OPS else None
        if maker is None or reads[node.input[0]] > 1 or not _is_expansion(maker, filters):
            continue
        replaced.append(maker)
        x, weight = maker.input
        parameters, residual = node.input[1:5], node.input[5:]
        inputs = [x, *parameters, weight, *residual]
        stride = _attributes(maker).get("strides", [1, 1])[0]
        one = helper.make_node(OPS[node.op_type], inputs, node.output, name=node.name, domain=DOMAIN, stride=stride)
        one.attribute.extend(node.attribute)
        one.metadata_props.extend(node.metadata_props)
        node.CopyFrom(one)
    for node in replaced:
        graph.node.remove(node)
    functions = [function for function in made.functions if function.domain != DOMAIN]
    del made.functions[:]
    made.functions.extend(functions)
    return made


def _is_expansion(node: onnx.NodeProto, filters: dict[str, TensorProto]) -> bool:
    if node.op_type != "Conv" or node.domain or len(node.input) != 2 or node.input[1] not in filters:
        return False
    weight, attributes = filters[node.input[1]], _attributes(node)
    channels, depth, *kernel = weight.dims
    stride = attributes.get("strides", [1, 1])
    plain = (
        not any(attributes.get("pads", []))
        and attributes.get("group", 1) == 1
        and attributes.get("auto_pad", b"NOTSET") in (b"NOTSET", b"VALID")
        and len(set(stride)) == 1
    )
    fits = depth in DEPTHS and channels % CHUNK == 0 and channels > depth
    return plain and fits and kernel == [1, 1] and weight.data_type == TensorProto.FLOAT16


def _attributes(node: onnx.NodeProto) -> dict[str, object]:
    return {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}

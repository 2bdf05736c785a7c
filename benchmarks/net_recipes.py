"""ONNX files of nets whose weights are drawn by a rule, without those weights: a hundredth of the size, so that they
can be carried to a machine whose transfers are small.

`packed` takes each large initializer out that is the net's own weight, cast or quantized, and writes down how it comes
of it; `unpacked` makes the whole file again from the net. Both are exact: each tensor's hash is in the recipe.
"""

from __future__ import annotations

import hashlib
import json
import zlib
from collections.abc import Mapping
from typing import Any, Final

import numpy as np
import onnx
import torch
from onnx import numpy_helper

from sn_deploy.errors import SnDeployError
from sn_deploy.nn.base import SwitchNorm

Array = np.ndarray[Any, Any]

RECIPE: Final = "sn_deploy.recipe"  # metadata of a file that was packed
_LARGE: Final = 4096  # elements from which on a tensor is taken out
_HALF_WIDTH: Final = 3**0.5  # of a uniform distribution of variance 1


def draw_weights_(model: torch.nn.Module) -> torch.nn.Module:
    """The same weights on every machine, with every version: each from the generator that NumPy never changes.

    Convolutions are scaled as for ReLU nets; SN layers look trained: mix weights that differ, statistics and affine
    parts that aren't what they began as.
    """
    with torch.no_grad():
        for name, module in model.named_modules():
            if isinstance(module, SwitchNorm):
                for key, (low, high) in _SWITCH_NORM.items():
                    getattr(module, key).copy_(_drawn(f"{name}.{key}", getattr(module, key).shape, low, high))
            elif isinstance(module, torch.nn.Conv2d | torch.nn.Linear):
                width = _HALF_WIDTH * (2 / module.weight[0].numel()) ** 0.5
                module.weight.copy_(_drawn(f"{name}.weight", module.weight.shape, -width, width))
                if module.bias is not None:
                    module.bias.zero_()
    return model.eval()


_SWITCH_NORM: Final = {
    "mean_weight": (-_HALF_WIDTH, _HALF_WIDTH),
    "var_weight": (-_HALF_WIDTH, _HALF_WIDTH),
    "running_mean": (-_HALF_WIDTH, _HALF_WIDTH),
    "running_var": (0.5, 2.0),
    "weight": (0.3, 0.6),
    "bias": (-0.1, 0.1),
}


def _drawn(name: str, shape: torch.Size, low: float, high: float) -> torch.Tensor:
    uniform = np.random.RandomState(zlib.crc32(name.encode())).random_sample(tuple(shape))
    return torch.from_numpy((low + (high - low) * uniform).astype(np.float32))


def packed(model: onnx.ModelProto, weights: Mapping[str, Array]) -> onnx.ModelProto:
    """The file without the tensors that come of ``weights``, float32 by name in the net.

    Raises:
        SnDeployError: a large tensor comes of none.
    """
    made = onnx.ModelProto()
    made.CopyFrom(model)
    tensors = {tensor.name: tensor for tensor in made.graph.initializer}
    axes = {node.input[0]: _axis(node) for node in made.graph.node if node.op_type == "DequantizeLinear"}
    scales = {node.input[0]: node.input[1] for node in made.graph.node if node.op_type == "DequantizeLinear"}
    recipe = {}
    for name, tensor in tensors.items():
        if np.prod(tensor.dims, dtype=np.int64) < _LARGE:
            continue
        array = numpy_helper.to_array(tensor)
        own: dict[str, Any] = {"sha256": _hash(array)}
        if name in scales:
            own |= {"scale": scales[name], "axis": axes[name]}
        source = next((key for key, weight in weights.items() if _comes_of(array, weight, own, tensors)), None)
        if source is None:
            raise SnDeployError("comes of none of the net's weights", where=f"tensor {name}")
        recipe[name] = {"from": source, **own}
        tensor.ClearField("raw_data")
        tensor.ClearField("float_data")
    entry = made.metadata_props.add()
    entry.key, entry.value = RECIPE, json.dumps(recipe)
    return made


def unpacked(model: onnx.ModelProto, weights: Mapping[str, Array]) -> onnx.ModelProto:
    """The whole file again.

    Raises:
        SnDeployError: these weights aren't those of `packed`.
    """
    made = onnx.ModelProto()
    made.CopyFrom(model)
    (entry,) = [entry for entry in made.metadata_props if entry.key == RECIPE]
    recipe = json.loads(entry.value)
    made.metadata_props.remove(entry)
    tensors = {tensor.name: tensor for tensor in made.graph.initializer}
    for name, own in recipe.items():
        dtype = onnx.helper.tensor_dtype_to_np_dtype(tensors[name].data_type)
        array = _made(weights[own["from"]], dtype, own, tensors)
        if _hash(array) != own["sha256"]:
            raise SnDeployError(
                "isn't what the file was made of", where=f"weight {own['from']}", mend="make the files anew"
            )
        tensors[name].raw_data = array.tobytes()
    return made


def is_packed(model: onnx.ModelProto) -> bool:
    """Whether it is without its weights."""
    return any(entry.key == RECIPE for entry in model.metadata_props)


def weights_of(module: torch.nn.Module) -> dict[str, Array]:
    """By name, float32."""
    return {name: tensor.detach().float().cpu().numpy() for name, tensor in module.state_dict().items()}


def _comes_of(array: Array, weight: Array, own: Mapping[str, Any], tensors: Mapping[str, Any]) -> bool:
    return weight.shape == array.shape and _hash(_made(weight, array.dtype, own, tensors)) == own["sha256"]


def _made(weight: Array, dtype: np.dtype[Any], own: Mapping[str, Any], tensors: Mapping[str, Any]) -> Array:
    """The tensor of a file from the net's weight."""
    if "scale" not in own:
        return weight.astype(dtype)
    scale = numpy_helper.to_array(tensors[own["scale"]]).astype(np.float64)
    column = [1] * weight.ndim
    column[own["axis"]] = -1
    divided = weight.astype(np.float64) / scale.reshape(column)
    return np.clip(np.rint(divided), -127, 127).astype(dtype)


def _axis(node: onnx.NodeProto) -> int:
    return next((attribute.i for attribute in node.attribute if attribute.name == "axis"), 1)


def _hash(array: Array) -> str:
    return hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()

"""The operators' contract, version 1: what an exported file promises and every backend keeps.

``sn_deploy::SwitchNorm(X, scale, bias, mean_offset, var_offset) -> Y``, and its fused forms
``SwitchNormRelu``, Y = relu(sn(X)), and ``SwitchNormAddRelu``, Y = relu(sn(X) + residual), residual its sixth input.

- X, Y, residual: (N, C, *spatial), float32, float16 or bfloat16, of one shape and type. The four inputs between: (C,),
  float32 whatever X is.
- Attributes: floats ``mean_in``, ``mean_ln``, ``var_in``, ``var_ln``; int ``ddof`` (0 biased, 1 unbiased); string
  ``plugin_namespace`` = "" (without it TensorRT from 10.15 on imports the function body and not the plugin).
- Rank 2: no IN part, ``mean_in`` = ``var_in`` = 0; the LN statistics are over C, with divisor C - ddof.
- Statistics in float32 at least; see `sn_deploy.folded` for the equations. The sum and the ReLU of the fused forms are
  taken in it too: Y is rounded to X's type once.

What the BN branch folded into is not needed to compute, only to be shown: nodes carry it, and the name of the layer
they came from, in their ``metadata_props``.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from sn_deploy.folded import FoldedSwitchNorm

DOMAIN: Final = "sn_deploy"
VERSION: Final = 1
SWITCH_NORM: Final = "SwitchNorm"
SWITCH_NORM_RELU: Final = "SwitchNormRelu"
SWITCH_NORM_ADD_RELU: Final = "SwitchNormAddRelu"
OP_TYPES: Final = (SWITCH_NORM, SWITCH_NORM_RELU, SWITCH_NORM_ADD_RELU)

RESIDUAL: Final = "residual"
PARAMETERS: Final = ("scale", "bias", "mean_offset", "var_offset")
FLOAT_ATTRIBUTES: Final = ("mean_in", "mean_ln", "var_in", "var_ln")

# Keys of a node's metadata_props, whatever its form.
METADATA_LAYER: Final = "sn_deploy.layer"
METADATA_MEAN_BN: Final = "sn_deploy.mean_bn"
METADATA_VAR_BN: Final = "sn_deploy.var_bn"

# Of the operators on ONNX Runtime's blocks of channels (plugins/onnxruntime). Inputs and attributes are those above,
# without plugin_namespace, with an int ``block_size``, and with a string ``onnxruntime``, the version that the file is
# made for: with it the operators refuse another version and a processor with other blocks, without it they take any.
# X, Y and the residual: (N, C', H, W), float32, C' being C rounded up to whole blocks; C is the parameters' length.
BLOCKED_DOMAIN: Final = "sn_deploy.nchwc"
BLOCKED_VERSION: Final = 1


def input_names(op_type: str) -> tuple[str, ...]:
    """The inputs of one of `OP_TYPES`, in order."""
    return ("X", *PARAMETERS, RESIDUAL) if op_type == SWITCH_NORM_ADD_RELU else ("X", *PARAMETERS)


def attributes_from_folded(folded: FoldedSwitchNorm) -> dict[str, float | int | str]:
    """The attributes of the node of a layer."""
    attributes: dict[str, float | int | str] = {name: getattr(folded, name) for name in FLOAT_ATTRIBUTES}
    return {**attributes, "ddof": folded.ddof, "plugin_namespace": ""}


def parameters_from_folded(folded: FoldedSwitchNorm) -> dict[str, np.ndarray]:
    """The four (C,) float32 inputs of the node of a layer."""
    return {name: getattr(folded, name).astype(np.float32) for name in PARAMETERS}


def metadata_from_folded(folded: FoldedSwitchNorm) -> dict[str, str]:
    """The metadata_props of the node of a layer."""
    return {
        METADATA_LAYER: folded.name,
        METADATA_MEAN_BN: repr(folded.mean_bn),
        METADATA_VAR_BN: repr(folded.var_bn),
    }

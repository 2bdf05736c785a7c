"""The operator's contract, version 1: what an exported file promises and every backend keeps.

``sn_deploy::SwitchNorm(X, scale, bias, mean_offset, var_offset) -> Y``

- X, Y: (N, C, *spatial), float32, float16 or bfloat16. The other four inputs: (C,), float32 whatever X is.
- Attributes: floats ``mean_in``, ``mean_ln``, ``var_in``, ``var_ln``; int ``ddof`` (0 biased, 1 unbiased); string
  ``plugin_namespace`` = "" (without it TensorRT from 10.15 on imports the function body and not the plugin).
- Rank 2: no IN part, ``mean_in`` = ``var_in`` = 0; the LN statistics are over C, with divisor C - ddof.
- Statistics in float32 at least; see `sn_deploy.folded` for the equations.

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

PARAMETERS: Final = ("scale", "bias", "mean_offset", "var_offset")
FLOAT_ATTRIBUTES: Final = ("mean_in", "mean_ln", "var_in", "var_ln")

# Keys of a SwitchNorm node's metadata_props.
METADATA_LAYER: Final = "sn_deploy.layer"
METADATA_MEAN_BN: Final = "sn_deploy.mean_bn"
METADATA_VAR_BN: Final = "sn_deploy.var_bn"


def attributes_from_folded(folded: FoldedSwitchNorm) -> dict[str, float | int | str]:
    """The attributes of the SwitchNorm node of a layer."""
    attributes: dict[str, float | int | str] = {name: getattr(folded, name) for name in FLOAT_ATTRIBUTES}
    return {**attributes, "ddof": folded.ddof, "plugin_namespace": ""}


def parameters_from_folded(folded: FoldedSwitchNorm) -> dict[str, np.ndarray]:
    """The four (C,) float32 inputs of the SwitchNorm node of a layer."""
    return {name: getattr(folded, name).astype(np.float32) for name in PARAMETERS}


def metadata_from_folded(folded: FoldedSwitchNorm) -> dict[str, str]:
    """The metadata_props of the SwitchNorm node of a layer."""
    return {
        METADATA_LAYER: folded.name,
        METADATA_MEAN_BN: repr(folded.mean_bn),
        METADATA_VAR_BN: repr(folded.var_bn),
    }

"""The name of a layer, from what its file says: names of weights where they tell, else scopes in names of nodes."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from typing import Final

from sn_deploy.fuse.region import Region

# What SN's tensors are called in the published layer and its ports.
_OWN: Final = frozenset(
    {
        *("weight", "bias", "gamma", "beta", "scale", "shift"),
        *("mean_weight", "var_weight", "mean_weights", "variance_weights"),
        *("running_mean", "running_var", "moving_mean", "moving_variance"),
    }
)


def layer_name(region: Region) -> str | None:
    """The layer's qualified name, such as ``layer1.0.sn1``; None where nothing tells it."""
    return _from_weights(region) or _from_scopes(region)


def _from_weights(region: Region) -> str | None:
    owners: Counter[str] = Counter()
    for node in region.nodes:
        for value in node.inputs:
            if value is not None and value.is_initializer():
                owner, _, own = re.sub(r":\d+$", "", value.name or "").replace("/", ".").rpartition(".")
                if owner and own in _OWN:
                    owners[owner] += 1
    return owners.most_common(1)[0][0] if owners else None


def _from_scopes(region: Region) -> str | None:
    """From names like ``/layer1/layer1.0/sn1/Sub``: torch's of modules, and TensorFlow's of layers."""
    scopes: Counter[tuple[str, ...]] = Counter()
    scoped = 0
    for node in region.nodes:
        parts = tuple(part for part in (node.name or "").split("/") if part)[:-1]
        if parts and node not in region.foreign_shapes:
            scoped += 1
            scopes.update(parts[: end + 1] for end in range(len(parts)))
    # The innermost that holds most of the layer: its statistics may have scopes of their own.
    own = sorted((scope for scope, count in scopes.items() if 2 * count > scoped), key=len)
    return ".".join(_qualified(own[-1])) if own else None


def _qualified(scope: Iterable[str]) -> list[str]:
    """Without the repetitions: ``layer1``, ``layer1.0``, ``sn1`` are ``layer1.0``, ``sn1``."""
    parts: list[str] = []
    for part in scope:
        if parts and part.startswith(f"{parts[-1]}."):
            parts[-1] = part
        else:
            parts.append(part)
    return parts

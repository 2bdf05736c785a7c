"""The float32 weights that a half-precision file was rounded from, as far as the reference has them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from sn_deploy.check.backends.adapted import AdaptedBackend
from sn_deploy.check.backends.spec import TORCH
from sn_deploy.fuse.load import load
from sn_deploy.graph.mixed import Originals


def originals_of(reference: AdaptedBackend) -> Originals:
    """Name of a weight -> its numbers in the reference, where it has one of that name."""
    if reference.info.kind == TORCH:
        return _of_model(reference.runner)
    if reference.info.kind.startswith("ort") and reference.info.file is not None:
        return _of_file(Path(reference.info.file))
    return lambda name: None


def _of_model(runner: Any) -> Originals:
    from sn_deploy.runtime.torch import array_from_tensor

    state = {name: value for name, value in runner.model.state_dict().items() if hasattr(value, "detach")}

    def original(name: str) -> npt.NDArray[np.float32] | None:
        return None if name not in state else array_from_tensor(state[name]).astype(np.float32)

    return original


def _of_file(path: Path) -> Originals:
    initializers = load(path).model.graph.initializers

    def original(name: str) -> npt.NDArray[np.float32] | None:
        tensor = initializers[name].const_value if name in initializers else None
        return None if tensor is None else np.asarray(tensor.numpy()).astype(np.float32)

    return original

"""What is in an engine: its sidecar, and, where a GPU is, what TensorRT's inspector and a profile run tell."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from sn_deploy.engine.layers import LayerRow, layer_rows
from sn_deploy.errors import SnDeployError
from sn_deploy.input_file import read_head, source_path
from sn_deploy.python_words import naming_arguments
from sn_deploy.runtime.trt.access import OPTIONS_IN_PYTHON, Access
from sn_deploy.runtime.trt.library import need_gpu, tensorrt
from sn_deploy.runtime.trt.sidecar import Sidecar, check_hash, read_sidecar, sidecar_path

_SEED: Final = 0
_NO_ACCESS: Final = Access()


@dataclass(frozen=True)
class Inspection:
    """What was found.

    Attributes:
        rows: the layers; None where neither the engine nor a sidecar could be asked.
        shapes: of the inputs in the profile run; None where none was made.
        missing: why the engine itself wasn't asked; None where it was.
    """

    sidecar: Sidecar | None
    rows: list[LayerRow] | None
    shapes: Mapping[str, tuple[int, ...]] | None
    missing: str | None


@naming_arguments()
def inspect_sidecar(path: str | os.PathLike[str], missing: str | None = None) -> Inspection:
    """What can be told without TensorRT and a GPU, and why that is all.

    Args:
        missing: why the engine isn't to be asked; None where it may be, if it can be.

    Raises:
        SnDeployError: there is neither a sidecar nor what it takes to ask the engine, or the sidecar is another's.
    """
    path = source_path(path, "the engine")
    read_head(path)
    sidecar = read_sidecar(path)
    if missing is None:
        try:
            tensorrt()
            need_gpu("asking an engine for its layers, and timing them,")
        except SnDeployError as error:
            missing = str(error)
    if sidecar is None:
        if missing is not None:
            raise SnDeployError(f"there is no {sidecar_path(path).name} beside it, and {missing}", where=str(path))
        return Inspection(None, None, None, None)
    check_hash(sidecar, path.read_bytes(), path)
    rows = None if sidecar.layers is None else layer_rows(sidecar.layers)
    return Inspection(sidecar, rows, None, missing)


@naming_arguments(OPTIONS_IN_PYTHON)
def inspect_engine(path: str | os.PathLike[str], access: Access = _NO_ACCESS) -> Inspection:
    """Loads the engine and runs it on random inputs, at the shapes that its first profile is made fastest for.

    Args:
        path: of the engine, beside which its sidecar may lie.
        access: what it may be loaded with.

    Raises:
        SnDeployError: it can't be loaded or run.
    """
    from sn_deploy.runtime.trt import Engine

    with Engine(path, **vars(access)) as engine:
        inputs = random_inputs(engine)
        times = engine.all_layer_times_ms(inputs)
        try:
            layers: Sequence[Mapping[str, Any]] = engine.layers()
        except SnDeployError:
            # What the profiler names is all that there is.
            known = None if engine.sidecar is None else engine.sidecar.layers
            layers = known or [{"Name": name} for name in times]
        rows = layer_rows(layers, times)
        return Inspection(engine.sidecar, rows, {name: array.shape for name, array in inputs.items()}, None)


def random_inputs(engine: Any) -> dict[str, np.ndarray[Any, Any]]:
    """Standard normal values for floats, zeros for what may be an index."""
    generator = np.random.default_rng(_SEED)
    inputs = {}
    for info in engine.inputs:
        shape = engine.profiles[0][info.name].opt
        is_index = info.dtype.kind in "iub"
        values = np.zeros(shape) if is_index else generator.standard_normal(shape, dtype=np.float32)
        inputs[info.name] = values.astype(info.dtype)
    return inputs

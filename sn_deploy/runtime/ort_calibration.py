"""Ranges of activations on data, by ONNX Runtime's own calibrators."""

from __future__ import annotations

import contextlib
import importlib
import io
import sys
import warnings
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np

from sn_deploy.errors import SnDeployError
from sn_deploy.imports import imported
from sn_deploy.runtime.ort_errors import reason_of
from sn_deploy.runtime.tensors import Array

# method -> (its name there, options). The library's own 128 bins for entropy are too few for 127 levels.
METHODS: Final[Mapping[str, tuple[str, Mapping[str, Any]]]] = {
    "minmax": ("MinMax", {"symmetric": True}),
    "percentile": ("Percentile", {"symmetric": True, "num_bins": 2048, "percentile": 99.99}),
    "entropy": ("Entropy", {"symmetric": True, "num_bins": 2048, "num_quantized_bins": 128}),
}


def calibrate(
    model: Path,
    batches: Iterable[Mapping[str, Array]],
    *,
    method: str,
    op_types: Collection[str],
    folder: Path,
    on_batch: Callable[[], None] = lambda: None,
    where: str,
) -> dict[str, float]:
    """Tensor -> the absolute value up to which it is to be represented, of the float tensors around some operators.

    Args:
        model: a float32 file; it is run by the functions inside it.
        batches: its inputs, by name.
        method: one of `METHODS`.
        op_types: operators whose inputs and outputs are looked at.
        folder: for the files that this needs.
        where: what errors call the model; its file may be a temporary one.

    Raises:
        SnDeployError: an unknown method, onnxruntime is missing, or can't run the model.
    """
    if method not in METHODS:
        raise SnDeployError(f"unknown method {method!r}", where="--method", expected=", ".join(METHODS))
    name, options = METHODS[method]
    library = calibrators()
    try:
        with _quiet():
            calibrator = library.create_calibrator(
                model,
                list(op_types),
                str(folder / "augmented.onnx"),
                getattr(library.CalibrationMethod, name),
                use_external_data_format=True,
                extra_options=dict(options),
            )
        _reopen(calibrator)
        for batch in batches:
            # One batch at a time: it keeps all that it is given in one call.
            with _quiet():
                calibrator.collect_data(_Once(batch))
            on_batch()
        with _quiet():
            found = calibrator.compute_data()
    except SnDeployError:
        raise
    except Exception as error:  # of ONNX Runtime's session, and plain ones of the calibrators
        mend = "give usual samples with --data, or a size that the network takes: --input 1x3x512x512"
        if isinstance(error, AttributeError):  # as of MinMax before 1.19 at its second batch
            mend = "choose another --method, or install a newer onnxruntime: its own calibrator is at fault"
        raise SnDeployError(
            f"no ranges can be taken on this data: {' '.join(reason_of(error).split())[:400]}", where=where, mend=mend
        ) from error
    # Its mapping has no items() before 1.19.
    return {tensor: _largest(found[tensor].range_value) for tensor in found}


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """The library prints what it does, and NumPy warns of NaN, of which an error tells later."""
    with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        yield


def _reopen(calibrator: Any) -> None:
    """As it opens its session itself, but for what that would log to the standard error: errors are raised, too."""
    library = importlib.import_module("onnxruntime")
    options = library.SessionOptions()
    options.graph_optimization_level = library.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    calibrator.infer_session = None
    path, providers = calibrator.augmented_model_path, calibrator.execution_providers
    calibrator.infer_session = library.InferenceSession(path, options, providers=providers)


class _Once:
    """What the library calls a data reader, of one batch."""

    def __init__(self, batch: Mapping[str, Array]) -> None:
        self._left: list[dict[str, Array]] = [dict(batch)]

    def get_next(self) -> dict[str, Array] | None:
        """The batch, then None."""
        return self._left.pop() if self._left else None


def _largest(limits: Iterable[Any]) -> float:
    return max(float(np.max(np.abs(np.asarray(limit, dtype=np.float64)))) for limit in limits)


def calibrators() -> Any:
    """The module onnxruntime.quantization.calibrate.

    Importing it leaves a folder in sys.path, with modules of such names as models and benchmark, which is taken out.

    Raises:
        SnDeployError: it can't be imported.
    """
    before = list(sys.path)
    try:
        module, called = "onnxruntime.quantization.calibrate", "onnxruntime.quantization"
        return imported(module, called=called, where="calibration", extra="ort")
    finally:
        sys.path[:] = before

"""Both files on the same random input, in ONNX Runtime."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from sn_deploy.compare.extents import run_at_extents
from sn_deploy.compare.parity import compare
from sn_deploy.compare.random_inputs import OtherInterfaceError, values_for
from sn_deploy.compare.tolerances import TOLERANCES, coarsest
from sn_deploy.diff.changes import OutputDiff
from sn_deploy.diff.summary import Array, Summary
from sn_deploy.errors import SnDeployError
from sn_deploy.graph.inference import check_openable
from sn_deploy.runtime.ort import OrtSession
from sn_deploy.runtime.stamp import read_stamp
from sn_deploy.runtime.tensors import TensorInfo, is_exact

_USUAL_INPUT: Final = "give a usual input: --input [NAME=]FILE.npy, or a size: --input [NAME=]1x3x512x512"


def compare_outputs(
    before: Summary, after: Summary, given: Mapping[str, Array], tolerance: float | None, seed: int
) -> tuple[tuple[OutputDiff, ...], dict[str, str], str | None]:
    """Runs both; each output compared, what they were run on, as text, and why open axes of it aren't small.

    Inputs and outputs that have other names are matched by their place.

    Raises:
        OtherInterfaceError: another number of inputs or outputs, or axes that contradict.
        SnDeployError: ONNX Runtime is missing, can't load a file or fails to run it, or an input isn't as it must be.
    """
    for one in (before, after):
        check_openable(one.path)
    with _open(before.path) as first, _open(after.path) as second:
        inputs = _matched(first.inputs, second.inputs, "inputs", before, after)
        unknown = [name for name in given if name not in {info.name for pair in inputs for info in pair}]
        if unknown:
            names = ", ".join(one.name for one, _ in inputs)
            raise SnDeployError("is no input of the files", where=f"--input {unknown[0]}", expected=names)
        outputs = _matched(first.outputs, second.outputs, "outputs", before, after)
        ran = run_at_extents(
            lambda extent: values_for(inputs, given, seed, extent),
            lambda values: _run(first, [one for one, _ in inputs], values),
            inputs,
            given,
        )
        values = ran.inputs
        results = [ran.outputs, _run(second, [other for _, other in inputs], values)]
    if not any(value.size for result in results for value in result.values()):
        raise SnDeployError("no output has an element for this input, so nothing can be compared", mend=_USUAL_INPUT)
    diffs = tuple(_output_diff(pair, results[0][pair[0].name], results[1][pair[1].name], tolerance) for pair in outputs)
    run_on = {
        one.name: "×".join(map(str, value.shape)) or "scalar" for (one, _), value in zip(inputs, values, strict=True)
    }
    return diffs, run_on, ran.why_larger


def _open(path: Path) -> OrtSession:
    """By the function inside the file, as any runtime has it; what was optimised for a machine has none."""
    session = OrtSession(path, native=read_stamp(path) is not None)
    if session.instead is not None:
        raise SnDeployError(
            f"isn't for this machine, and {session.instead.name} would run in its place",
            where=str(path),
            mend="compare the files with --no-run, or where it was made",
        )
    return session


def _run(session: OrtSession, infos: Sequence[TensorInfo], values: Sequence[Array]) -> dict[str, Array]:
    try:
        return session.run({info.name: value.astype(info.dtype) for info, value in zip(infos, values, strict=True)})
    except SnDeployError as error:
        raise SnDeployError(error.what, where=error.where, expected=error.expected, mend=_USUAL_INPUT) from error


def _matched(
    first: Sequence[TensorInfo], second: Sequence[TensorInfo], what: str, before: Summary, after: Summary
) -> list[tuple[TensorInfo, TensorInfo]]:
    if len(first) != len(second):
        raise OtherInterfaceError(f"{before.path} has {len(first)} {what} and {after.path} has {len(second)}")
    by_name = {info.name: info for info in second}
    if all(info.name in by_name for info in first):
        return [(info, by_name[info.name]) for info in first]
    return list(zip(first, second, strict=True))


def _output_diff(
    pair: tuple[TensorInfo, TensorInfo], before: Array, after: Array, tolerance: float | None
) -> OutputDiff:
    if before.shape != after.shape:
        raise OtherInterfaceError(
            f"output {pair[0].name!r} has shape {before.shape} in one and {after.shape} in the other"
        )
    both_nan = _nan(before) & _nan(after)  # which nobody can tell apart
    parity = compare(*(np.where(both_nan, np.zeros((), one.dtype), one) for one in (before, after)))
    if parity.elements == np.count_nonzero(both_nan) and before.size and not parity.nonfinite_mismatch:
        raise SnDeployError(
            "is infinite or NaN everywhere for this input, in both files, so nothing can be compared",
            where=f"output {pair[0].name!r}",
            mend=_USUAL_INPUT,
        )
    floats = [str(info.dtype) for info in pair if str(info.dtype) in TOLERANCES]
    default = TOLERANCES[coarsest(floats)].rel_l2 if floats else 0.0
    return OutputDiff(
        before=pair[0].name,
        after=pair[1].name,
        shape=before.shape,
        max_abs=parity.max_abs,
        rel_l2=parity.rel_l2,
        cosine=parity.cosine,
        nonfinite=parity.nonfinite_mismatch,
        tolerance=default if tolerance is None else tolerance,
    )


def _nan(array: Array) -> npt.NDArray[np.bool_]:
    return np.zeros(array.shape, np.bool_) if is_exact(array.dtype) else np.asarray(np.isnan(array))

"""Both files on the same random input, in ONNX Runtime."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from sn_deploy.compare.extents import run_at_extents
from sn_deploy.compare.fit import keeps_values
from sn_deploy.compare.parity import compare
from sn_deploy.compare.random_inputs import OtherInterfaceError, values_for
from sn_deploy.compare.tolerances import TOLERANCES, coarsest
from sn_deploy.diff.changes import OutputDiff
from sn_deploy.diff.contents import FileContents
from sn_deploy.errors import SnDeployError
from sn_deploy.graph.inference import check_openable
from sn_deploy.graph.random_nodes import unseeded
from sn_deploy.onnx_file import model_of
from sn_deploy.runtime.ort import OrtSession
from sn_deploy.runtime.stamp import read_stamp
from sn_deploy.runtime.tensors import Array, TensorInfo, is_exact
from sn_deploy.text import shape_text

_USUAL_INPUT: Final = "give a usual input: --input [NAME=]FILE.npy, or a size: --input [NAME=]1x3x512x512"


# How often a file that draws random numbers runs once more: a truth value comes out the same now and then.
_MORE_RUNS: Final = 5


@dataclass(frozen=True)
class Compared:
    """What both files gave; see `FileDiff`."""

    outputs: tuple[OutputDiff, ...]
    inputs: Mapping[str, str]
    why_larger: str | None
    drawn: tuple[str, ...]


def compare_outputs(
    before: FileContents, after: FileContents, given: Mapping[str, Array], tolerance: float | None, seed: int
) -> Compared:
    """Runs both and compares each output, but for those that come out otherwise in each run.

    Inputs and outputs that have other names are matched by their place.

    Raises:
        OtherInterfaceError: another number of inputs or outputs, or axes that contradict.
        SnDeployError: ONNX Runtime is missing, can't load a file or fails to run it, or an input isn't as it must be.
    """
    for one in (before, after):
        check_openable(one.path, one.proto)
    with _open(before.path) as first, _open(after.path) as second:
        inputs = _matched(first.inputs, second.inputs, "inputs", before, after)
        unknown = [name for name in given if name not in {info.name for pair in inputs for info in pair}]
        if unknown:
            names = ", ".join(one.name for one, _ in inputs)
            raise SnDeployError("is no input of the files", where=f"--input {unknown[0]}", expected=names)
        _check_kinds(inputs, given)
        outputs = _matched(first.outputs, second.outputs, "outputs", before, after)
        ran = run_at_extents(
            lambda extent: values_for(inputs, given, seed, extent),
            lambda values: _run(first, [one for one, _ in inputs], values),
            inputs,
            given,
        )
        values = ran.inputs
        results = [ran.outputs, _run(second, [other for _, other in inputs], values)]
        feeds = [[one for one, _ in inputs], [other for _, other in inputs]]
        moving = [
            _drawn(file, session, infos, values, result)
            for file, session, infos, result in zip((before, after), (first, second), feeds, results, strict=True)
        ]
    if not any(value.size for result in results for value in result.values()):
        raise SnDeployError("no output has an element for this input, so nothing can be compared", mend=_USUAL_INPUT)
    drawn = [pair for pair in outputs if pair[0].name in moving[0] or pair[1].name in moving[1]]
    compared = [pair for pair in outputs if pair not in drawn]
    if not compared:
        raise SnDeployError(
            f"{'each of its outputs' if len(drawn) > 1 else 'its output'} is drawn anew in each run, so nothing can be "
            "compared",
            where=str(before.path if moving[0] else after.path),
            mend="give the nodes that draw a seed, export in evaluation mode, or compare what they hold with --no-run",
        )
    diffs = tuple(
        _output_diff(pair, results[0][pair[0].name], results[1][pair[1].name], tolerance) for pair in compared
    )
    run_on = {one.name: shape_text(value.shape) for (one, _), value in zip(inputs, values, strict=True)}
    return Compared(diffs, run_on, ran.why_larger, tuple(pair[0].name for pair in drawn))


def _check_kinds(inputs: Sequence[tuple[TensorInfo, TensorInfo]], given: Mapping[str, Array]) -> None:
    for pair in inputs:
        for info in pair:
            value = given.get(info.name)
            if value is not None and not keeps_values(value, info.dtype):
                raise SnDeployError(
                    f"has numbers of {value.dtype} that {info.dtype} doesn't hold",
                    where=f"input {info.name}",
                    expected=str(info),
                )


def _drawn(
    file: FileContents,
    session: OrtSession,
    infos: Sequence[TensorInfo],
    values: Sequence[Array],
    outputs: Mapping[str, Array],
) -> set[str]:
    """The outputs that aren't the same when the file runs again; a new session would draw the same numbers."""
    if next(unseeded(model_of(file.proto, file.path)), None) is None:
        return set()
    again = [_run(session, infos, values) for _ in range(_MORE_RUNS)]
    return {
        name
        for name, value in outputs.items()
        if not all(value.shape == each[name].shape and value.tobytes() == each[name].tobytes() for each in again)
    }


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
        raise error.but(mend=_USUAL_INPUT) from error


def _matched(
    first: Sequence[TensorInfo], second: Sequence[TensorInfo], what: str, before: FileContents, after: FileContents
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

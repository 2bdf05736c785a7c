"""The last step of an export: the file in ONNX Runtime beside the model, at the example's sizes and at others.

That each layer is what it was is known by then. What torch's exporter makes of all else shows here alone: a branch that
it took for good, a size that it wrote down, an operator that it means otherwise.
"""

from __future__ import annotations

import contextlib
import functools
import importlib.util
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import numpy as np
import onnx_ir as ir
import torch

from sn_deploy.capture.inputs import BoundInputs
from sn_deploy.capture.precision import cast_inputs
from sn_deploy.capture.sizes import SizeLimit
from sn_deploy.compare.held_outputs import Held, Outputs, OwnDifferences, hold
from sn_deploy.compare.output_difference import comparable
from sn_deploy.compare.tolerances import TOLERANCES, TWO_EVALUATIONS
from sn_deploy.errors import CheckFailedError, SnDeployError, first_line
from sn_deploy.graph.in_float32 import put_in_float32
from sn_deploy.onnx_export.reference import Reference
from sn_deploy.onnx_export.run_sizes import other_runs
from sn_deploy.onnx_export.telling_inputs import noise_for_constants, with_other_samples
from sn_deploy.onnx_file import read_model
from sn_deploy.runtime.ort import OrtSession
from sn_deploy.runtime.tensors import Array
from sn_deploy.runtime.torch import array_from_tensor
from sn_deploy.text import counted, shape_text

_MADE: Final = "the exported file"
_MODEL: Final = "the model"
_UNSEEN: Final = "--no-run writes it unseen"


@dataclass(frozen=True)
class Proof:
    """How near the file is to the model, both run on the same input, the file in ONNX Runtime.

    Attributes:
        why_not: why they weren't compared; None where they were.
        runs: of each run, input -> its shape, such as ``2×3×224×224``.
        rel_l2: the largest relative L2 difference of an output that is floating point, by what it may be; None where
            none is.
        changed: the largest share of elements that are others, of an output of integers; None where none is.
        tolerance: how much ``rel_l2`` was allowed to be.
        left_out: output -> why it couldn't be compared, or not all of it.
        in_float32: whether the file, which is in half precision, was put into float32 for it, and the model had the
            file's weights.
        not_tried: what the model's code asked of dynamic sizes, such as ``batch <= 1024``, and isn't so of inputs that
            are too large to be run here. The file holds what the code does where it is so.
    """

    why_not: str | None = None
    runs: Sequence[Mapping[str, str]] = ()
    rel_l2: float | None = None
    changed: float | None = None
    tolerance: float | None = None
    left_out: Mapping[str, str] = field(default_factory=dict)
    in_float32: bool = False
    not_tried: Sequence[str] = ()


def prove(
    draft: Path,
    path: Path,
    captured: ir.Model,
    limits: Sequence[SizeLimit],
    reference: Reference,
    inputs: BoundInputs,
    dtype: torch.dtype,
) -> Proof:
    """Runs both.

    Args:
        draft: the file as it is to be; ``path`` is where.
        captured: its graph; limits: what the model's code asked of dynamic sizes.
        inputs: of the example, under the names of the file's inputs.
        dtype: of its weights.

    Raises:
        CheckFailedError: they differ by more than rounding explains.
    """
    if importlib.util.find_spec("onnxruntime") is None:
        return Proof("onnxruntime isn't installed")
    given = cast_inputs(inputs, torch.float32)
    try:
        base, expected = _first_run(reference, given)
    except Exception as error:  # noqa: BLE001 (a model may raise anything)
        return Proof(f"it doesn't run a second time: {type(error).__name__}: {first_line(error)}")
    if not any(comparable(array).any() for array in expected):
        return Proof("the model gives no finite number on the example inputs")
    in_float32 = _is_half(dtype)
    with contextlib.ExitStack() as stack:
        if in_float32:
            folder = tempfile.TemporaryDirectory(prefix=f".{path.stem[:40]}-", dir=path.parent)
            draft = _put_in_float32(draft, Path(stack.enter_context(folder)))
        try:
            session = stack.enter_context(_open(draft))
        except SnDeployError as error:
            return Proof(_cant_run(error))
        pair = _Pair(session, reference, dtype, path)
        try:
            first = pair.compared(base, expected)
        except _NotRunError as error:
            return Proof(_cant_run(error.reason))
        if not first.compared:
            return Proof(next(iter(first.left_out.values())))
        runs, held = [base], [first]
        not_tried = []
        for other in other_runs(captured, base, limits):
            if other.alternatives is None and other.limit is not None:
                not_tried.append(other.limit)
            for one in other.alternatives or ():
                outputs = _outputs(reference, one)
                if outputs is not None and any(comparable(array).any() for array in outputs):
                    held.append(pair.compared_at(one, outputs, other.limit))
                    runs.append(one)
                    break
    of_floats = [(one.rel_l2, one.tolerance) for one in held if one.rel_l2 is not None and one.tolerance is not None]
    rel_l2, tolerance = max(of_floats, key=lambda one: one[0] / one[1], default=(None, None))
    return Proof(
        runs=[_shapes(one) for one in runs],
        rel_l2=rel_l2,
        changed=max((one.changed for one in held if one.changed is not None), default=None),
        tolerance=tolerance,
        left_out={name: why for one in held for name, why in one.left_out.items()},
        in_float32=in_float32,
        not_tried=not_tried,
    )


class _NotRunError(Exception):
    def __init__(self, reason: SnDeployError) -> None:
        super().__init__()
        self.reason = reason


@dataclass(frozen=True)
class _Pair:
    """The file and the model, run on the same inputs."""

    session: OrtSession
    reference: Reference
    dtype: torch.dtype
    path: Path

    def compared(self, inputs: BoundInputs, expected: Sequence[Array]) -> Held:
        """
        Raises:
            CheckFailedError: they differ.
            _NotRunError: the file doesn't run.
        """
        return self._hold(
            inputs, expected, mend=f"nothing was written; please report this with the model's code; {_UNSEEN}"
        )

    def compared_at(self, inputs: BoundInputs, expected: Sequence[Array], limit: str | None) -> Held:
        """At other sizes than the example's; ``limit`` is what the model's code asked, and isn't so of them.

        Raises:
            CheckFailedError: it doesn't, or they differ.
        """
        at = ", ".join(f"{name} {shape}" for name, shape in _shapes(inputs).items())
        mend = (
            "nothing was written; leave the axis out of --dynamic, and export a file for each size that you need, or "
            f"take the condition out of the model's code (if x.shape[0] == 1); {_UNSEEN}"
        )
        if limit is not None:
            mend = f"the file holds what the model's code does where {limit}, and it does something else here; {mend}"
        try:
            return self._hold(inputs, expected, mend=mend, unit_axes=True)
        except _NotRunError as error:
            raise CheckFailedError(
                f"with {at} {_MADE} doesn't run in ONNX Runtime, and {_MODEL} does: {error.reason.what}",
                where=str(self.path),
                mend=mend,
            ) from error.reason
        except CheckFailedError as error:
            raise error.but(what=f"with {at}, {error.what}") from error

    def _hold(self, inputs: BoundInputs, expected: Sequence[Array], *, mend: str, unit_axes: bool = False) -> Held:
        names = [info.name for info in self.session.outputs]
        arrays = {name: array_from_tensor(tensor) for name, tensor in inputs.tensors.items()}
        try:
            actual = self._run_file(arrays)
        except SnDeployError as error:
            raise _NotRunError(error) from error
        if len(expected) != len(names):
            what = f"{_MADE} gives {counted(len(names), 'output')}, and {_MODEL} {len(expected)}"
            raise CheckFailedError(what, where=str(self.path), mend=mend)
        wanted = {name: self._of_files_type(array) for name, array in zip(names, expected, strict=True)}
        if unit_axes:
            actual = {name: _with_unit_axes_of(wanted[name], array) for name, array in actual.items()}

        def run_model(values: Outputs) -> Outputs:
            tensors = iter([torch.from_numpy(values[name]) for name in inputs.names])
            outputs = _outputs(self.reference, inputs.map(lambda _: next(tensors)))
            if outputs is None:
                raise SnDeployError("doesn't run")
            return {name: self._of_files_type(array) for name, array in zip(names, outputs, strict=False)}

        @functools.cache  # each tolerance may ask for it
        def own() -> OwnDifferences:
            return OwnDifferences(run_model, arrays, wanted)

        *narrower, widest = _tolerances(self.dtype)
        for tolerance in narrower:
            with contextlib.suppress(CheckFailedError):
                return hold(wanted, actual, tolerance, own, made=_MADE, of=_MODEL)
        try:
            return hold(wanted, actual, widest, own, made=_MADE, of=_MODEL)
        except CheckFailedError as error:
            raise error.but(where=f"{self.path}, {error.where}", mend=mend) from error

    def _of_files_type(self, array: Array) -> Array:
        """What a model makes in half precision itself is float32 in a file that was put into that."""
        is_half = str(array.dtype) in ("float16", "bfloat16")
        return array.astype(np.float32) if is_half and _is_half(self.dtype) else array

    def _run_file(self, arrays: Mapping[str, Array]) -> dict[str, Array]:
        return self.session.run({info.name: arrays[info.name].astype(info.dtype) for info in self.session.inputs})


def _first_run(reference: Reference, inputs: BoundInputs) -> tuple[BoundInputs, list[Array]]:
    """Noise in the place of constants, and samples that differ; as they are given where the model wants them so."""
    telling = with_other_samples(noise_for_constants(inputs) or inputs)
    outputs = _outputs(reference, telling)
    if outputs is None or not any(comparable(array).any() for array in outputs):
        return inputs, reference.run(inputs)
    return telling, outputs


def _outputs(reference: Reference, inputs: BoundInputs) -> list[Array] | None:
    """None where the model doesn't run on them."""
    try:
        return reference.run(inputs)
    except Exception:  # noqa: BLE001 (a model may raise anything)
        return None


def _put_in_float32(draft: Path, folder: Path) -> Path:
    model = read_model(draft)
    put_in_float32(model)
    written = folder / "float32.onnx"
    ir.save(model, written, external_data=f"{written.name}.data")
    return written


def _open(model: Path) -> OrtSession:
    """By the functions inside the file, as any runtime has it."""
    return OrtSession(model, native=False, spinning=False)


def _is_half(dtype: torch.dtype) -> bool:
    return dtype != torch.float32


def _tolerances(dtype: torch.dtype) -> list[float]:
    """By which outputs are held, the next one where the one before doesn't do.

    Put into float32, a file in half precision has no rounding left but that of constants in the model's code (a factor
    of 0.1), which the model itself has in float32 then.
    """
    types = dict.fromkeys(("float32", str(dtype).removeprefix("torch.")))
    return [TWO_EVALUATIONS * TOLERANCES[name].rel_l2 for name in types]


def _with_unit_axes_of(expected: Array, actual: Array) -> Array:
    """A model that squeezes its result has fewer axes at one sample; the file's axes don't depend on sizes."""
    same = [size for size in expected.shape if size != 1] == [size for size in actual.shape if size != 1]
    return actual.reshape(expected.shape) if same else actual


def _cant_run(error: SnDeployError) -> str:
    return f"it can't be run here: {error.what}"


def _shapes(inputs: BoundInputs) -> dict[str, str]:
    return {name: shape_text(tuple(tensor.shape)) for name, tensor in inputs.tensors.items()}

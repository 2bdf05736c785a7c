"""Whether an optimised file computes what its source does: both run on the same random input."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from sn_deploy.check.data.size import check_size
from sn_deploy.check.parity import compare
from sn_deploy.check.tolerances import MOST_CHANGED, TOLERANCES, TWO_EVALUATIONS
from sn_deploy.errors import CheckFailedError, SnDeployError
from sn_deploy.runtime.ort import OrtSession
from sn_deploy.runtime.tensors import Array, TensorInfo

# Two evaluations in float32, each as far from float64 as such a net may be. Measured, they are 3e-7 apart; a wrong
# channel, block or padding is off by more than a thousandth.
MOST_REL_L2: Final = TWO_EVALUATIONS * TOLERANCES["float32"].rel_l2

# Sizes of dynamic axes, where no input is given: the first axis is the batch's, others an image's extents.
_BATCH: Final = 2
_EXTENT: Final = 64


@dataclass(frozen=True)
class Proof:
    """What was compared.

    Attributes:
        shapes: of the inputs.
        rel_l2: the largest relative L2 difference of an output.
    """

    shapes: Mapping[str, tuple[int, ...]]
    rel_l2: float


def prove(source: Path, candidate: Path, inputs: Mapping[str, Array]) -> Proof:
    """Compares the outputs of two files.

    The source runs by the functions inside it, which share no code with the candidate's native operators.

    Args:
        source: the portable file.
        candidate: the optimised one.
        inputs: by name; those that are missing are drawn at random.

    Raises:
        CheckFailedError: an output differs.
        SnDeployError: one of the files doesn't run on these inputs.
    """
    with _by_functions(source) as session:
        given = _complete(session.inputs, inputs, source)
        try:
            expected = session.run(given)
        except SnDeployError as error:
            raise SnDeployError(
                f"it doesn't run on the input that it was tried with, {_shapes_text(given)}: {error.what}",
                where=str(source),
                mend="give one that it takes: --input NAME=1x3x224x224, or NAME=FILE.npy",
            ) from error
    with OrtSession(candidate) as session:
        if session.instead is not None:  # then nothing would be proved
            raise SnDeployError("doesn't run here, where it was made", where=str(candidate), mend="please report this")
        actual = session.run(given)
    if not any(reference.size for reference in expected.values()):
        raise SnDeployError(
            "no output has an element for the input that the graph was tried with, so nothing can be compared",
            where=str(source),
            mend="give a usual input: --input NAME=FILE.npy",
        )
    worst = 0.0
    for name, reference in expected.items():
        worst = max(worst, _checked(name, reference, actual[name], source))
    return Proof({name: array.shape for name, array in given.items()}, worst)


def _by_functions(source: Path) -> OrtSession:
    try:
        return OrtSession(source, native=False)
    except SnDeployError as error:
        raise SnDeployError(
            f"it doesn't run by the functions inside it, so there is nothing to compare the result with: {error.what}",
            where=str(source),
            expected="a portable file, as `sn-deploy export` writes it",
        ) from error


def _checked(name: str, expected: Array, actual: Array, source: Path) -> float:
    where = f"{source}, output {name}"
    mend = "please report this with the file; the portable file is right"
    if expected.shape != actual.shape or expected.dtype != actual.dtype:
        raise CheckFailedError(
            f"the optimised graph gives {actual.dtype} {actual.shape}, the portable one {expected.dtype} "
            f"{expected.shape}",
            where=where,
            mend=mend,
        )
    if not expected.size:
        return 0.0
    if not np.issubdtype(expected.dtype, np.floating):
        changed = float(np.mean(expected != actual))
        if changed > MOST_CHANGED:
            raise CheckFailedError(
                f"the optimised graph changes {changed:.1%} of it", where=where, expected="none", mend=mend
            )
        return 0.0
    if not np.isfinite(expected).all():
        raise SnDeployError(
            "is not finite on the input that the graph was tried with, so nothing can be compared",
            where=where,
            mend="give a usual input: --input NAME=FILE.npy",
        )
    rel_l2 = float(compare(expected, actual).rel_l2) if np.isfinite(actual).all() else float("nan")
    if not rel_l2 <= MOST_REL_L2:
        raise CheckFailedError(
            f"the optimised graph differs by {rel_l2:.1e} (relative L2)",
            where=where,
            expected=f"at most {MOST_REL_L2:.0e}",
            mend=mend,
        )
    return rel_l2


def _complete(infos: tuple[TensorInfo, ...], inputs: Mapping[str, Array], source: Path) -> dict[str, Array]:
    unknown = sorted(set(inputs) - {info.name for info in infos})
    if unknown:
        raise SnDeployError(
            f"has no input {unknown[0]}", where=str(source), expected=", ".join(info.name for info in infos)
        )
    generator = np.random.default_rng(0)
    sizes: dict[str, int] = {}
    return {info.name: inputs[info.name] if info.name in inputs else _random(info, sizes, generator) for info in infos}


def _random(info: TensorInfo, sizes: dict[str, int], generator: np.random.Generator) -> Array:
    if info.shape is None:
        raise SnDeployError("has no shape in the file", where=info.name, mend="give it: --input NAME=1x3x224x224")
    shape = []
    for axis, size in enumerate(info.shape):
        guess = _BATCH if axis == 0 else _EXTENT
        # A name stands for one size, wherever it is.
        shape.append(size if isinstance(size, int) else guess if size is None else sizes.setdefault(size, guess))
    check_size(shape, info.name)
    if np.issubdtype(info.dtype, np.floating) or not np.issubdtype(info.dtype, np.integer):
        normal: np.ndarray[Any, Any] = generator.standard_normal(shape, dtype=np.float32)
        return normal.astype(info.dtype) if info.dtype != np.bool_ else normal > 0
    return generator.integers(0, 2, shape).astype(info.dtype)


def _shapes_text(inputs: Mapping[str, Array]) -> str:
    return ", ".join(f"{name} {array.shape}" for name, array in inputs.items())

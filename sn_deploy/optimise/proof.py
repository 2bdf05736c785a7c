"""Whether an optimised file computes what its source does: both run on the same random input."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from sn_deploy.check.backends.adapted import cast_input
from sn_deploy.compare import choices
from sn_deploy.compare.extents import Run, run_at_extents
from sn_deploy.compare.output_difference import comparable, difference
from sn_deploy.compare.random_inputs import SMALL_EXTENT, inputs_for
from sn_deploy.compare.tolerances import MOST_CHANGED, TOLERANCES, TWO_EVALUATIONS
from sn_deploy.errors import CheckFailedError, SnDeployError
from sn_deploy.runtime.ort import OrtSession
from sn_deploy.runtime.tensors import Array, TensorInfo
from sn_deploy.text import percent


@dataclass(frozen=True)
class Proof:
    """What was compared.

    Attributes:
        shapes: of the inputs.
        rel_l2: the largest relative L2 difference of an output.
        why_larger: why open axes of random inputs aren't as small as they are at first; None where they are.
    """

    shapes: Mapping[str, tuple[int, ...]]
    rel_l2: float
    why_larger: str | None = None


def prove(source: Path, candidate: Path, inputs: Mapping[str, Array], precision: str = "float32") -> Proof:
    """Compares the outputs of two files.

    The source runs by the functions inside it, which share no code with the candidate's native operators.

    Args:
        source: the portable file.
        candidate: the optimised one.
        inputs: by name; those that are missing are drawn at random.
        precision: the coarsest type that anything in the source is computed in.

    Raises:
        CheckFailedError: an output differs.
        SnDeployError: one of the files doesn't run on these inputs.
    """
    with _by_functions(source) as session:
        _check_names(session.inputs, inputs, source)
        infos = {info.name: info for info in session.inputs}
        inputs = {name: cast_input(value, infos[name], "inputs") for name, value in inputs.items()}
        ran = _run_source(session, inputs, source)
    given, expected = ran.inputs, ran.outputs
    _check_finite(expected, source)
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
    # Two evaluations, each as far from float64 as such a net may be. In float32 they are 3e-7 apart, measured; a wrong
    # channel, block or padding is off by more than a thousandth.
    most_rel_l2 = TWO_EVALUATIONS * TOLERANCES[precision].rel_l2
    worst = 0.0
    for name, reference in expected.items():
        worst = max(worst, _checked(name, reference, actual[name], source, most_rel_l2))
    _check_otherwise(source, candidate, given, most_rel_l2)
    return Proof({name: array.shape for name, array in given.items()}, worst, ran.why_larger)


def _check_otherwise(source: Path, candidate: Path, given: Mapping[str, Array], most_rel_l2: float) -> None:
    """The same for the branches that the input doesn't choose; what the source makes no numbers of is no error."""
    with tempfile.TemporaryDirectory() as folder:
        for one, other in choices.chosen_otherwise(source, candidate, Path(folder)):
            try:
                with _by_functions(one) as session:
                    expected = session.run(given)
                _check_finite(expected, source)
            except SnDeployError:
                continue
            with OrtSession(other) as session:
                actual = session.run(given)
            with choices.telling():
                for name, reference in expected.items():
                    _checked(name, reference, actual[name], source, most_rel_l2)


def _by_functions(source: Path) -> OrtSession:
    try:
        return OrtSession(source, native=False)
    except SnDeployError as error:
        raise SnDeployError(
            f"it doesn't run by the functions inside it, so there is nothing to compare the result with: {error.what}",
            where=str(source),
            expected="a portable file, as `sn-deploy export` writes it",
        ) from error


def _check_finite(expected: Mapping[str, Array], source: Path) -> None:
    """Before the other file is run: an operator may refuse input of which the functions make NaN."""
    for name, array in expected.items():
        if not comparable(array).all():
            raise SnDeployError(
                "is not finite on the input that the graph was tried with, so nothing can be compared",
                where=f"{source}, output {name}",
                mend="give a usual input: --input NAME=1x3x512x512, or NAME=FILE.npy",
            )


def _checked(name: str, expected: Array, actual: Array, source: Path, most_rel_l2: float) -> float:
    """The relative L2 difference; 0 of integers."""
    where = f"{source}, output {name}"
    whose, mend = "the optimised graph", "please report this with the file; the portable file is right"
    try:
        found = difference(expected, actual, whose=whose)
    except CheckFailedError as error:
        raise error.but(where=where, mend=mend) from error
    if found.is_exact:
        what, limit, bar = f"{whose} changes {percent(found.changed)} of it", MOST_CHANGED, percent(MOST_CHANGED)
    else:
        what = f"{whose} differs by {found.rel_l2:.1e} (relative L2)"
        limit, bar = most_rel_l2, f"{most_rel_l2:.0e}"
    if found.size > limit:
        raise CheckFailedError(what, where=where, expected=f"at most {bar}", mend=mend)
    return 0.0 if found.is_exact else found.rel_l2


def _check_names(infos: tuple[TensorInfo, ...], inputs: Mapping[str, Array], source: Path) -> None:
    unknown = sorted(set(inputs) - {info.name for info in infos})
    if unknown:
        raise SnDeployError(
            f"has no input {unknown[0]}", where=str(source), expected=", ".join(info.name for info in infos)
        )


def _run_source(session: OrtSession, inputs: Mapping[str, Array], source: Path) -> Run[dict[str, Array]]:
    infos = session.inputs

    def draw(extent: int) -> dict[str, Array]:
        return inputs_for(infos, inputs, 0, extent)

    try:
        return run_at_extents(draw, session.run, [(info, info) for info in infos], inputs)
    except SnDeployError as error:
        raise SnDeployError(
            f"it doesn't run on the input that it was tried with, {_shapes_text(draw(SMALL_EXTENT))}: {error.what}",
            where=str(source),
            mend="give one that it takes: --input NAME=1x3x224x224, or NAME=FILE.npy",
        ) from error


def _shapes_text(inputs: Mapping[str, Array]) -> str:
    return ", ".join(f"{name} {array.shape}" for name, array in inputs.items())

"""How far a file's outputs are from those of the file that it was made of, on data."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from sn_deploy.check.batch import Batch
from sn_deploy.check.metrics.classification import top1_agreement
from sn_deploy.check.metrics.scores import are_scores, may_be_scores, smallest_cosine
from sn_deploy.compare import choices
from sn_deploy.compare.output_difference import OutputDifference
from sn_deploy.compare.parity import Parity
from sn_deploy.errors import CheckFailedError, SnDeployError
from sn_deploy.runtime.ort import OrtSession
from sn_deploy.runtime.tensors import Array
from sn_deploy.text import percent

# How many times an error of the scores the share of indices may be that it changes, where these are near each other.
TIES: Final = 5.0


@dataclass(frozen=True)
class Proof:
    """What was compared.

    Attributes:
        samples: how many.
        data: what they were, as `Source.describe` says it.
        outputs: output -> its differences, of those that are floating point.
        top1_agreement: output -> share of samples with the same class on top, of scores (samples, classes).
        changed: output -> share of elements that are others, of those that aren't floating point.
        cosine: output -> the smallest cosine of a sample's vector with the source's, of embeddings: unit vectors.
    """

    samples: int
    data: Mapping[str, object]
    outputs: Mapping[str, Parity]
    top1_agreement: Mapping[str, float]
    changed: Mapping[str, float]
    cosine: Mapping[str, float] = field(default_factory=dict)

    @property
    def rel_l2(self) -> float:
        """The largest relative L2 difference of an output."""
        return max((parity.rel_l2 for parity in self.outputs.values()), default=0.0)


def compare_files(
    source: Path,
    candidate: Path,
    batches: Iterable[Batch],
    *,
    title: str,
    data: Mapping[str, object] | None = None,
    on_batch: Callable[[], None] = lambda: None,
) -> Proof:
    """Runs both files in ONNX Runtime on the CPU, by the functions inside them.

    Args:
        batches: with the source's names of inputs; they are cast to the candidate's types.
        title: what errors call the files.

    Raises:
        CheckFailedError: an output has another shape, or another type of integers, or isn't finite where the source's
            is.
        SnDeployError: one of the files doesn't run, or the source's outputs aren't finite, or have no elements.
    """
    differences: dict[str, OutputDifference] = {}
    agreement: dict[str, list[tuple[int, float]]] = {}
    directions: dict[str, list[tuple[int, float]]] = {}
    samples = 0
    with OrtSession(source, native=False) as first, OrtSession(candidate, native=False) as second:
        dtypes = {info.name: info.dtype for info in second.inputs}
        for batch in batches:
            expected = first.run(batch.inputs)
            actual = second.run({name: value.astype(dtypes[name]) for name, value in batch.inputs.items()})
            for name, reference in expected.items():
                difference = differences.setdefault(name, OutputDifference())
                _update(difference, reference, actual[name], batch, f"{title}, output {name}")
                if difference.is_exact:
                    continue
                # A detector's boxes are (K, 4): no scores of K samples.
                if are_scores(reference, batch.samples):
                    share = top1_agreement(reference, actual[name])
                    agreement.setdefault(name, []).append((batch.samples, share))
                elif may_be_scores(reference, batch.samples):
                    directions.setdefault(name, []).append((batch.samples, smallest_cosine(reference, actual[name])))
            samples += batch.samples
            on_batch()
    if not any(difference.elements for difference in differences.values()):
        raise SnDeployError(
            f"no output has an element for any of {samples} samples, so nothing can be compared",
            where=str(source),
            mend="give usual samples with --data",
        )
    shares = {name: sum(n * share for n, share in each) / samples for name, each in _in_all(agreement, samples)}
    cosines = {name: min(cosine for _, cosine in each) for name, each in _in_all(directions, samples)}
    figures = {name: each.floats.parity() for name, each in differences.items() if not each.is_exact}
    changed = {name: each.changed for name, each in differences.items() if each.is_exact}
    return Proof(samples, data or {}, figures, shares, changed, cosines)


def _in_all(
    found: Mapping[str, list[tuple[int, float]]], samples: int
) -> Iterator[tuple[str, list[tuple[int, float]]]]:
    """The outputs that were the same kind of thing in every batch."""
    return ((name, each) for name, each in found.items() if sum(n for n, _ in each) == samples)


def hold_tolerance(proof: Proof, most_rel_l2: float, most_changed: float, *, where: str, mend: str) -> None:
    """Refuses a result that is further off than its precision explains.

    Raises:
        CheckFailedError: an output differs by more than ``most_rel_l2``, or in a larger share than ``most_changed``.
    """
    for name, parity in proof.outputs.items():
        if not parity.rel_l2 <= most_rel_l2:
            raise CheckFailedError(
                f"it differs by {parity.rel_l2:.2e} (relative L2, over {proof.samples} samples)",
                where=f"{where}, output {name}",
                expected=f"at most {most_rel_l2:.2e}",
                mend=mend,
            )
    for name, changed in proof.changed.items():
        if changed > most_changed:
            raise CheckFailedError(
                f"{percent(changed)} of it changed over {proof.samples} samples",
                where=f"{where}, output {name}",
                expected=f"at most {percent(most_changed)}",
                mend=mend,
            )


def hold_otherwise(
    source: Path,
    candidate: Path,
    batches: Iterable[Batch],
    most_rel_l2: float,
    most_changed: float,
    *,
    where: str,
    mend: str,
) -> None:
    """As `hold_tolerance`, with branches that the data doesn't choose. What doesn't run then, or isn't finite, is no
    error; copies of the files are written beside the candidate.

    Raises:
        CheckFailedError: as there, and as `compare_files`.
    """
    for files in choices.chosen_otherwise(source, candidate, candidate.parent):
        try:
            with choices.telling():
                proof = compare_files(*files, batches, title=where)
                hold_tolerance(proof, most_rel_l2, most_changed, where=where, mend=mend)
        except CheckFailedError:
            raise
        except SnDeployError:
            continue


def _update(difference: OutputDifference, expected: Array, actual: Array, batch: Batch, where: str) -> None:
    difference.update(expected, actual, first=batch.first, samples=batch.samples, where=where)
    if difference.not_finite:
        raise SnDeployError(
            "is not finite on this data, so nothing can be compared",
            where=where,
            mend="give usual samples with --data, or a size that the network takes: --input 1x3x512x512",
        )
    if difference.lost:
        raise CheckFailedError(
            "what was made of it is not finite where the source's is: a value left the range of the type",
            where=where,
            mend="use bf16, or find the node with convert-precision --check-range and --keep it in float32",
        )

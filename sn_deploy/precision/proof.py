"""How far a file's outputs are from those of the file that it was made of, on data."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from sn_deploy.check.batch import Batch
from sn_deploy.check.metrics.classification import top1_agreement
from sn_deploy.check.parity import Differences, Parity
from sn_deploy.errors import CheckFailedError, SnDeployError
from sn_deploy.runtime.ort import OrtSession
from sn_deploy.runtime.tensors import Array

# Of outputs that aren't floating point, such as the index of the largest score, near ties may come out the other way.
_MOST_CHANGED: Final = 0.01


@dataclass(frozen=True)
class Proof:
    """What was compared.

    Attributes:
        samples: how many.
        data: what they were, as `Source.describe` says it.
        outputs: output -> its differences, of those that are floating point.
        top1_agreement: output -> share of samples with the same class on top, of outputs (samples, classes).
    """

    samples: int
    data: Mapping[str, object]
    outputs: Mapping[str, Parity]
    top1_agreement: Mapping[str, float]

    @property
    def rel_l2(self) -> float:
        """The largest relative L2 difference of an output."""
        return max((parity.rel_l2 for parity in self.outputs.values()), default=0.0)


def compare_files(
    source: Path,
    candidate: Path,
    batches: Iterable[Batch],
    *,
    data: Mapping[str, object] | None = None,
    on_batch: Callable[[], None] = lambda: None,
) -> Proof:
    """Runs both files in ONNX Runtime on the CPU, by the functions inside them.

    Args:
        batches: with the source's names of inputs; they are cast to the candidate's types.

    Raises:
        CheckFailedError: an output has another shape, isn't finite where the source's is, or is no float and differs.
        SnDeployError: one of the files doesn't run, or the source's outputs aren't finite, or have no elements.
    """
    differences: dict[str, Differences] = {}
    agreement: dict[str, list[tuple[int, float]]] = {}
    samples = compared = 0
    with OrtSession(source, native=False) as first, OrtSession(candidate, native=False) as second:
        dtypes = {info.name: info.dtype for info in second.inputs}
        for batch in batches:
            expected = first.run(batch.inputs)
            actual = second.run({name: value.astype(dtypes[name]) for name, value in batch.inputs.items()})
            for name, reference in expected.items():
                where = f"{candidate.name}, output {name}"
                _check(reference, actual[name], where)
                compared += reference.size
                if np.issubdtype(reference.dtype, np.integer) or reference.dtype == np.bool_:
                    continue
                difference = differences.setdefault(name, Differences())
                difference.update(reference, actual[name], first=batch.first, samples=batch.samples, where=where)
                # A detector's boxes are (K, 4): no scores of K samples.
                if reference.ndim == 2 and reference.shape[1] > 1 and len(reference) == batch.samples:
                    share = top1_agreement(reference, actual[name])
                    agreement.setdefault(name, []).append((batch.samples, share))
            samples += batch.samples
            on_batch()
    if not compared:
        raise SnDeployError(
            f"no output has an element for any of {samples} samples, so nothing can be compared",
            where=str(source),
            mend="give usual samples with --data",
        )
    shares = {
        name: sum(n * share for n, share in each) / samples
        for name, each in agreement.items()
        if sum(n for n, _ in each) == samples
    }
    return Proof(samples, data or {}, {name: each.parity() for name, each in differences.items()}, shares)


def hold_tolerance(proof: Proof, most_rel_l2: float, *, where: str, mend: str) -> None:
    """Refuses a result that is further off than its precision explains.

    Raises:
        CheckFailedError: an output differs by more than ``most_rel_l2``.
    """
    for name, parity in proof.outputs.items():
        if not parity.rel_l2 <= most_rel_l2:
            raise CheckFailedError(
                f"it differs by {parity.rel_l2:.1e} (relative L2, over {proof.samples} samples)",
                where=f"{where}, output {name}",
                expected=f"at most {most_rel_l2:.1e}",
                mend=mend,
            )


def _check(expected: Array, actual: Array, where: str) -> None:
    if expected.shape != actual.shape:
        raise CheckFailedError(f"has shape {actual.shape}", where=where, expected=f"the source's, {expected.shape}")
    if np.issubdtype(expected.dtype, np.integer) or expected.dtype == np.bool_:
        changed = float(np.mean(expected != actual)) if expected.size else 0.0
        if changed > _MOST_CHANGED:
            raise CheckFailedError(f"{changed:.1%} of it changed", where=where, expected="none")
        return
    if not np.isfinite(expected.astype(np.float32)).all():
        raise SnDeployError(
            "the source's own output is not finite on this data, so nothing can be compared",
            where=where,
            mend="give usual samples with --data",
        )
    if not np.isfinite(actual.astype(np.float32)).all():
        raise CheckFailedError(
            "is not finite where the source's is: a value left the range of the type",
            where=where,
            mend="find it with --check-range, and keep its node in float32 with --keep NODE, or use bf16",
        )

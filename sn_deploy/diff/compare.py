"""`diff`: two files, and what is other in the second."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Collection, Mapping
from typing import Any

import numpy as np

from sn_deploy.arguments import real_number, whole_number
from sn_deploy.compare.fit import as_arrays
from sn_deploy.compare.random_inputs import OtherInterfaceError
from sn_deploy.diff.changes import Change, FileDiff, OutputDiff, WeightChange, WeightsDiff
from sn_deploy.diff.contents import FileContents, Weight, bytes_of, read_contents
from sn_deploy.diff.run import Compared, compare_outputs
from sn_deploy.input_file import source_path
from sn_deploy.python_words import naming_arguments


@naming_arguments()
def diff(
    before: str | os.PathLike[str],
    after: str | os.PathLike[str],
    *,
    inputs: Mapping[str, Any] | None = None,
    tolerance: float | None = None,
    seed: int = 0,
    run: bool = True,
) -> FileDiff:
    """Compares two ONNX files, what they hold and what they compute.

    Args:
        before, after: the files.
        inputs: arrays or tensors for some or all inputs, by name; the others are random, dynamic axes being small.
        tolerance: the largest relative L2 difference of an output that passes for the same. By default what computing
            in its type may cost (`sn_deploy.compare.tolerances`); integers must be equal.
        seed: of the random inputs.
        run: run both in ONNX Runtime on the CPU; otherwise only what they hold is compared.

    Raises:
        SnDeployError: a file that can't be read or run, or inputs that it doesn't take.
    """
    values = as_arrays(inputs)
    seed = whole_number(seed, "seed", least=0)
    tolerance = None if tolerance is None else real_number(tolerance, "tolerance")
    paths = source_path(before, "the first file"), source_path(after, "the second file")
    first, second = map(read_contents, paths)
    ops = {op: (first.ops[op], second.ops[op]) for op in sorted(first.ops | second.ops)}
    changed_inputs, changed_outputs = _changes(first.inputs, second.inputs), _changes(first.outputs, second.outputs)
    weights = _weights(first, second)
    changed_ops = {op: counts for op, counts in ops.items() if counts[0] != counts[1]}
    different = _interface(changed_inputs, "input") + _interface(changed_outputs, "output")
    found: Compared | None = None
    if not run:
        different += _graph(changed_ops, _other_attributes(first, second, changed_ops), weights)
    else:
        try:
            found = compare_outputs(first, second, values, tolerance, seed)
            different += [_reason(output) for output in found.outputs if not output.same]
        except OtherInterfaceError as error:
            different.append(str(error))
    return FileDiff(
        properties=_changes(first.properties, second.properties),
        ops=changed_ops,
        inputs=changed_inputs,
        outputs=changed_outputs,
        weights=weights,
        numerics=None if found is None else found.outputs,
        inputs_run={} if found is None else found.inputs,
        why_larger=None if found is None else found.why_larger,
        drawn=() if found is None else found.drawn,
        different=tuple(different),
    )


def _changes(before: Mapping[str, str], after: Mapping[str, str]) -> dict[str, Change]:
    return {
        key: Change(before.get(key), after.get(key))
        for key in dict.fromkeys((*before, *after))
        if before.get(key) != after.get(key)
    }


def _interface(changes: Mapping[str, Change], kind: str) -> list[str]:
    """Names that only one file has, and other types; a shape that is written otherwise is judged by what runs."""
    found = []
    for name, change in changes.items():
        if change.before is None or change.after is None:
            found.append(f"{kind} {name!r} is {'new' if change.before is None else 'gone'}")
            continue
        types = [text.rpartition(" ")[2] for text in (change.before, change.after)]  # behind the shape
        if types[0] != types[1]:
            found.append(f"{kind} {name!r} is {types[0]} in one and {types[1]} in the other")
    return found


def _other_attributes(before: FileContents, after: FileContents, changed_ops: Collection[str]) -> dict[str, int]:
    """Operator -> how many of its nodes have other attributes, of operators that both have as many of."""
    found: Counter[str] = Counter()
    for (op, _), count in (before.attributes - after.attributes).items():
        if op not in changed_ops:
            found[op] += count
    return found


def _graph(changed_ops: Collection[str], other_attributes: Mapping[str, int], weights: WeightsDiff) -> list[str]:
    found = [f"{len(changed_ops)} operators have another number of nodes"] if changed_ops else []
    if other_attributes:
        listed = ", ".join(f"{count} {op}" for op, count in sorted(other_attributes.items()))
        found.append(f"nodes have other attributes: {listed}")
    others = len(weights.changed) + len(weights.removed) + len(weights.added)
    return found + ([f"{others} weights differ"] if others else [])


def _reason(output: OutputDiff) -> str:
    if output.nonfinite:
        strange = f"{output.nonfinite} elements that are NaN or infinite in one and not the same in the other"
        return f"output {output.before!r} has {strange}"
    return f"output {output.before!r} differs by {output.rel_l2:.2e} (relative L2; {output.tolerance:.1e} is allowed)"


def _weights(before: FileContents, after: FileContents) -> WeightsDiff:
    same = 0
    changed: dict[str, WeightChange] = {}
    for name in before.weights:
        if name in after.weights:
            change = _weight_change(before.weights[name], after.weights[name])
            if change is None:
                same += 1
            else:
                changed[name] = change
    removed = {name: weight for name, weight in before.weights.items() if name not in after.weights}
    added = {name: weight for name, weight in after.weights.items() if name not in before.weights}
    renamed = _renamed(removed, added)
    return WeightsDiff(
        same=same,
        renamed=renamed,
        changed=changed,
        removed={name: weight.size for name, weight in removed.items() if name not in renamed},
        added={name: weight.size for name, weight in added.items() if name not in set(renamed.values())},
    )


def _weight_change(before: Weight, after: Weight) -> WeightChange | None:
    old, new = before.values(), after.values()
    what = "values" if before.kind == after.kind else f"{before.kind} → {after.kind}"
    if old.shape != new.shape:
        return WeightChange(what, None, None)
    if before.kind == after.kind and bytes_of(old) == bytes_of(new):
        return None
    if object in (old.dtype, new.dtype):
        return WeightChange(what, None, None)
    wide = np.complex128 if np.iscomplexobj(old) or np.iscomplexobj(new) else np.float64
    old, new = old.astype(wide), new.astype(wide)
    size = float(np.linalg.norm(old))
    gap = float(np.linalg.norm(new - old))
    return WeightChange(what, float(np.abs(new - old).max(initial=0.0)), gap / size if size else float(gap > 0))


def _renamed(removed: Mapping[str, Weight], added: Mapping[str, Weight]) -> dict[str, str]:
    """Pairs of the same content, each weight in one pair. Only kinds that are on both sides are hashed."""
    kinds = {weight.kind for weight in removed.values()} & {weight.kind for weight in added.values()}
    waiting: dict[bytes, list[str]] = {}
    for name, weight in added.items():
        if weight.kind in kinds:
            waiting.setdefault(weight.digest(), []).append(name)
    renamed = {}
    for name, weight in removed.items():
        names = waiting.get(weight.digest()) if weight.kind in kinds else None
        if names:
            renamed[name] = names.pop(0)
    return renamed

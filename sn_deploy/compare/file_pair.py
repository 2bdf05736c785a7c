"""The process in which `fuse` runs its source and what is to be written: `sn_deploy.fuse.whole` asks, this answers.

It imports no more than it takes to run them, as its start is part of every call.
"""

from __future__ import annotations

import contextlib
import json
import math
import re
import signal
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from sn_deploy.child import limit_memory
from sn_deploy.compare.extents import Run, run_at_extents
from sn_deploy.compare.fit import keeps_values
from sn_deploy.compare.held_outputs import OwnDifferences, hold
from sn_deploy.compare.output_difference import comparable
from sn_deploy.compare.random_inputs import has_open_extents, inputs_for
from sn_deploy.errors import CheckFailedError, SnDeployError
from sn_deploy.runtime.ort import GraphOptimization, OrtSession
from sn_deploy.runtime.tensors import Array, TensorInfo
from sn_deploy.text import shape_text, typed_shape

# A few, so that the limit of memory means the same on every machine: each thread has a stack and a heap of its own.
_THREADS: Final = 4

# Extents of an input that may do where the small and the usual ones didn't, and where these took too much memory.
_OTHER_EXTENT: Final = 512
_SMALLER_EXTENT: Final = 32

# What is said where memory ran out within ONNX Runtime.
_NO_MEMORY: Final = ("bad_alloc", "allocate memory", "MemoryError")

_FUSED: Final = "the fused graph"

CANT_RUN: Final = "can't be run"
ANSWER: Final = "answer: "
LONGEST_REASON: Final = 300

Outputs = dict[str, Array]


@dataclass(frozen=True)
class Task:
    """What the other process is asked.

    Attributes:
        source, draft: the files.
        inputs: a file of NumPy's with the values that are given, ``0``, ``1``, …; None where none is.
        names: of the inputs that they are for.
        tolerance: the largest relative L2 difference that needs no explanation.
        most_bytes: of memory.
        most_seconds: on the clock; it ends by itself then, should nobody be left to end it.
    """

    source: str
    draft: str
    inputs: str | None
    names: tuple[str, ...]
    tolerance: float
    most_bytes: int
    most_seconds: float


class _AnswerError(Exception):
    """The answer, where it is clear before the end."""

    def __init__(self, answer: Mapping[str, Any]) -> None:
        super().__init__()
        self.answer = answer


def main(text: str) -> None:
    """The process: a task as JSON, and the answer on the standard output."""
    task = Task(**json.loads(text))
    limit_memory(task.most_bytes)
    with contextlib.suppress(AttributeError):  # not on every system
        signal.alarm(math.ceil(task.most_seconds) + 1)
    try:
        answer = answer_to(task)
    except _AnswerError as known:
        answer = known.answer
    sys.stdout.write(f"\n{ANSWER}{json.dumps(answer)}\n")
    sys.stdout.flush()


def answer_to(task: Task) -> Mapping[str, Any]:
    """``whole``: the fields of a `WholeFile`; ``wrong``: those of an error, the files differ; ``refused``: those of an
    error in what the user gave."""
    source, draft = Path(task.source), Path(task.draft)
    given = _given(task)
    ran = _run_source(source, given, task)
    whole = _compared(source, draft, ran, task)
    others = _other_choices(source, ran, given)
    if others is not None:
        _compared_too(source, draft, others, task)
    return {"whole": whole}


def _other_choices(source: Path, ran: Run[Outputs], given: Mapping[str, Array]) -> Run[Outputs] | None:
    """What the source makes where each truth value that was drawn is the other one: a graph may choose a branch by it.
    None where none was drawn, or where that doesn't run."""
    drawn = [name for name, value in ran.inputs.items() if value.dtype == np.bool_ and name not in given]
    if not drawn:
        return None
    inputs = {name: np.asarray(~value) if name in drawn else value for name, value in ran.inputs.items()}
    with contextlib.suppress(SnDeployError), _open(source) as session:
        return Run(inputs, session.run(inputs))
    return None


def _compared_too(source: Path, draft: Path, ran: Run[Outputs], task: Task) -> None:
    """Raises an answer where the files differ on these inputs, too; that they can't be compared is none."""
    try:
        _compared(source, draft, ran, task)
    except _AnswerError as known:
        if "wrong" in known.answer:
            raise


def _compared(source: Path, draft: Path, ran: Run[Outputs], task: Task) -> dict[str, Any]:
    """The fields of a `WholeFile` for what the source was run on."""
    actual = _run_draft(source, draft, ran.inputs, task)
    try:
        held = hold(
            ran.outputs, actual, task.tolerance, lambda: _own_differences(source, ran), made=_FUSED, of="the source"
        )
    except CheckFailedError as error:
        wrong = {"what": error.what, "where": f"{source}, {error.where}", "expected": error.expected}
        raise _AnswerError({"wrong": wrong}) from error
    if not held.compared:
        raise _not_compared(next(iter(held.left_out.values())))
    return {
        "inputs": {name: shape_text(value.shape) for name, value in ran.inputs.items()},
        **asdict(held),
        "why_larger": None if ran.why_larger is None else _short(ran.why_larger),
    }


def _given(task: Task) -> Outputs:
    if task.inputs is None:
        return {}
    with np.load(task.inputs, allow_pickle=False) as values:
        return {name: values[str(at)] for at, name in enumerate(task.names)}


def _run_source(source: Path, given: Mapping[str, Array], task: Task) -> Run[Outputs]:
    infos: Sequence[TensorInfo] = ()
    try:
        with _open(source) as session:
            infos = session.inputs
            _check_given(infos, given)
            types = {info.name: info.dtype for info in infos}
            values = {name: value.astype(types[name]) for name, value in given.items()}
            ran = run_at_extents(
                lambda extent: inputs_for(infos, values, 0, extent),
                session.run,
                [(info, info) for info in infos],
                values,
            )
    except SnDeployError as error:
        others = _other_inputs(infos, given, _is_of_memory(error))
        raise _not_compared(_why_not_run("the source", error, task), others) from error
    if not any(comparable(array).any() for array in ran.outputs.values()):
        others = _other_inputs(infos, given, False)
        raise _not_compared("none of the source's outputs has a finite number on this input", others)
    return ran


def _other_inputs(infos: Sequence[TensorInfo], given: Mapping[str, Array], is_of_memory: bool) -> list[str]:
    """Values of ``--input`` that may do: other extents where the file leaves them open, else usual values."""
    extent = _SMALLER_EXTENT if is_of_memory else _OTHER_EXTENT
    found = []
    for info in infos:
        if info.name in given:
            continue
        if has_open_extents([(info, info)], {}):
            default = dict.fromkeys(range(1, len(info.shape or ())), extent)
            sizes = [size if isinstance(size, int) else default.get(at, 1) for at, size in enumerate(info.shape or ())]
            found.append(f"{info.name}={typed_shape(sizes)}")
        elif not is_of_memory:
            found.append(f"{info.name}={re.sub(r'[^A-Za-z0-9_.-]', '_', info.name)}.npy")
    return found


def _check_given(infos: Sequence[TensorInfo], given: Mapping[str, Array]) -> None:
    """What the user gives has to fit: that it isn't compared would be no answer."""
    known = {info.name: info for info in infos}
    for name, value in given.items():
        if name not in known:
            refused = {"what": "is no input of the file", "where": f"input {name}", "expected": ", ".join(known)}
        elif not known[name].accepts_shape(value.shape):
            refused = {"what": f"has shape {value.shape}", "where": f"input {name}", "expected": str(known[name])}
        elif not keeps_values(value, known[name].dtype):
            what = f"has numbers of {value.dtype} that {known[name].dtype} doesn't hold"
            refused = {"what": what, "where": f"input {name}", "expected": str(known[name])}
        else:
            continue
        raise _AnswerError({"refused": refused})


def _run_draft(source: Path, draft: Path, inputs: Outputs, task: Task) -> Outputs:
    try:
        with _open(draft) as session:
            return session.run(inputs)
    except SnDeployError as error:
        if _is_of_memory(error):
            raise _not_compared(_why_not_run(_FUSED, error, task)) from error
        what = f"{_FUSED} doesn't run in ONNX Runtime, and the file does: {error.what}"
        raise _AnswerError({"wrong": {"what": what, "where": str(source)}}) from error


def _is_of_memory(error: SnDeployError) -> bool:
    return any(text in error.what for text in _NO_MEMORY)


def _why_not_run(which: str, error: SnDeployError, task: Task) -> str:
    if _is_of_memory(error):
        return f"running {which} takes more than {task.most_bytes / (1 << 30):.1f} GiB"
    return f"{which} {CANT_RUN}: {error.what}"


def _open(model: Path, graph_optimization: GraphOptimization = "all") -> OrtSession:
    """By the functions inside the file, as any runtime has it."""
    return OrtSession(model, native=False, threads=_THREADS, spinning=False, graph_optimization=graph_optimization)


def _own_differences(source: Path, ran: Run[Outputs]) -> OwnDifferences:
    """How far the source's own outputs move: where its inputs do, and where its graph is run as it stands."""

    def as_it_stands(inputs: Mapping[str, Array]) -> Outputs:
        with _open(source, "disabled") as session:
            return session.run(inputs)

    with _open(source) as session:
        return OwnDifferences(session.run, ran.inputs, ran.outputs, as_it_stands)


def _not_compared(reason: str, other_inputs: Sequence[str] = ()) -> _AnswerError:
    return _AnswerError({"whole": {"why_not": _short(reason), "other_inputs": other_inputs}})


def _short(reason: str) -> str:
    return " ".join(reason.split())[:LONGEST_REASON]

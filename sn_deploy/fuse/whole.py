"""The last step of `fuse`: the whole file against its source, both in ONNX Runtime.

Each layer is proved by itself; what the conversion of old opsets, shape arithmetic and whatever else touches the graph
make of the rest shows only here. The files may come from anybody, and so far nothing of them has been run at their own
sizes: both run in another process, in bounded memory and time (docs/decisions/0006-fuse.md).
"""

from __future__ import annotations

import importlib.util
import json
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
import onnx_ir as ir

from sn_deploy import child
from sn_deploy.archive import free_memory
from sn_deploy.check.model_type import coarsest_type
from sn_deploy.check.tolerances import TOLERANCES, TWO_EVALUATIONS
from sn_deploy.errors import CheckFailedError, SnDeployError
from sn_deploy.file_pair import ANSWER, LONGEST_REASON, Task

Array = np.ndarray[Any, np.dtype[Any]]

# Address space of the other process: for activations and ONNX Runtime itself, and some copies of the weights. No more
# than there is memory, besides what a process takes of the one and not of the other.
_MOST_BYTES: Final = 8 << 30
_MOST_COPIES: Final = 8
_MAPPED_BYTES: Final = 1 << 29
_MOST_SECONDS: Final = 120


@dataclass(frozen=True)
class WholeFile:
    """How near the file is to its source, both run in ONNX Runtime on the same input.

    Attributes:
        why_not: why they weren't compared; None where they were.
        inputs: name -> the shape of what they were run on, such as ``2×3×224×224``.
        rel_l2: the largest relative L2 difference of an output that is floating point; None where none is.
        changed: the largest share of elements that are others, of an output of integers; None where none is.
        tolerance: the largest ``rel_l2`` that was allowed: what rounding may cost in the types of the file, or more
            where the source's own outputs move by more with its rounding.
        left_out: output -> why it couldn't be compared, or not all of it.
        why_larger: why open axes of random inputs aren't as small as they are at first; None where they are.
        other_inputs: where they weren't compared on what they were tried with, values of ``--input`` that may do:
            ``x=1x3x512x512``, or ``x=x.npy`` for values of a fixed shape.
    """

    why_not: str | None = None
    inputs: Mapping[str, str] = field(default_factory=dict)
    rel_l2: float | None = None
    changed: float | None = None
    tolerance: float | None = None
    left_out: Mapping[str, str] = field(default_factory=dict)
    why_larger: str | None = None
    other_inputs: Sequence[str] = ()


def compare_whole(source: Path, draft: Path, model: ir.Model, size: int, given: Mapping[str, Array]) -> WholeFile:
    """Runs both, and compares all outputs.

    Args:
        source: the file that was fused.
        draft: what is to be written.
        model: that of the draft.
        size: bytes of the source, its external data included.
        given: values of inputs; what is missing is drawn.

    Raises:
        CheckFailedError: they differ by more than rounding explains.
        SnDeployError: a value is given that the source doesn't take.
    """
    if importlib.util.find_spec("onnxruntime") is None:
        return WholeFile("onnxruntime isn't installed")
    with tempfile.TemporaryDirectory() as folder:
        inputs = Path(folder) / "inputs.npz"
        if given:
            np.savez(inputs, allow_pickle=False, **{str(at): _plain(value) for at, value in enumerate(given.values())})
        tolerance = TWO_EVALUATIONS * TOLERANCES[coarsest_type(model)].rel_l2
        most = min(_MOST_BYTES + _MOST_COPIES * size, free_memory() + _MAPPED_BYTES)
        task = Task(
            str(source), str(draft), str(inputs) if given else None, tuple(given), tolerance, most, _MOST_SECONDS
        )
        answer = _asked(task)
    if answer.get("refused"):
        raise SnDeployError(**answer["refused"])
    if answer.get("wrong"):
        raise CheckFailedError(
            **answer["wrong"],
            mend="nothing was written; please report this with the file. Where it is known to do no harm, write it "
            "unseen with --no-run, and compare the two with: sn-deploy diff",
        )
    return WholeFile(**answer["whole"])


def _asked(task: Task) -> dict[str, Any]:
    """The answer of the other process; of one that gives none, that nothing was compared."""
    try:
        done = child.call("sn_deploy.file_pair:main", json.dumps(asdict(task)), timeout_s=task.most_seconds)
    except subprocess.TimeoutExpired:
        return _not_compared(f"running the files takes more than {_MOST_SECONDS} s")
    except OSError as error:
        return _not_compared(f"no process could be started for it: {error}")
    _, mark, text = done.stdout.decode(errors="replace").rpartition(ANSWER)
    if mark:
        return dict(json.loads(text))
    if done.last_words.startswith("MemoryError"):
        return _not_compared(f"running the files takes more than {task.most_bytes / (1 << 30):.1f} GiB")
    return _not_compared(f"the process that ran them ended with {done.how}: {done.last_words or 'no message'}")


def _not_compared(reason: str) -> dict[str, Any]:
    return {"whole": {"why_not": reason[:LONGEST_REASON]}}


def _plain(value: Array) -> Array:
    """NumPy's files know no bfloat16; the values are cast to the input's type again."""
    return value.astype(np.float32) if value.dtype.kind == "V" else value

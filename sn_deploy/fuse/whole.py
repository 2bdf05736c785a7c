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
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import onnx_ir as ir

from sn_deploy import child
from sn_deploy.compare import choices
from sn_deploy.compare.file_pair import ANSWER, LONGEST_REASON, Task
from sn_deploy.compare.model_type import coarsest_type
from sn_deploy.compare.tolerances import TOLERANCES, TWO_EVALUATIONS
from sn_deploy.errors import CheckFailedError, SnDeployError
from sn_deploy.free_memory import free_memory
from sn_deploy.graph.in_float32 import put_in_float32
from sn_deploy.graph.save import save
from sn_deploy.onnx_file import read_model
from sn_deploy.python_words import in_callers_words
from sn_deploy.runtime.tensors import Array

# Address space of the other process: for activations and ONNX Runtime itself, and some copies of the weights. No more
# than there is memory, besides what a process takes of the one and not of the other.
_MOST_BYTES: Final = 8 << 30
_MOST_COPIES: Final = 8
_MAPPED_BYTES: Final = 1 << 29
_MOST_SECONDS: Final = 120
_HALF: Final = ("float16", "bfloat16")


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
        in_float32: whether the figures are those of both files put into float32, as they are of files in half
            precision: so no rounding to it hides a fault.
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
    in_float32: bool = False
    other_inputs: Sequence[str] = ()


def save_compared(
    model: ir.Model, path: Path, source: Path, size: int, given: Mapping[str, Array] | None, external_data: bool | None
) -> tuple[Path | None, WholeFile]:
    """Writes a file if it computes what its source does; without ``given`` that isn't asked. Gives the path of its
    external data, and how near it is. Arguments, Raises: as `compare_whole` and `sn_deploy.graph.save.save`.
    """
    whole = WholeFile("it wasn't asked for")

    def prove(draft: Path) -> None:
        nonlocal whole
        if given is not None:
            whole = compare_whole(source, draft, model, size, given)

    return save(model, path, external_data=external_data, prove=prove, source=source), whole


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
        precision = coarsest_type(model)
        most = min(_MOST_BYTES + _MOST_COPIES * size, free_memory() + _MAPPED_BYTES)
        task = Task(
            str(source),
            str(draft),
            str(inputs) if given else None,
            tuple(given),
            TWO_EVALUATIONS * TOLERANCES[precision].rel_l2,
            most,
            _MOST_SECONDS,
        )
        answer = _asked(task)
        if precision in _HALF and not answer.get("refused") and not answer.get("wrong"):
            answer = _in_float32(task, Path(folder)) or answer
        if not answer.get("refused") and not answer.get("wrong"):
            answer = _otherwise(task, model, Path(folder)) or answer
    if answer.get("refused"):
        raise SnDeployError(**answer["refused"])
    if answer.get("wrong"):
        raise CheckFailedError(
            **answer["wrong"],
            mend="nothing was written; please report this with the file. Where it is known to do no harm, write it "
            "unseen with --no-run, and compare the two with: sn-deploy diff",
        )
    whole, why_not = answer["whole"], answer["whole"].get("why_not")
    return WholeFile(**{**whole, "why_not": None if why_not is None else in_callers_words(why_not)})


def _in_float32(task: Task, folder: Path) -> dict[str, Any] | None:
    """The answer about both files in float32; None where nothing can be told of them."""
    files = [folder / "source.onnx", folder / "draft.onnx"]
    try:
        for half, path in zip((task.source, task.draft), files, strict=True):
            model = read_model(Path(half))
            put_in_float32(model)
            ir.save(model, path, external_data=f"{path.name}.data")
    except Exception:  # noqa: BLE001 - the files are anybody's, and the first comparison stands
        return None
    tolerance = TWO_EVALUATIONS * TOLERANCES["float32"].rel_l2
    answer = _asked(replace(task, source=str(files[0]), draft=str(files[1]), tolerance=tolerance))
    wrong = answer.get("wrong")
    if wrong:
        # What doesn't run in float32 has an operator of half alone; what differs has an expectation.
        named = {**wrong, "where": wrong["where"].replace(str(files[0]), task.source)}
        named["what"] = f"in float32, {wrong['what']}"
        return {"wrong": named} if "expected" in wrong else None
    whole = answer["whole"]
    return {"whole": {**whole, "in_float32": True}} if whole.get("why_not") is None else None


def _otherwise(task: Task, model: ir.Model, folder: Path) -> dict[str, Any] | None:
    """The answer about both files with their branches chosen the other way, where they differ then; else None."""
    if all(node.op_type != "If" for node in model.graph.all_nodes()):
        return None
    try:
        pairs = choices.chosen_otherwise(Path(task.source), Path(task.draft), folder)
    except Exception:  # noqa: BLE001 - the files are anybody's, and the first comparison stands
        return None
    for files in pairs:
        wrong = _asked(replace(task, source=str(files[0]), draft=str(files[1]))).get("wrong")
        if wrong:
            where = wrong["where"].replace(str(files[0]), task.source)
            return {"wrong": {**wrong, "where": where, "what": choices.told(wrong["what"])}}
    return None


def _asked(task: Task) -> dict[str, Any]:
    """The answer of the other process; of one that gives none, that nothing was compared."""
    try:
        done = child.call("sn_deploy.compare.file_pair:main", json.dumps(asdict(task)), timeout_s=task.most_seconds)
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

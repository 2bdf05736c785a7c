"""Tasks of the onnx library in a process of its own.

onnx is C++ that takes files for what they say. At some that no exporter writes it ends the process, by an assertion or
a memory error, which no caller can catch (docs/reliability.md names those that are known). In a process of its own that
is an answer.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Final

import onnx
import onnx.inliner
from onnx import version_converter

from sn_deploy import child
from sn_deploy.errors import first_line

_DONE, _FAILED = b"done:", b"failed:"

# Address space of the other process: what Python and onnx take, and some copies of the model.
_MOST_BYTES: Final = 4 << 30
_MOST_COPIES: Final = 8


class TaskError(Exception):
    """A task failed; the text is what the library said, one line."""


class EndedError(TaskError):
    """A task ended its process, or wanted more memory than it may have; the text says how."""


def run(task: str, content: bytes, *arguments: str) -> bytes:
    """Runs a task in a process of its own; in this one where none can be started.

    Args:
        task: one of `TASKS`.
        content: a serialized ModelProto.
        arguments: what the task takes besides.

    Returns:
        The serialized ModelProto that it makes; ``b""`` of one that makes none.

    Raises:
        TaskError: it failed, or `EndedError`.
    """
    try:
        done = child.call("sn_deploy.graph.onnx_process:_child", task, *arguments, content=content)
    except OSError:
        return _run_here(task, content, arguments)
    _, mark, answer = done.stdout.partition(_DONE)
    if mark:
        return answer
    _, mark, answer = done.stdout.partition(_FAILED)
    if mark:
        raise TaskError(answer.decode(errors="replace"))
    raise EndedError(_death(done))


def _run_here(task: str, content: bytes, arguments: Sequence[str]) -> bytes:
    try:
        return TASKS[task](content, *arguments)
    except MemoryError:  # of C++, too
        raise
    except Exception as error:  # the library's own, and what its C++ raises
        raise TaskError(first_line(error)) from error


def _infer(content: bytes, *, follow: bool) -> bytes:
    onnx.shape_inference.infer_shapes(content, data_prop=follow)
    return b""


def _convert(content: bytes, opset: str) -> bytes:
    return bytes(version_converter.convert_version(onnx.load_from_string(content), int(opset)).SerializeToString())


def _inline(content: bytes, functions: str) -> bytes:
    names = [(domain, name) for domain, name in json.loads(functions)]
    return bytes(onnx.inliner.inline_selected_functions(onnx.load_from_string(content), names).SerializeToString())


# Name -> what is done with a serialized model: its shapes inferred (without, and with the values of shapes followed),
# its operators brought to another opset, calls of functions replaced by their nodes.
TASKS: Final[Mapping[str, Callable[..., bytes]]] = {
    "infer": partial(_infer, follow=False),
    "follow": partial(_infer, follow=True),
    "convert": _convert,
    "inline": _inline,
}


def _child(task: str, *arguments: str) -> None:
    """The other process: a model on its standard input, the answer on its standard output."""
    content = sys.stdin.buffer.read()
    child.limit_memory(_MOST_BYTES + _MOST_COPIES * len(content))
    try:
        answer = _DONE + _run_here(task, content, arguments)
    except TaskError as error:
        answer = _FAILED + str(error).encode(errors="replace")
    sys.stdout.buffer.write(answer)
    sys.stdout.buffer.flush()


def _death(ended: child.Ended) -> str:
    if ended.last_words.startswith("MemoryError"):
        return "it takes gigabytes"
    # A C++ assertion's message ends with what was asserted; the signature before it is long.
    said = ended.last_words.rpartition("Assertion")[2].strip()[:160]
    return f"{ended.how}: {said or 'no message'}"

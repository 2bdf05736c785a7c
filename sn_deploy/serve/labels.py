"""Names of classes, as Triton's classification extension wants them: a file with a line for each."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path

from sn_deploy.errors import SnDeployError
from sn_deploy.runtime.tensors import TensorInfo
from sn_deploy.serve.interface import Interface


def read_labels(given: Mapping[str, str | os.PathLike[str]], interface: Interface) -> dict[str, list[str]]:
    """Output -> its labels.

    Args:
        given: output ("" for the only one with classes) -> file.

    Raises:
        SnDeployError: no such output, not as many lines as it has classes, or two outputs whose names differ by signs
            that no file's name has.
    """
    found = dict(_labels(output, Path(path), interface) for output, path in given.items())
    by_file: dict[str, str] = {}
    for output in found:
        if (other := by_file.setdefault(labels_file(output), output)) != output:
            raise SnDeployError(
                f"outputs {other!r} and {output!r} would have one file, {labels_file(output)}",
                where="--labels",
                mend="give the labels of one of them",
            )
    return found


def labels_file(output: str) -> str:
    """The name of an output's file, whatever the output is called."""
    return re.sub(r"[^A-Za-z0-9_.-]", "_", output).lstrip(".") + ".labels.txt"


def _labels(output: str, path: Path, interface: Interface) -> tuple[str, list[str]]:
    info = _output(output, interface)
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise SnDeployError(
            f"can't be read: {reason}", where=f"--labels {path}", expected="a text file with a line for each class"
        ) from error
    while lines and not lines[-1].strip():
        lines.pop()
    classes = info.shape[-1] if info.shape else None
    if not lines or (isinstance(classes, int) and len(lines) != classes):
        raise SnDeployError(
            f"has {len(lines)} lines", where=f"--labels {path}", expected=f"one for each class of {info}"
        )
    return info.name, [line.strip() for line in lines]


def _output(name: str, interface: Interface) -> TensorInfo:
    if name:
        found = [info for info in interface.outputs if info.name == name]
    else:
        found = [info for info in interface.outputs if info.shape and len(info.shape) == 2]
    if len(found) != 1:
        raise SnDeployError(
            f"there is no output {name!r}" if name else f"{len(found)} outputs are (N, classes)",
            where="--labels",
            expected=f"OUTPUT=FILE with one of {', '.join(info.name for info in interface.outputs)}",
        )
    return found[0]

"""Which backends the user's files stand for."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from sn_deploy.engine_file import SUFFIXES_TEXT, is_engine_name
from sn_deploy.errors import SnDeployError
from sn_deploy.input_file import begins_as_onnx, read_head, refuse_checkpoint

TORCH: Final = "torch"
TORCH64: Final = "torch64"

# Kinds of files -> how they are run.
KINDS: Final = {
    "ort": "ONNX Runtime on the CPU, by the function body inside the file",
    "ort-native": "the same, by the native operator",
    "ort-rounded": "as ort, a file in half precision with every rounding that a GPU does",
    "ort-cuda": "ONNX Runtime on a GPU, by the function body inside the file",
    "ort-cuda-native": "the same, by the native operator",
    "trt": "TensorRT on a GPU, launched as CUDA graphs",
    "trt-no-graph": "the same, launched layer by layer",
}
_FORM: Final = f"NAME=KIND:FILE, KIND being {', '.join(KINDS)}"


@dataclass(frozen=True)
class FileBackend:
    """A file to be run, how, and what that is called."""

    name: str
    kind: str
    file: Path


def parse_backend(text: str) -> FileBackend:
    """``--backend NAME=KIND:FILE``.

    Raises:
        SnDeployError: it isn't of that form.
    """
    match = re.fullmatch(r"(?P<name>[^=:/\s]+)=(?P<kind>[a-z0-9-]+):(?P<file>.+)", text)
    if match is None:
        raise SnDeployError("can't be read", where=f"--backend {text}", expected=_FORM)
    if match["kind"] not in KINDS:
        raise SnDeployError(f"there is no kind {match['kind']!r}", where=f"--backend {text}", expected=", ".join(KINDS))
    return FileBackend(match["name"], match["kind"], Path(match["file"]))


def is_engine(file: Path) -> bool:
    """Whether the file is a TensorRT engine, by its name; an ONNX file otherwise.

    Raises:
        SnDeployError: it can't be read, or is neither.
    """
    if is_engine_name(file):
        return True
    expected = f"an ONNX file, or an engine: {SUFFIXES_TEXT}"
    head = read_head(file)
    refuse_checkpoint(file, head, expected=expected)
    if not begins_as_onnx(head) and file.suffix.lower() != ".onnx":
        raise SnDeployError("is no file that can be run", where=str(file), expected=expected)
    return False


def backends_from_files(files: Mapping[Path, Sequence[str]]) -> list[FileBackend]:
    """The backends that files stand for when nothing more is said.

    Args:
        files: each with the kinds of backend that run it.
    """
    found = []
    for file, kinds in files.items():
        # The file's name tells several files apart.
        suffix = "-" + re.sub(r"[=:/\s]+", "_", file.stem) if len(files) > 1 else ""
        found += [FileBackend(kind + suffix, kind, file) for kind in kinds]
    return found


def check_names(names: Sequence[str]) -> None:
    """Refuses two backends of one name.

    Raises:
        SnDeployError: there are two.
    """
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise SnDeployError(
            f"there are two backends {twice[0]!r}", mend="name them yourself, with --backend NAME=KIND:FILE"
        )

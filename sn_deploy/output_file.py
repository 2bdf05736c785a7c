"""Names that a file may be written under: a slip must not cost a trained checkpoint, a model or an engine."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from sn_deploy import engine_file
from sn_deploy.atomic import check_writable
from sn_deploy.errors import SnDeployError
from sn_deploy.input_file import begins_as_onnx, check_is_path

_ONNX_SUFFIX: Final = ".onnx"
_MODEL_SUFFIXES: Final = frozenset(
    {_ONNX_SUFFIX, ".ort", ".pth", ".pt", ".ckpt", ".safetensors", *engine_file.SUFFIXES}
)


def check_onnx_output(path: str | os.PathLike[str]) -> None:
    """Refuses, before any work is done, to write an ONNX file where it can't be, or where another file is.

    Raises:
        SnDeployError: it is no path; see also `check_onnx_name` and `sn_deploy.atomic.check_writable`.
    """
    check_is_path(path, "the file to write")
    check_onnx_name(path)
    check_writable(path)


def check_onnx_name(path: str | os.PathLike[str], *, where: str | None = None) -> None:
    """Refuses a name that is not an ONNX file's, and without a suffix one that another file has.

    Args:
        where: as messages name the path.

    Raises:
        SnDeployError: its suffix is another than .onnx, or it has none and is a file that is no ONNX file.
    """
    target = Path(path)
    suffix = target.suffix
    if suffix.lower() == _ONNX_SUFFIX:
        return
    if suffix:
        raise SnDeployError(
            f"has no ONNX file's name: it ends in {suffix!r}",
            where=where or str(target),
            expected="a name that ends in .onnx",
        )
    if target.is_file() and not _is_empty_or_onnx(target):
        raise SnDeployError(
            "is a file, and no ONNX file: it would be overwritten", where=where or str(target), mend="name another file"
        )


def check_text_name(path: str | os.PathLike[str], *, where: str | None = None) -> None:
    """Refuses to write text, JSON or HTML, under a name that a model has.

    Raises:
        SnDeployError: it is a checkpoint's, an ONNX file's or an engine's.
    """
    suffix = Path(path).suffix.lower()
    if suffix in _MODEL_SUFFIXES:
        raise SnDeployError(f"has a model's name: it ends in {suffix!r}", where=where or str(path), mend="name another")


def _is_empty_or_onnx(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            head = file.read(16)
    except OSError:  # what can't be read may be anything
        return False
    return not head or begins_as_onnx(head)

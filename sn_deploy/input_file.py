"""The first look at a file that a user names: is it there, and is it what its name says."""

from __future__ import annotations

import os
import re
import shlex
import sys
from pathlib import Path
from typing import Final

from sn_deploy.errors import SnDeployError

COPY_AGAIN: Final = "copy or download it again"

# First bytes of files that are often met under a model's name -> (what they are, how to mend it).
_IMPOSTORS: Final = (
    (b"version https://git-lfs", "is a git-lfs pointer, not the file itself", "fetch its content with: git lfs pull"),
    (b"\x1f\x8b", "is compressed with gzip", "unpack it with gunzip, or tar xzf"),
    (b"\x89HDF", "is an HDF5 file, such as Keras writes", "convert it to PyTorch or ONNX first"),
)
_LONGEST_HEADER: Final = 100_000_000  # that safetensors itself takes
_WEB_PAGE: Final = re.compile(rb"\s*(<!doctype html|<html|<\?xml)", re.IGNORECASE)


def check_is_path(path: object, where: str, *, mend: str | None = None) -> None:
    """Refuses what is no path: a model or a tensor in a wrong place.

    Args:
        where: what it is given as.
        mend: what to do with what is given instead.

    Raises:
        SnDeployError: with what was given.
    """
    if not isinstance(path, (str, os.PathLike)) or not isinstance(os.fspath(path), str):
        raise SnDeployError(
            f"is a {type(path).__name__}", where=where, expected="a path: a str or a pathlib.Path", mend=mend
        )
    if "\0" in os.fspath(path):
        raise SnDeployError(f"is {os.fspath(path)!r}, and no path has a null byte", where=where)


def source_path(given: object, where: str = "the model") -> Path:
    """The path of a file that is to be read.

    Args:
        where: what it is given as.

    Raises:
        SnDeployError: it is no path, with how to make a file of a model that is in memory.
    """
    check_is_path(given, where, mend=_mend_from_kind(given))
    return Path(given)  # type: ignore[arg-type]


def _mend_from_kind(given: object) -> str | None:
    # By what they can do: whoever has such an object has its library, and this module needs none.
    if hasattr(given, "state_dict"):
        return "make an ONNX file of it: sn_deploy.export(model, example_inputs, 'model.onnx')"
    if isinstance(getattr(given, "path", None), os.PathLike):
        return "give the path in it: report.path"
    if hasattr(given, "SerializeToString"):
        return "save it, and give the file: onnx.save(model, 'model.onnx')"
    if hasattr(given, "opset_imports"):
        return "save it, and give the file: onnx_ir.save(model, 'model.onnx')"
    if isinstance(given, (bytes, bytearray, memoryview)):
        return "write them to a file, and give that: pathlib.Path('model.onnx').write_bytes(data)"
    return None


def utf8_path(path: str | os.PathLike[str]) -> str:
    """A path as libraries in C++ and Rust take it, which know nothing of the locale that Python reads names in.

    Raises:
        SnDeployError: its bytes are no UTF-8.
    """
    try:
        return os.fsencode(path).decode("utf-8")
    except UnicodeError:
        raise SnDeployError(
            f"its path is no UTF-8, as the libraries that open it want it (this locale: {sys.getfilesystemencoding()})",
            where=str(path),
            mend="rename it, or set PYTHONUTF8=1 if it is UTF-8",
        ) from None


def begins_as_onnx(head: bytes) -> bool:
    """Whether a file's first bytes may be an ONNX file's: its IR version, protobuf's field 1, stands first."""
    return head[:1] == b"\x08" and head[4:8] != b"ORTM" and not begins_as_checkpoint(head)


def begins_as_checkpoint(head: bytes) -> bool:
    """Whether a file's first bytes are a checkpoint's: torch.save's, old or new, or safetensors'."""
    archive = head.startswith(b"PK\x03\x04") and b"/data.pkl" in head
    pickled = head[:1] == b"\x80" and head[1:2] in (b"\x02", b"\x03", b"\x04", b"\x05")
    # The length of a header in JSON, then the header.
    safetensors = head[8:10] == b'{"' and int.from_bytes(head[:8], "little") < _LONGEST_HEADER
    return archive or pickled or safetensors


def refuse_checkpoint(path: Path, head: bytes, *, expected: str) -> None:
    """Refuses a PyTorch checkpoint where a model is to be read: weights alone can't be run.

    Args:
        head: what `read_head` gave.
        expected: what would have been taken.

    Raises:
        SnDeployError: it is one; the mend is the command that takes it.
    """
    if begins_as_checkpoint(head):
        raise SnDeployError(
            "is a PyTorch checkpoint",
            where=str(path),
            expected=expected,
            mend="make an ONNX file of it with: sn-deploy export --model PACKAGE.MODULE:CALLABLE --checkpoint "
            f"{shlex.quote(str(path))} --input SHAPE -o FILE.onnx",
        )


def read_head(path: Path) -> bytes:
    """The first 512 bytes of a file that can be read and is no known impostor.

    Raises:
        SnDeployError: the file is missing, a folder, unreadable, empty, a web page, a git-lfs pointer, compressed.
    """
    if path.is_dir():
        raise SnDeployError("is a folder", where=str(path), mend="name the file in it")
    try:
        with path.open("rb") as file:
            head = file.read(512)
    except FileNotFoundError:
        raise SnDeployError("there is no such file", where=str(path), mend="check the path") from None
    except OSError as error:
        raise SnDeployError(f"can't be read: {error.strerror}", where=str(path)) from error
    if not head:
        raise SnDeployError("the file is empty", where=str(path), mend=COPY_AGAIN)
    for magic, what, mend in _IMPOSTORS:
        if head.startswith(magic):
            raise SnDeployError(what, where=str(path), mend=mend)
    if _WEB_PAGE.match(head):
        raise SnDeployError(
            "is a web page, not a model",
            where=str(path),
            mend="download it again, from the link to the file and not to its page",
        )
    return head

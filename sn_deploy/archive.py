"""Zip archives from anybody (.npz, .pth): how much they claim to hold, before any of it is unpacked."""

from __future__ import annotations

import tokenize
import zipfile
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from sn_deploy.errors import SnDeployError
from sn_deploy.free_memory import free_memory
from sn_deploy.input_file import COPY_AGAIN

_GIB: Final = 1 << 30
_NUMPYS: Final = frozenset({zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED})

# What NumPy, and what unpacks for it, stumble over in a damaged .npy or .npz. SystemError: text of numbers that are no
# characters.
DAMAGED_ARRAYS: Final = (
    OSError, ValueError, EOFError, LookupError, TypeError, ArithmeticError, RuntimeError, SyntaxError, MemoryError,
    SystemError, zipfile.BadZipFile, zlib.error, tokenize.TokenError,
)  # fmt: skip


def check_unpacked_size(path: Path, *, where: str) -> None:
    """Refuses an archive that unpacks to more than the memory that is free. What it claims, no reader exceeds.

    Raises:
        SnDeployError: it claims more, its directory can't be read, or it is packed as NumPy packs none: each way to
            unpack has errors of its own, and not every Python has all.
    """
    inside = entries(path, where=where)
    other = next((entry for entry in inside if entry.compress_type not in _NUMPYS), None)
    if other is not None:
        raise SnDeployError(
            f"has the record {other.filename!r:.60}, packed by method {other.compress_type} of zip",
            where=where,
            expected="a file that numpy.savez or numpy.savez_compressed wrote",
            mend="if you trust it, unpack it and pack it again with: zip",
        )
    claimed, free = sum(entry.file_size for entry in inside), free_memory()
    if claimed > free:
        raise SnDeployError(
            f"unpacks to {claimed / _GIB:.1f} GiB, {claimed / max(path.stat().st_size, 1):.0f} times its size",
            where=where,
            expected=f"at most the {free / _GIB:.1f} GiB of memory that are free",
            mend="give .npy files, which are read as they are needed, or parts of the data",
        )


def check_stored(path: Path, *, where: str) -> None:
    """Refuses an archive whose entries are compressed or overlap: what torch.save writes takes no more than the file.

    Raises:
        SnDeployError: it isn't plain, or its directory can't be read.
    """
    inside = entries(path, where=where)
    packed = [entry.filename for entry in inside if entry.file_size != entry.compress_size or entry.compress_type]
    if packed:
        raise SnDeployError(
            f"has compressed records ({packed[0]!r:.60}), which no torch.save writes",
            where=where,
            mend="if you trust it, unpack it and pack it again with: zip -0",
        )
    if sum(entry.file_size for entry in inside) > path.stat().st_size:
        raise SnDeployError("has records that overlap, which no torch.save writes", where=where, mend=COPY_AGAIN)


def entries(path: Path, *, where: str) -> list[zipfile.ZipInfo]:
    """The archive's directory.

    Raises:
        SnDeployError: it can't be read.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.infolist()
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
        raise SnDeployError("is cut off or damaged", where=where, mend=COPY_AGAIN) from error


def names(found: Iterable[zipfile.ZipInfo]) -> set[str]:
    """Names of entries without the folder that all of an archive of torch's lie in."""
    return {entry.filename.partition("/")[2] for entry in found}

"""Copies libraries with CUDA code, without the code for other GPUs than one: where little can be carried.

    python tools/trim_cuda.py --architecture 90 FOLDER LIBRARY …

The code of other architectures is overwritten with zeros, so nothing moves and no library has to be linked anew;
compressed, zeros take nothing. TensorRT 10.6, whose builder has the code for all GPUs, goes from 1.09 GB to 0.34 GB so,
and builds engines on an H200. PTX stays where a kernel has no code for the GPU itself.

Exit code 2: a file can't be read or written, or holds no CUDA code. Needs the standard library alone.
"""

from __future__ import annotations

import argparse
import mmap
import shutil
import struct
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

# A fat binary: a header, then entries, each for one architecture. As in the files that nvcc's fatbinary writes.
MAGIC = b"\x50\xed\x55\xba"
HEADER = struct.Struct("<IHHQ")  # magic, version, bytes of this header, bytes of all entries
ENTRY = struct.Struct("<HHIQ")  # kind, version, bytes of the entry's header, bytes of its code
ARCHITECTURE_AT = 28  # in an entry's header
PTX, MACHINE_CODE = 1, 2


@dataclass(frozen=True)
class Code:
    """One architecture's code in a fat binary: where it lies, and how long it is."""

    kind: int
    architecture: int
    start: int
    size: int


def fat_binaries(data: mmap.mmap | bytes) -> Iterator[list[Code]]:
    """The entries of each fat binary; what only looks like one is passed over."""
    at = data.find(MAGIC)
    while at >= 0:
        found = _entries(data, at)
        if found is not None:
            codes, end = found
            yield codes
            at = data.find(MAGIC, end)
        else:
            at = data.find(MAGIC, at + len(MAGIC))


def _entries(data: mmap.mmap | bytes, at: int) -> tuple[list[Code], int] | None:
    if at + HEADER.size > len(data):
        return None
    _, version, header, size = HEADER.unpack_from(data, at)
    start, end = at + header, at + header + size
    if (version, header) != (1, HEADER.size) or end > len(data):
        return None
    codes = []
    while start < end:
        if start + ARCHITECTURE_AT + 4 > end:
            return None
        kind, _, own, length = ENTRY.unpack_from(data, start)
        if not 32 <= own <= 4096 or start + own + length > end:
            return None
        (architecture,) = struct.unpack_from("<I", data, start + ARCHITECTURE_AT)
        codes.append(Code(kind, architecture, start + own, length))
        start += own + length
    return codes, end


def unneeded(codes: Sequence[Code], architecture: int) -> list[Code]:
    """What a GPU of this architecture doesn't take."""
    own = [code for code in codes if (code.kind, code.architecture) == (MACHINE_CODE, architecture)]
    return [code for code in codes if code not in own and (own or code.kind != PTX)]


def trim(library: Path, architecture: int) -> tuple[int, int]:
    """In place; the bytes of code that are left, and that were overwritten."""
    left = gone = 0
    with library.open("r+b") as file, mmap.mmap(file.fileno(), 0) as data:
        for codes in fat_binaries(data):
            for code in codes:
                left += code.size
            for code in unneeded(codes, architecture):
                data[code.start : code.start + code.size] = bytes(code.size)
                left -= code.size
                gone += code.size
    return left, gone


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="for the copies")
    parser.add_argument("libraries", type=Path, nargs="+", metavar="LIBRARY")
    parser.add_argument("--architecture", type=int, required=True, metavar="XY", help="90 for an H100 or H200")
    options = parser.parse_args(arguments)
    for library in options.libraries:
        copy = options.folder / library.name
        draft = copy.with_name(f"{copy.name}.partial")
        try:
            options.folder.mkdir(parents=True, exist_ok=True)
            if copy.exists() and copy.samefile(library):
                raise ValueError("the copy would take its place: name another folder")
            shutil.copyfile(library, draft)
            left, gone = trim(draft, options.architecture)
            if not left:
                raise ValueError(f"no CUDA code for {options.architecture} is in it")
            draft.replace(copy)
        except (OSError, ValueError) as error:
            draft.unlink(missing_ok=True)
            print(f"error: {library}: {error}", file=sys.stderr)
            return 2
        print(f"{copy}: {left / 1e6:.1f} MB of code for {options.architecture} left, {gone / 1e6:.1f} MB zeroed")
    return 0


if __name__ == "__main__":
    sys.exit(main())

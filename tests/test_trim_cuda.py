"""tools/trim_cuda.py, on files made here; and on a library that nvcc made, where one was built."""

from __future__ import annotations

import os
import struct
from pathlib import Path

import pytest

from tools.trim_cuda import HEADER, MACHINE_CODE, MAGIC, PTX, fat_binaries, main

CODE = b"\xabcode\xcd" * 8


def entry(kind: int, architecture: int) -> bytes:
    head = struct.pack("<HHIQ", kind, 257, 64, len(CODE)) + bytes(12) + struct.pack("<I", architecture)
    return head.ljust(64, b"\x01") + CODE


def fat_binary(*entries: bytes) -> bytes:
    body = b"".join(entries)
    return HEADER.pack(int.from_bytes(MAGIC, "little"), 1, HEADER.size, len(body)) + body


LIBRARY = (
    b"\x7fELF before "
    + fat_binary(entry(MACHINE_CODE, 80), entry(PTX, 86), entry(MACHINE_CODE, 90))
    + b" a magic number alone: "
    + MAGIC
    + b" between "
    + fat_binary(entry(PTX, 80), entry(MACHINE_CODE, 75))
    + b" behind"
)


def test_what_another_gpu_takes_is_zeroed_and_nothing_moves(tmp_path: Path) -> None:
    source = tmp_path / "lib.so"
    source.write_bytes(LIBRARY)
    assert main(["--architecture", "90", str(tmp_path / "small"), str(source)]) == 0
    trimmed = (tmp_path / "small/lib.so").read_bytes()
    assert source.read_bytes() == LIBRARY
    assert len(trimmed) == len(LIBRARY)
    kept = {
        (code.kind, code.architecture): trimmed[code.start : code.start + code.size]
        for codes in fat_binaries(trimmed)
        for code in codes
    }
    # The second kernel has no code for it, so its PTX stays.
    assert {key for key, code in kept.items() if code == CODE} == {(MACHINE_CODE, 90), (PTX, 80)}
    assert {code for code in kept.values() if code != CODE} == {bytes(len(CODE))}
    spared = bytearray(LIBRARY)
    for codes in fat_binaries(LIBRARY):
        for code in codes:
            if (code.kind, code.architecture) not in ((MACHINE_CODE, 90), (PTX, 80)):
                spared[code.start : code.start + code.size] = bytes(code.size)
    assert trimmed == bytes(spared)


@pytest.mark.parametrize(
    ("content", "reason"), [(b"no code", "no CUDA code"), (b"", "empty"), (None, "No such file")], ids=str
)
def test_bad_libraries_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], content: bytes | None, reason: str
) -> None:
    source = tmp_path / "lib.so"
    if content is not None:
        source.write_bytes(content)
    assert main(["--architecture", "90", str(tmp_path / "small"), str(source)]) == 2
    assert reason in capsys.readouterr().err
    assert not list((tmp_path / "small").iterdir())


def test_a_library_is_not_written_over(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = tmp_path / "lib.so"
    source.write_bytes(LIBRARY)
    assert main(["--architecture", "90", str(tmp_path), str(source)]) == 2
    assert "another folder" in capsys.readouterr().err
    assert source.read_bytes() == LIBRARY


def test_a_real_library(tmp_path: Path) -> None:
    library = Path(os.environ.get("TENSORRT_TEST_ROOT", "")) / "10/lib/libnvinfer_plugin.so.10"
    if not library.is_file():
        pytest.skip("no real library: set TENSORRT_TEST_ROOT (make test-tensorrt)")
    assert main(["--architecture", "90", str(tmp_path), str(library)]) == 0
    trimmed = (tmp_path / library.name).read_bytes()
    found = {}
    for codes in fat_binaries(trimmed):
        for code in codes:
            found[code.architecture] = found.get(code.architecture, False) or any(
                trimmed[code.start : code.start + code.size]
            )
    assert found[90]
    assert not found[100]

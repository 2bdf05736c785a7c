"""The guides' C++ compiles, against the headers of each major version."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.documents.markdown import read_document
from tests.tensorrt.conftest import Release

GUIDES = Path(__file__).parent.parent.parent / "docs" / "guides"
# What the user has already.
GIVEN = "void user(nvinfer1::ILogger& logger, float* images, float* logits, cudaStream_t stream) {\n"


@pytest.mark.parametrize("major", ["10", "11"])
@pytest.mark.parametrize("guide", ["tensorrt.md", "tensorrt-plugin.md"])
def test_cpp_compiles(releases: dict[str, Release], guide: str, major: str, tmp_path: Path) -> None:
    blocks = [code.text for code in read_document(GUIDES / guide).code if code.language == "cpp"]
    assert len(blocks) == 1
    lines = [line for line in blocks[0].splitlines() if line != "…"]
    includes = [line for line in lines if line.startswith("#include")]
    body = [line for line in lines if not line.startswith("#include")]
    standard = ["#include <stdexcept>"]  # of a snippet that shows TensorRT's alone
    (tmp_path / "user.cpp").write_text("\n".join([*includes, *standard, GIVEN, *body, "}"]))
    folders = [releases[major].root / major / "include", releases[major].cuda / "include"]
    done = subprocess.run(
        ["c++", "-std=c++17", "-fsyntax-only", *(f"-isystem{folder}" for folder in folders), tmp_path / "user.cpp"],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr

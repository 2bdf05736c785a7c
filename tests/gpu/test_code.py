"""What nvcc makes of the kernels, where no GPU is needed to see that it is wrong."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
# Accesses of single bytes; the kernels have none of their own.
BYTES = re.compile(r"\b(?:ld|st)(?:\.[a-z]+)*\.[usb]8\b")


def test_no_element_is_read_or_written_by_the_byte(tmp_path: Path) -> None:
    """ptxas of CUDA 13.0 takes the first byte of a rounded half for its value (decision 16)."""
    cuda = Path(os.environ.get("TENSORRT_TEST_ROOT", "")) / "cuda/nvidia/cu13"
    nvcc = cuda / "bin/nvcc"
    if not nvcc.is_file():
        pytest.skip("nvcc was not found: set TENSORRT_TEST_ROOT (make test-tensorrt)")
    assert BYTES.search("ld.global.nc.u8 %r1, [%rd4];")
    output = tmp_path / "kernels.ptx"
    own = ["-std=c++17", "-arch=sm_90", f"-I{ROOT / 'plugins'}", f"-isystem={cuda / 'include'}"]
    source = ROOT / "plugins/cuda/kernels/float16.cu"
    subprocess.run([nvcc, *own, "-ptx", source, "-o", output], check=True, timeout=300)
    code = output.read_text()
    assert "st.global.v4" in code
    assert not BYTES.findall(code)

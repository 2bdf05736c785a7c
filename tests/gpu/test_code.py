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


@pytest.fixture(scope="module")
def code(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The kernels of float16 as PTX."""
    cuda = Path(os.environ.get("TENSORRT_TEST_ROOT", "")) / "cuda/nvidia/cu13"
    nvcc = cuda / "bin/nvcc"
    if not nvcc.is_file():
        pytest.skip("nvcc was not found: set TENSORRT_TEST_ROOT (make test-tensorrt)")
    output = tmp_path_factory.mktemp("code") / "kernels.ptx"
    own = ["-std=c++17", "-arch=sm_90", f"-I{ROOT / 'plugins'}", f"-isystem={cuda / 'include'}"]
    source = ROOT / "plugins/cuda/kernels/float16.cu"
    subprocess.run([nvcc, *own, "-ptx", source, "-o", output], check=True, timeout=300)
    return output.read_text()


def test_no_element_is_read_or_written_by_the_byte(code: str) -> None:
    """ptxas of CUDA 13.0 takes the first byte of a rounded half for its value (decision 16)."""
    assert BYTES.search("ld.global.nc.u8 %r1, [%rd4];")
    assert "st.global.v4" in code
    assert not BYTES.findall(code)


def test_kernels_order_what_they_tell_each_other(code: str) -> None:
    """The host, on which the kernels are tested, has caches that are coherent, and begins no launch early."""
    bodies = dict(re.findall(r"\.entry (\w+)\(.*?\n\{\n(.*?)\n\}\n", code, re.DOTALL))
    queues = {name: body for name, body in bodies.items() if "queue_kernel" in name}
    assert len(queues) == 6  # three epilogues, two layouts
    for body in queues.values():
        assert "red.release.gpu.global.add.u32" in body  # of an item, and of a merge
        assert "ld.acquire.gpu.global.u32" in body
        assert not re.search(r"\bred\.(?!release)", body)
        assert "ld.global.cg.f32" in body  # moments of other blocks
        assert not re.search(r"ld\.global\.nc", body)
        assert "trap;" in body  # a wait in vain ends
    for name, body in bodies.items():
        before, *behind = body.split("griddepcontrol.wait;")
        assert len(behind) == 1, name
        assert not re.search(r"\b(?:ld|st|atom|red)\.[a-z.]*global|cp\.async", before), name

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


def ptx_of(source: Path, folder: Path) -> str:
    """What nvcc makes of a file."""
    cuda = Path(os.environ.get("TENSORRT_TEST_ROOT", "")) / "cuda/nvidia/cu13"
    nvcc = cuda / "bin/nvcc"
    if not nvcc.is_file():
        pytest.skip("nvcc was not found: set TENSORRT_TEST_ROOT (make test-tensorrt)")
    output = folder / "kernels.ptx"
    included = [f"-I{ROOT / 'plugins'}", f"-I{ROOT / 'plugins' / 'include'}", f"-isystem={cuda / 'include'}"]
    own = ["-std=c++17", "-arch=sm_90", *included]
    subprocess.run([nvcc, *own, "-ptx", source, "-o", output], check=True, timeout=300)
    return output.read_text()


def bodies_of(code: str) -> dict[str, str]:
    """Name of each kernel -> its instructions."""
    return dict(re.findall(r"\.entry (\w+)\(.*?\n\{\n(.*?)\n\}\n", code, re.DOTALL))


def check_waits(bodies: dict[str, str]) -> None:
    """No kernel touches memory before what is in front of it in the stream has ended."""
    for name, body in bodies.items():
        before, *behind = body.split("griddepcontrol.wait;")
        assert len(behind) == 1, name
        assert not re.search(r"\b(?:ld|st|atom|red)\.[a-z.]*global|cp\.async", before), name


@pytest.fixture(scope="module")
def code(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The kernels of float16 as PTX."""
    return ptx_of(ROOT / "plugins/cuda/kernels/float16.cu", tmp_path_factory.mktemp("code"))


def test_no_element_is_read_or_written_by_the_byte(code: str) -> None:
    """ptxas of CUDA 13.0 takes the first byte of a rounded half for its value (decision 16)."""
    assert BYTES.search("ld.global.nc.u8 %r1, [%rd4];")
    assert "st.global.v4" in code
    assert not BYTES.findall(code)


def test_kernels_order_what_they_tell_each_other(code: str) -> None:
    """The host, on which the kernels are tested, has caches that are coherent, and begins no launch early."""
    bodies = bodies_of(code)
    queues = {name: body for name, body in bodies.items() if "queue_kernel" in name}
    assert len(queues) == 6  # three epilogues, two layouts
    for body in queues.values():
        assert "red.release.gpu.global.add.u32" in body  # of an item, and of a merge
        assert "ld.acquire.gpu.global.u32" in body
        assert not re.search(r"\bred\.(?!release)", body)
        assert "ld.global.cg.f32" in body  # moments of other blocks
        assert not re.search(r"ld\.global\.nc", body)
        assert "trap;" in body  # a wait in vain ends
    check_waits(bodies)


def test_the_trial_of_a_convolution_multiplies_by_tensor_cores(tmp_path: Path) -> None:
    bodies = bodies_of(ptx_of(ROOT / "plugins/cuda/convolution/float16.cu", tmp_path))
    assert len(bodies) == 40  # two epilogues, four depths, five tiles
    check_waits(bodies)
    for body in bodies.values():
        assert "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32" in body
        assert "cp.async.wait_all" in body
        assert "st.global.v4" in body
        assert not re.search(r"\b(?:ld|st)\.v[24]", body)  # of any memory: which one is only found out at each access

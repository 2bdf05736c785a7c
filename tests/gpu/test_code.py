"""What nvcc makes of the kernels, where no GPU is needed to see that it is wrong."""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path

import pytest

from tests.gpu.device import built

ROOT = Path(__file__).resolve().parents[2]
GUIDE = "docs/guides/tensorrt-plugin.md"
# Accesses of single bytes; the kernels have none of their own.
BYTES = re.compile(r"\b(?:ld|st)(?:\.[a-z]+)*\.[usb]8\b")


def ptx_of(source: Path, folder: Path, *settings: str) -> str:
    """What nvcc makes of a file."""
    cuda = Path(os.environ.get("TENSORRT_TEST_ROOT", "")) / "cuda/nvidia/cu13"
    nvcc = cuda / "bin/nvcc"
    if not nvcc.is_file():
        pytest.skip("nvcc was not found: set TENSORRT_TEST_ROOT (make test-tensorrt)")
    output = folder / "kernels.ptx"
    included = [f"-I{ROOT / 'plugins'}", f"-I{ROOT / 'plugins' / 'include'}", f"-isystem={cuda / 'include'}"]
    own = ["-std=c++17", "-arch=sm_90", *settings, *included]
    subprocess.run([nvcc, *own, "-ptx", source, "-o", output], check=True, timeout=300)
    return output.read_text()


# Inside of a kernel a brace ends its line in our own assembler, too.
KERNEL = re.compile(r"\.entry (\w+)\(.*?\n\{\n(.*?)\n\}\n(?!\t// end inline asm)", re.DOTALL)


def bodies_of(code: str) -> dict[str, str]:
    """Name of each kernel -> its instructions, all of them."""
    bodies = dict(KERNEL.findall(code))
    assert all(body.count("{") == body.count("}") and re.search(r"\bret;\s*$", body) for body in bodies.values())
    return bodies


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
        assert not re.search(r"(?<!\.)\bred\.(?!release)", body)  # but of a block's barrier
        assert "ld.global.cg.f32" in body  # moments of other blocks
        assert not re.search(r"ld\.global\.nc", body)
        assert "trap;" in body  # a wait in vain ends
    check_waits(bodies)


def cluster_barriers_of(body: str) -> str:
    """The barriers of clusters and the fences in front of them, in order: f, a for an arrival, and w for a wait."""
    found = re.findall(r"(fence\.release\.sync_restrict|barrier\.cluster\.\w+)", body)
    return "".join(name.rpartition(".")[2][0] if "barrier" in name else "f" for name in found)


# What is told is there behind a fence, arrival and wait; what was read may be overwritten behind an arrival and wait.
TELLS, READ = "faw", "aw"


def test_the_blocks_of_a_cluster_meet(code: str) -> None:
    """Twice for slices that are read where they lie, which may be cut either way. On the host no fence is missed."""
    fused = {name: body for name, body in bodies_of(code).items() if "fused_kernel" in name}
    assert len(fused) == 30  # three epilogues, two layouts; three forms, two of them of single elements, too
    for name, body in fused.items():
        is_read = "4FormE0E" in name
        assert cluster_barriers_of(body) == TELLS * (2 if is_read else 1) + READ, name


def test_gpus_that_get_the_ptx_of_another_are_asked_for_nothing_more() -> None:
    """8.6 and 8.9 run what is compiled for 8.0 (architectures.cmake)."""
    asked = {
        int(number)
        for path in (ROOT / "plugins").rglob("*.*h")
        for number in re.findall(r"__CUDA_ARCH__\s*[<>=!]+\s*(\d+)", path.read_text())
    }
    assert {800, 900} <= asked
    assert not {number for number in asked if 800 < number <= 890}


def test_the_kernels_are_compiled_for_the_gpus_of_the_guide() -> None:
    commands, cache = built("compile_commands.json"), built("CMakeCache.txt")
    if commands is None or cache is None:
        pytest.skip("the plugin was not built: set SN_PLUGIN_BUILD")
    if re.search(r"^CMAKE_CUDA_ARCHITECTURES:\w+=.", cache.read_text(), re.MULTILINE):
        pytest.skip("SN_PLUGIN_BUILD was built for GPUs that were named")
    sentence = re.search(
        r"machine code for compute capabilities\s+([\d.,\s]+) and (\d+\.\d)", (ROOT / GUIDE).read_text()
    )
    assert sentence
    told = {number.replace(".", "") for number in re.findall(r"\d+\.\d", sentence.group())}
    kernels = [one["command"] for one in json.loads(commands.read_text()) if "cuda/kernels/" in one["file"]]
    assert len(kernels) == 3
    for command in kernels:
        assert set(re.findall(r"\bsm_(\d+)", command)) == told
        assert re.findall(r"code=\[[^]]*compute_(\d+)", command) == ["120"]  # for what comes after


MEETING = """
#include "cuda/kernels/device_team.h"
__global__ void meeting() {
  sn_deploy::cuda::DeviceTeam team;
  team.cluster_arrive();
  team.cluster_wait();
}
"""


def test_an_older_ptxas_gets_no_fence_that_it_does_not_know(tmp_path: Path) -> None:
    """Of CUDA 12.4, say, which CMake takes where the GPUs are named: the barrier's own release takes longer."""
    source = tmp_path / "meeting.cu"
    source.write_text(MEETING)
    (usual,) = bodies_of(ptx_of(source, tmp_path)).values()
    assert cluster_barriers_of(usual) == TELLS
    (older,) = bodies_of(ptx_of(source, tmp_path, "-DSN_HAS_SHARED_FENCE=0")).values()
    assert cluster_barriers_of(older) == "aw"
    assert "barrier.cluster.arrive.release.aligned;" in older


def test_the_trial_of_a_convolution_multiplies_by_tensor_cores(tmp_path: Path) -> None:
    bodies = bodies_of(ptx_of(ROOT / "plugins/cuda/convolution/float16.cu", tmp_path))
    assert len(bodies) == 40  # two epilogues, four depths, five tiles
    check_waits(bodies)
    for body in bodies.values():
        assert cluster_barriers_of(body) == TELLS * 2 + READ  # of positions, of channels
        assert "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32" in body
        assert "cp.async.wait_all" in body
        assert "st.global.v4" in body
        assert not re.search(r"\b(?:ld|st)\.v[24]", body)  # of any memory: which one is only found out at each access

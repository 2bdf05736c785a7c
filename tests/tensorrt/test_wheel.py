"""What pip builds, with TensorRT and without it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.tensorrt.conftest import Release

ROOT = Path(__file__).parent.parent.parent
ORT = "libsn_deploy_ort.so"
ALL = {ORT, *(f"libsn_deploy_{name}.so" for name in ("ort_cuda", "cuda", "trt10", "trt11"))}
# Whether nvcc takes the kernels for every GPU, and what it makes of them, is not asked here: the least of one will do.
QUICK_CUDA = {"CMAKE_CUDA_ARCHITECTURES": "90-virtual", "CMAKE_CUDA_FLAGS_RELEASE": "--Ofast-compile=max -DNDEBUG"}
HIDDEN = ("TENSORRT_ROOT", "CUDA_HOME", "CUDA_PATH", "CUDACXX")


def built(folder: Path, **settings: str) -> dict[str, Path]:
    """The libraries of a wheel that is built with these settings, by name."""
    options = [f"-Ccmake.define.{name}={value}" for name, value in {**QUICK_CUDA, **settings}.items()]
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(folder), str(ROOT)]
    done = subprocess.run(
        [*command, f"-Cbuild-dir={folder / 'build'}", *options],
        env={name: value for name, value in os.environ.items() if name not in HIDDEN},
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    (wheel,) = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder / "wheel")
        names = [name for name in archive.namelist() if ".so" in name]
    assert {str(Path(name).parent) for name in names} == {"sn_deploy/plugins"}
    return {Path(name).name: folder / "wheel" / name for name in names}


@pytest.mark.usefixtures("releases")
def test_without_a_compiler_the_wheel_has_the_cpu_library_alone(tmp_path: Path) -> None:
    if shutil.which("nvcc") or Path("/usr/local/cuda").exists():
        pytest.skip("CUDA is installed on this machine")
    assert set(built(tmp_path)) == {ORT}


@pytest.fixture(scope="module")
def wheel(releases: dict[str, Release], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The libraries of a wheel with everything."""
    settings = {
        "SN_WITH_TENSORRT": "ON",
        "SN_CUDA_ROOT": str(releases["10"].cuda),
        "TENSORRT_ROOT": ";".join(str(releases[name].root / name) for name in ("10", "11")),
    }
    return built(tmp_path_factory.mktemp("wheel"), **settings)


def test_with_tensorrt_the_wheel_has_all_libraries(wheel: dict[str, Path]) -> None:
    assert set(wheel) == ALL
    for file in wheel.values():
        sections = subprocess.run(["readelf", "--section-headers", file], capture_output=True, text=True, check=True)
        assert ".symtab" not in sections.stdout, f"{file.name} is not stripped"
        needed = subprocess.run(["readelf", "--dynamic", file], capture_output=True, text=True, check=True).stdout
        assert "libcudart" not in needed
        assert "libnvinfer" not in needed
        assert "RUNPATH" not in needed


def test_the_plugin_of_the_wheel_is_taken(release: Release, wheel: dict[str, Path]) -> None:
    plugin = wheel[f"libsn_deploy_trt{release.major}.so"]
    answer = release.probe(["load"], ["names"], plugin=plugin)
    assert answer["answers"] == [True, ["SwitchNorm", "SwitchNormRelu", "SwitchNormAddRelu"]]

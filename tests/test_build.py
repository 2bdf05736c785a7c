"""Which parts CMake builds, and what it says of those that it can't: plugins/parts.cmake, configured and not compiled.

Compilers are stood in for by scripts that print a version; tests/tensorrt builds with the real ones.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

PLUGINS = Path(__file__).parent.parent / "plugins"
TOOLS = ("cmake", "ninja", "c++", "git", "sh", "touch")
# Looked at whatever the PATH is.
SYSTEM = (
    "/usr/local/cuda",
    "/opt/cuda",
    "/usr/bin/nvcc",
    "/usr/local/bin/nvcc",
    "/usr/include/NvInferRuntime.h",
    f"/usr/include/{os.uname().machine}-linux-gnu/NvInferRuntime.h",
)

pytestmark = [
    pytest.mark.skipif(any(shutil.which(tool) is None for tool in TOOLS), reason=f"needs {', '.join(TOOLS)}"),
    pytest.mark.skipif(any(map(os.path.exists, SYSTEM)), reason="CMake would find the system's CUDA or TensorRT"),
]


@dataclass(frozen=True)
class Answer:
    """What CMake said, on one line, and whether it went on."""

    fine: bool
    said: str


@dataclass(frozen=True)
class Project:
    """A build folder, and an environment whose PATH has no nvcc but one that a test makes."""

    folder: Path

    def configure(self, *, environment: dict[str, str] | None = None, **settings: str) -> Answer:
        """Runs CMake. ONNX Runtime's parts are left out: they have nothing to do with it."""
        flags = [
            f"-D{name}={value}" for name, value in {"SN_WITH_ORT": "OFF", "SN_WITH_TESTS": "OFF", **settings}.items()
        ]
        hidden = ("CUDACXX", "CUDA_HOME", "CUDA_PATH", "CUDAARCHS", "CUDAHOSTCXX", "CUDAFLAGS", "TENSORRT_ROOT")
        kept = {name: value for name, value in os.environ.items() if name not in hidden}
        done = subprocess.run(
            ["cmake", "-S", str(PLUGINS), "-B", str(self.folder / "build"), "-G", "Ninja", *flags],
            env={**kept, "PATH": str(self.folder / "bin"), **(environment or {})},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        return Answer(done.returncode == 0, " ".join((done.stdout + done.stderr).split()))

    def toolkit(self, version: str = "13.0.88", *, compiles: bool = True) -> str:
        """A CUDA toolkit's folder whose nvcc is of a version, and takes the host compiler or not."""
        nvcc = self.folder / "cuda" / "bin" / "nvcc"
        nvcc.parent.mkdir(parents=True)
        result = "exit 0" if compiles else "echo 'unsupported GNU version!'; exit 1"
        nvcc.write_text(f"#!/bin/sh\ncase $1 in --version) echo 'release x, V{version}';; *) {result};; esac\n")
        nvcc.chmod(0o755)
        return str(nvcc.parent.parent)

    def headers(self, major: int, name: str = "tensorrt", include: str = "include", minor: int = 3) -> str:
        """A TensorRT's folder, as far as CMake reads it."""
        folder = self.folder / name / include
        folder.mkdir(parents=True)
        (folder / "NvInferRuntime.h").touch()
        version = f"#define TRT_MAJOR_ENTERPRISE {major}\n#define TRT_MINOR_ENTERPRISE {minor} // minor\n"
        (folder / "NvInferVersion.h").write_text(version + "#define NV_TENSORRT_MAJOR TRT_MAJOR_ENTERPRISE\n")
        return str(self.folder / name)


@pytest.fixture
def project(tmp_path: Path) -> Project:
    """With the tools that CMake needs, and no others, on the PATH."""
    (tmp_path / "bin").mkdir()
    for tool in (*TOOLS, "ld", "ar", "ranlib", "nm", "as"):
        found = shutil.which(tool)
        if found is not None:
            (tmp_path / "bin" / tool).symlink_to(found)
    return Project(tmp_path)


# --- AUTO -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("system", ["Darwin", "Windows"])
def test_elsewhere_than_on_linux_nothing_is_built_and_that_is_said(project: Project, system: str) -> None:
    answer = project.configure(SN_WITH_ORT="ON", SN_WITH_TESTS="ON", CMAKE_SYSTEM_NAME=system)
    assert answer.fine
    assert f"The native libraries are for Linux: on {system} none is built" in answer.said
    for step in (["--build", "build"], ["--install", "build", "--prefix", "installed"]):  # as pip goes on
        subprocess.run(["cmake", *step], cwd=project.folder, check=True, capture_output=True)
    assert not (project.folder / "installed").exists()


def test_without_a_cpp_compiler_the_setting_is_named_with_which_it_needs_none(project: Project) -> None:
    none = {"CXX": "/nowhere/c++"}
    refused(project.configure(environment=none, SN_WITH_ORT="ON"), "SN_WITH_ORT is on, but no C++17 compiler was found")
    answer = project.configure(environment=none)
    assert answer.fine
    assert "no native library is built" in answer.said


def test_without_a_compiler_the_parts_are_left_out(project: Project) -> None:
    answer = project.configure()
    assert answer.fine, answer.said
    assert "SN_WITH_TENSORRT: left out, since nvcc, CUDA's compiler, was not found" in answer.said


@pytest.mark.parametrize(
    ("version", "compiles", "reason"),
    [("12.4.131", True, "is of CUDA 12.4"), ("13.0.88", False, "unsupported GNU version!")],
)
def test_a_compiler_that_is_of_no_use_is_passed_over(
    project: Project, version: str, compiles: bool, reason: str
) -> None:
    toolkit = project.toolkit(version, compiles=compiles)
    answer = project.configure(environment={"CUDA_HOME": toolkit, "TENSORRT_ROOT": project.headers(10)})
    assert answer.fine, answer.said
    assert "SN_WITH_TENSORRT: left out, since" in answer.said
    assert reason in answer.said


def test_a_compiler_without_headers_builds_no_plugin_and_downloads_nothing(project: Project) -> None:
    settings = {"SN_FETCH_TENSORRT": "ON", "SN_FETCH_TENSORRT_URL": str(project.folder / "nowhere.git")}
    answer = project.configure(environment={"CUDA_HOME": project.toolkit()}, **settings)
    assert answer.fine, answer.said
    assert "SN_WITH_TENSORRT: left out, since TensorRT's headers were not found" in answer.said
    assert "CUDA kernels" not in answer.said  # alone, nobody waits for them


def test_a_folder_of_the_environment_that_has_no_headers_is_passed_over(project: Project) -> None:
    environment = {"CUDA_HOME": project.toolkit(), "TENSORRT_ROOT": "/nowhere"}
    answer = project.configure(environment=environment)
    assert answer.fine, answer.said
    assert "left out, since TENSORRT_ROOT names /nowhere" in answer.said
    assert not project.configure(environment=environment, SN_WITH_TENSORRT="ON").fine


@pytest.mark.parametrize("part", ["SN_WITH_TENSORRT", "SN_WITH_CUDA"])
def test_off_is_silent(project: Project, part: str) -> None:
    environment = {"CUDA_HOME": project.toolkit(), "TENSORRT_ROOT": project.headers(10)}
    answer = project.configure(environment=environment, **{part: "OFF"})
    assert answer.fine, answer.said
    assert "nvcc" not in answer.said


# --- ON -------------------------------------------------------------------------------------------------------------


def refused(answer: Answer, *parts: str) -> None:
    """CMake stopped, and said all of it."""
    assert not answer.fine
    for part in parts:
        assert part in answer.said, answer.said


def test_a_missing_compiler_is_named_and_how_to_give_it(project: Project) -> None:
    answer = project.configure(SN_WITH_TENSORRT="ON")
    refused(answer, "SN_WITH_TENSORRT is on, but nvcc", "SN_CUDA_ROOT", "pip as -C cmake.define.NAME=VALUE")


def test_missing_headers_are_named_and_how_to_give_them(project: Project) -> None:
    answer = project.configure(SN_WITH_TENSORRT="ON", SN_CUDA_ROOT=project.toolkit())
    refused(answer, "TensorRT's headers were not found", "TENSORRT_ROOT", "SN_FETCH_TENSORRT=ON")


def test_an_old_compiler_is_named_with_the_oldest_that_does(project: Project) -> None:
    answer = project.configure(SN_WITH_TENSORRT="ON", SN_CUDA_ROOT=project.toolkit("12.4.131"))
    refused(answer, "is of CUDA 12.4, and knows all of the GPUs from 12.8 on", "CMAKE_CUDA_ARCHITECTURES")


def test_what_the_compiler_says_is_quoted(project: Project) -> None:
    answer = project.configure(SN_WITH_CUDA="ON", SN_CUDA_ROOT=project.toolkit(compiles=False))
    refused(answer, "unsupported GNU version!", "CUDAHOSTCXX")


def test_headers_that_cant_be_downloaded_are_named(project: Project) -> None:
    url = str(project.folder / "nowhere.git")
    settings = {"SN_FETCH_TENSORRT": "ON", "SN_FETCH_TENSORRT_URL": url}
    answer = project.configure(SN_WITH_TENSORRT="ON", SN_CUDA_ROOT=project.toolkit(), **settings)
    refused(answer, "v10.15 of", "nowhere.git", "can't be downloaded", "TENSORRT_ROOT", "SN_FETCH_TENSORRT_URL")


def test_parts_that_exclude_each_other_are_named(project: Project) -> None:
    refused(project.configure(SN_WITH_TENSORRT="ON", SN_WITH_CUDA="OFF"), "is on, but SN_WITH_CUDA is off")


def test_a_setting_that_means_nothing_is_refused(project: Project) -> None:
    refused(project.configure(SN_WITH_TENSORRT="perhaps"), "expected ON, OFF or AUTO")


# --- A path that is named asks for its part -------------------------------------------------------------------------


def test_a_cuda_folder_without_a_compiler_is_refused(project: Project) -> None:
    refused(project.configure(SN_CUDA_ROOT="/nowhere"), "SN_CUDA_ROOT names /nowhere, which has no bin/nvcc")


@pytest.mark.parametrize("include", ["include", "include/x86_64-linux-gnu"])
def test_a_tensorrt_folder_may_be_laid_out_in_several_ways(project: Project, include: str) -> None:
    if "x86_64" in include and os.uname().machine != "x86_64":
        pytest.skip("Debian's folder of another machine")
    root = project.headers(9, include=include)
    answer = project.configure(SN_CUDA_ROOT=project.toolkit(), TENSORRT_ROOT=root)
    refused(answer, "holds the headers of TensorRT '9.3'; 10.3 to 11 are supported")


@pytest.mark.parametrize(("major", "minor"), [(10, 2), (12, 0)])
def test_a_tensorrt_too_old_or_too_new_is_refused(project: Project, major: int, minor: int) -> None:
    root = project.headers(major, minor=minor)
    answer = project.configure(SN_CUDA_ROOT=project.toolkit(), TENSORRT_ROOT=root)
    refused(answer, f"TensorRT '{major}.{minor}'; 10.3 to 11 are supported")


def test_a_tensorrt_folder_without_headers_is_refused(project: Project) -> None:
    roots = f"{project.headers(10)};/nowhere"
    answer = project.configure(SN_CUDA_ROOT=project.toolkit(), TENSORRT_ROOT=roots)
    refused(answer, "TENSORRT_ROOT names /nowhere, which has no include/NvInferRuntime.h")


def test_two_folders_of_one_major_version_are_refused(project: Project) -> None:
    roots = f"{project.headers(10)};{project.headers(10, 'again')}"
    answer = project.configure(SN_CUDA_ROOT=project.toolkit(), TENSORRT_ROOT=roots)
    refused(answer, "two folders hold the headers of TensorRT 10")

"""The CMake package of a build with everything: the CUDA kernels in a C program, and where the plugins are."""

from __future__ import annotations

import subprocess
from pathlib import Path

from tests.tensorrt.conftest import Release

# Asks what needs no GPU: the kernels' workspace for 8 x 64 x 56 x 56, and what is wrong with an empty extent.
PROGRAM = """
#include <sn_deploy/cuda.h>
#include <stdio.h>

int main(void) {
  SnCudaProblem problem = {8, 64, 3136, 0, 1, 1, 0, 0, 0, 0.5F, 0.25F, 0.5F, 0.25F};
  int64_t bytes = 0;
  if (sn_cuda_workspace_bytes(&problem, &bytes) != 0 || bytes <= 0) return 1;
  problem.spatial = 0;
  printf("%s", sn_cuda_reason(sn_cuda_workspace_bytes(&problem, &bytes)));
  return 0;
}
"""
PROJECT = """
cmake_minimum_required(VERSION 3.16)
project(user LANGUAGES C)
find_package(sn_deploy REQUIRED COMPONENTS ort ort_cuda cuda trt10 trt11)
add_executable(user main.c)
set_target_properties(user PROPERTIES C_STANDARD 99 C_EXTENSIONS OFF)
target_compile_options(user PRIVATE -Wall -Wextra -Wpedantic -Wstrict-prototypes -Werror)
target_link_libraries(user PRIVATE sn_deploy::cuda)
file(GENERATE OUTPUT plugins.txt CONTENT "$<TARGET_FILE:sn_deploy::trt10> $<TARGET_FILE:sn_deploy::trt11>")
"""


def said(*command: str | Path) -> str:
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_a_c_program_takes_the_kernels_and_finds_the_plugins(releases: dict[str, Release], tmp_path: Path) -> None:
    said("cmake", "--install", releases["10"].build, "--prefix", tmp_path / "installed")
    (config,) = (tmp_path / "installed").rglob("sn_deployConfig.cmake")
    (tmp_path / "main.c").write_text(PROGRAM)
    (tmp_path / "CMakeLists.txt").write_text(PROJECT)
    said("cmake", "-S", tmp_path, "-B", tmp_path / "build", "-G", "Ninja", f"-Dsn_deploy_DIR={config.parent}")
    said("cmake", "--build", tmp_path / "build")
    assert "empty spatial extent" in said(tmp_path / "build" / "user")
    plugins = [Path(name) for name in (tmp_path / "build" / "plugins.txt").read_text().split()]
    assert [plugin.name for plugin in plugins] == ["libsn_deploy_trt10.so", "libsn_deploy_trt11.so"]
    assert all(plugin.is_file() for plugin in plugins)

"""The driver asked through ctypes: a stand-in for libcuda.so.1 with two GPUs, in C, in a process of its own."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
DRIVER = r"""
#include <stddef.h>
#include <stdio.h>
#include <string.h>
static long contexts[2];
static _Thread_local void* stack[8];
static _Thread_local int depth;
int cuInit(unsigned flags) { return flags != 0; }
int cuDeviceGetCount(int* count) { *count = 2; return 0; }
int cuDeviceGet(int* device, int ordinal) { *device = ordinal + 100; return ordinal < 0 || ordinal > 1 ? 101 : 0; }
int cuDeviceGetName(char* name, int size, int device) { snprintf(name, size, "GPU %d", device - 100); return 0; }
int cuDeviceTotalMem_v2(size_t* bytes, int device) { *bytes = (size_t)(device - 99) << 40; return 0; }
int cuDeviceGetAttribute(int* value, int which, int device) { *value = which == 75 ? 8 + (device - 100) : 0; return 0; }
int cuDriverGetVersion(int* version) { *version = 13010; return 0; }
int cuGetErrorString(int status, const char** text) { *text = status == 2 ? "out of memory" : "unknown"; return 0; }
int cuDevicePrimaryCtxRetain(void** context, int device) {
  if (device == 101 && FAILS) return 2;
  ++contexts[device - 100];
  *context = (char*)contexts + 0x100000000 * (device - 99);  // does not fit into an int
  return 0;
}
int cuCtxPushCurrent_v2(void* context) { stack[depth++] = context; return 0; }
int cuCtxPopCurrent_v2(void** context) { *context = stack[--depth]; return 0; }
int current(void) { return depth ? (int)((size_t)((char*)stack[depth - 1] - (char*)contexts) >> 32) - 1 : -1; }
long retained(int device) { return contexts[device]; }
"""
ASKS = """
import ctypes, json
from sn_deploy.errors import SnDeployError
from sn_deploy.runtime.gpu import find_gpu, on_gpu

driver = ctypes.CDLL("libcuda.so.1")
seen = {"gpus": [str(find_gpu(index)) for index in (0, 1)], "wrong": [find_gpu(2), find_gpu(-1)], "current": []}
try:
    for index in (1, 0, 1):
        with on_gpu(index):
            seen["current"].append(driver.current())
            with on_gpu(0):
                seen["current"].append(driver.current())
            seen["current"].append(driver.current())
    try:
        with on_gpu(1):
            1 / 0
    except ZeroDivisionError:
        pass
except SnDeployError as error:
    seen["error"] = str(error)
seen["after"] = driver.current()
seen["retained"] = [driver.retained(0), driver.retained(1)]
print(json.dumps(seen))
"""


def asked(folder: Path, fails: int) -> dict[str, Any]:
    """What a process with that driver sees."""
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("there is no C compiler")
    source, library = folder / "driver.c", folder / "libcuda.so.1"
    source.write_text(DRIVER)
    subprocess.run([compiler, "-shared", "-fPIC", f"-DFAILS={fails}", str(source), "-o", str(library)], check=True)
    environment = {**os.environ, "LD_LIBRARY_PATH": str(folder), "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", ASKS], env=environment, capture_output=True, text=True, check=True)
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def test_each_gpu_is_described_and_made_current(tmp_path: Path) -> None:
    seen = asked(tmp_path, fails=0)
    assert seen["gpus"] == ["GPU 0 (compute capability 8.0)", "GPU 1 (compute capability 9.0)"]
    assert seen["wrong"] == [
        f"there are 2 GPUs, and number {index} was asked for (they count from 0)" for index in (2, -1)
    ]
    assert seen["current"] == [1, 0, 1, 0, 0, 0, 1, 0, 1]
    assert seen["after"] == -1  # what was current before, also behind an error
    assert seen["retained"] == [1, 1]  # once, however often it is used


def test_a_gpu_that_cannot_be_used_is_an_error(tmp_path: Path) -> None:
    seen = asked(tmp_path, fails=1)
    assert seen["error"] == "CUDA: GPU 1 can't be used: out of memory"
    assert (seen["current"], seen["after"]) == ([], -1)

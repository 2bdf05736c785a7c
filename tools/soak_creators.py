"""The TensorRT plugin in the real registry, made and destroyed many times: memory stays flat.

    TENSORRT_TEST_ROOT=… python -m tools.soak_creators BUILD 1000

BUILD is a CMake build folder of ``plugins/`` with the plugins of both major versions.

For each version, in a process of its own: so many times the library is loaded into the registry, all three
plugins are made by their creators and destroyed, and the library is taken out. Resident memory, after the first third
of the cycles, may grow by 1 %. Exit code 0: it didn't. 1: it did, or a plugin wasn't made. 2: nothing to try.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from tests.tensorrt.conftest import RELEASES, Release

_CYCLES = """
import json, sys
import numpy as np
import tensorrt as trt
from tools.soak_inferences import Memory, SoakError

library, count = sys.argv[1], int(sys.argv[2])
trt.init_libnvinfer_plugins(trt.Logger(trt.Logger.ERROR), "")
registry = trt.get_plugin_registry()
values = [np.array([v], np.float32) for v in (0.5, 0.25, 0.125, 0.75)] + [np.array([1], np.int32)]
names = ["mean_in", "mean_ln", "var_in", "var_ln", "ddof"]
kinds = [trt.PluginFieldType.FLOAT32] * 4 + [trt.PluginFieldType.INT32]
memory, made = Memory(), 0
for i in range(count):
    handle = registry.load_library(library)
    assert handle is not None, "not loaded"
    for name in ("SwitchNorm", "SwitchNormRelu", "SwitchNormAddRelu"):
        fields = trt.PluginFieldCollection([trt.PluginField(*field) for field in zip(names, values, kinds)])
        plugin = registry.get_creator(name, "1", "").create_plugin("layer", fields, trt.TensorRTPhase.BUILD)
        assert plugin is not None, f"{name} was not made"
        made += 1
        del plugin
    registry.deregister_library(handle)
    if (i + 1) % max(1, count // 40) == 0:
        memory.look((i + 1) / count)
try:
    print(json.dumps({"said": f"TensorRT {trt.__version__}: {made} plugins in {count} loads, {memory.checked()}"}))
except SoakError as error:
    print(json.dumps({"failed": f"TensorRT {trt.__version__}: {error}"}))
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; returns the exit code."""
    given = sys.argv[1:] if arguments is None else list(arguments)
    root = os.environ.get("TENSORRT_TEST_ROOT")
    if len(given) != 2 or not given[1].isdigit() or int(given[1]) < 1 or not root:
        print("usage: TENSORRT_TEST_ROOT=… soak_creators BUILD COUNT", file=sys.stderr)
        return 2
    build, count = given
    told = []
    for name in RELEASES:
        release = Release(name, Path(root).resolve(), Path(build).resolve())
        if not release.plugin.is_file():
            print(f"{release.plugin} was not built", file=sys.stderr)
            return 2
        paths = [release.environment()["PYTHONPATH"], str(Path(__file__).parents[1])]
        done = subprocess.run(
            [sys.executable, "-c", _CYCLES, str(release.plugin), count],
            env={**release.environment(), "PYTHONPATH": os.pathsep.join(paths)},
            capture_output=True,
            text=True,
            check=False,
        )
        answer = json.loads(done.stdout.splitlines()[-1]) if done.returncode == 0 else {"failed": done.stderr[-2000:]}
        if "failed" in answer:
            print(f"error: {answer['failed']}")
            return 1
        told.append(answer["said"])
    print("; ".join(told))
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""Where the real TensorRT and the built plugin are, for each version; without them these tests are skipped.

``make test-tensorrt`` brings both and runs the tests. TENSORRT_TEST_ROOT names the folder that
``python tools/get_tensorrt.py`` filled, SN_PLUGIN_BUILD the CMake build folder of ``plugins/`` with SN_WITH_TENSORRT=ON
and the headers of both major versions.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from sn_deploy.engine.model_file import without_functions

OLDEST = "10.6"  # of those that pyproject.toml allows
RELEASES = ("10", OLDEST, "11")
PROBE = Path(__file__).with_name("probe.py")


@dataclass(frozen=True)
class Release:
    """One version of TensorRT, by the name of its folder, and what was built for its major version."""

    name: str
    root: Path
    build: Path

    @property
    def major(self) -> int:
        """The number that libraries carry in their names."""
        return int(self.name.split(".")[0])

    @property
    def plugin(self) -> Path:
        """The plugin library of this version."""
        return self.build / "tensorrt" / f"libsn_deploy_trt{self.major}.so"

    @property
    def cuda(self) -> Path:
        """The CUDA toolkit that the plugin is built with."""
        return self.root / "cuda" / "nvidia" / "cu13"

    def environment(self) -> dict[str, str]:
        """The variables with which a process finds this version's libraries and Python modules."""
        home = self.root / self.name
        return {**os.environ, "LD_LIBRARY_PATH": str(home / "lib"), "PYTHONPATH": str(home / "python")}

    def probe(self, *steps: Any, plugin: Path | None = None) -> dict[str, Any]:
        """Runs probe.py in a process of its own: TensorRT can't be loaded twice, nor always unloaded, in one."""
        command = [sys.executable, str(PROBE), str(plugin or self.plugin), json.dumps(steps)]
        return self.run(command)

    @property
    def prefers_functions(self) -> bool:
        """Whether its parser takes a function of the file even where there is a plugin of that name."""
        return self.name == OLDEST

    @property
    def trial(self) -> Path:
        """The plugin library of a convolution with its SN layer, which benchmarks alone use."""
        return self.build / "tensorrt" / f"libsn_deploy_convolution_trt{self.major}.so"

    def parse(
        self, model: Path, *, plugin: bool = True, as_it_is: bool = False, library: Path | None = None
    ) -> dict[str, Any]:
        """What TensorRT's ONNX parser makes of a file, with or without the plugin library, or with another one.

        The oldest version gets the file without its functions, as `sn-deploy build` gives it to all, if not `as_it_is`.
        """
        if self.prefers_functions and not as_it_is:
            bare = model.with_suffix(".bare.onnx")
            bare.write_bytes(without_functions(model))
            model = bare
        home = self.root / self.name / "lib"
        libraries = [home / f"libnvinfer.so.{self.major}", home / f"libnvonnxparser.so.{self.major}"]
        harness = self.build / "tensorrt" / "tests" / f"parse_onnx{self.major}"
        return self.run(
            [str(part) for part in (harness, *libraries, (library or self.plugin) if plugin else "-", model)]
        )

    def refit(self, model: Path, weights: Sequence[str]) -> dict[str, Any]:
        """What TensorRT's ONNX refitter finds in a file for an engine with these weights."""
        home = self.root / self.name / "lib"
        libraries = [home / f"libnvinfer.so.{self.major}", home / f"libnvonnxparser.so.{self.major}"]
        harness = self.build / "tensorrt" / "tests" / f"refit_onnx{self.major}"
        return self.run([str(part) for part in (harness, *libraries, model, *weights)])

    def run(self, command: Sequence[str]) -> dict[str, Any]:
        """Runs a command that prints one JSON object, and returns that, with its standard error as ``stderr``."""
        result = subprocess.run(command, env=self.environment(), capture_output=True, text=True, timeout=120)
        assert result.returncode == 0, f"exit {result.returncode}: {result.stdout}{result.stderr}"
        answer: dict[str, Any] = json.loads(result.stdout.splitlines()[-1])
        return {**answer, "stderr": result.stderr}


@pytest.fixture(scope="session")
def releases() -> dict[str, Release]:
    """All versions; skips, with what to set, where the real TensorRT or the built plugin is missing."""
    root, build = os.environ.get("TENSORRT_TEST_ROOT"), os.environ.get("SN_PLUGIN_BUILD")
    if not root:
        pytest.skip("TENSORRT_TEST_ROOT is not set (`make test-tensorrt` sets it)")
    if not build:
        pytest.skip("SN_PLUGIN_BUILD is not set (`make test-tensorrt` sets it)")
    found = {name: Release(name, Path(root).resolve(), Path(build).resolve()) for name in RELEASES}
    # Named, but not there: that is no reason to skip.
    for release in found.values():
        assert (release.root / release.name / "lib").is_dir(), f"{root} has no TensorRT {release.name}"
        assert release.plugin.is_file(), f"{release.plugin} was not built"
    return found


@pytest.fixture(scope="session", params=RELEASES, ids=[f"trt{name}" for name in RELEASES])
def release(request: pytest.FixtureRequest, releases: dict[str, Release]) -> Release:
    """Each version in turn."""
    return releases[request.param]

"""`sn-deploy doctor` about the real plugin beside the real TensorRT: whole, damaged, and of the other version."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.tensorrt.conftest import Release

# In a process of its own, which finds this version of TensorRT.
FIND = """
import dataclasses, json, pathlib, sys
from sn_deploy.doctor.plugins import LIBRARIES, find_plugin
rows = [dataclasses.asdict(find_plugin(library, [pathlib.Path(sys.argv[1])])) for library in LIBRARIES]
print(json.dumps({row["name"]: row for row in rows}))
"""


@pytest.fixture
def folder(release: Release, tmp_path: Path) -> Path:
    """The libraries of the build, as they are installed."""
    command = ["cmake", "--install", str(release.build), "--prefix", str(tmp_path), "--strip"]
    subprocess.run(command, check=True, capture_output=True)
    return next(tmp_path.rglob("libsn_deploy_cuda.so")).parent


def rows(release: Release, folder: Path) -> dict[str, Any]:
    """What the doctor finds in a folder."""
    return release.run([sys.executable, "-c", FIND, str(folder)])


def test_the_plugin_of_this_version_is_taken(release: Release, folder: Path) -> None:
    found = rows(release, folder)
    own, other = found[f"TensorRT {release.major} plugin"], found[f"TensorRT {21 - release.major} plugin"]
    assert own["status"] == other["status"] == "ok"
    assert own["note"].endswith("takes SwitchNorm, SwitchNormAddRelu, SwitchNormRelu from it")
    assert f"it is for TensorRT {21 - release.major}, and {release.major}." in other["note"]
    assert found["CUDA kernels"]["status"] == "ok"
    assert found["ONNX Runtime custom op"]["status"] in ("ok", "optional")


def test_damaged_plugins_are_found_out(release: Release, folder: Path) -> None:
    own = folder / f"libsn_deploy_trt{release.major}.so"
    whole = own.read_bytes()
    own.write_bytes(whole[: len(whole) // 2])
    row = rows(release, folder)[f"TensorRT {release.major} plugin"]
    assert (row["status"], row["mend"].startswith("build it again")) == ("broken", True)
    shutil.copy(folder / "libsn_deploy_cuda.so", own)
    row = rows(release, folder)[f"TensorRT {release.major} plugin"]
    assert row["status"] == "broken"
    assert "has no getCreators" in row["note"]


def test_a_plugin_that_was_not_built_is_offered(release: Release, folder: Path) -> None:
    for file in folder.glob("libsn_deploy_trt*.so"):
        file.unlink()
    found = rows(release, folder)
    assert "SN_WITH_TENSORRT=ON" in found[f"TensorRT {release.major} plugin"]["mend"]
    assert found[f"TensorRT {21 - release.major} plugin"]["mend"] == ""


def test_the_command_shows_it(release: Release) -> None:
    command = [sys.executable, "-m", "sn_deploy", "doctor", "--json"]
    done = subprocess.run(command, env=release.environment(), capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    by_name = {row["name"]: row for row in json.loads(done.stdout)["findings"]}
    assert by_name["tensorrt"]["status"] == "ok"
    assert by_name["tensorrt"]["version"].startswith(f"{release.major}.")

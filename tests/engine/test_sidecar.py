"""The sidecar as a file: whole, foreign, damaged, edited. Engines that it belongs to: tests/tensorrt/inside_run.py."""

from __future__ import annotations

import hashlib
import json
import resource
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from sn_deploy.errors import SnDeployError
from sn_deploy.runtime.gpu import Gpu, find_gpu
from sn_deploy.runtime.trt.sidecar import (
    Here,
    Sidecar,
    check_fits,
    check_hash,
    read_sidecar,
    sidecar_path,
    write_engine,
)
from tests.engine.made_sidecar import made_sidecar

ROOT = Path(__file__).parents[2]


def test_what_is_written_is_read(tmp_path: Path) -> None:
    engine = tmp_path / "net.fp16.engine"
    assert read_sidecar(engine) is None
    written = write_engine(b"plan", made_sidecar(), engine)
    assert written == sidecar_path(engine) == tmp_path / "net.fp16.engine.json"
    assert read_sidecar(engine) == made_sidecar()


def pair(plan: bytes) -> Sidecar:
    return made_sidecar(engine={"sha256": hashlib.sha256(plan).hexdigest(), "bytes": len(plan)})


@pytest.fixture
def small_files() -> Iterator[None]:
    """None of this process's files may become larger than 64 kB: a disk that is full."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 16, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.usefixtures("small_files")
@pytest.mark.parametrize("too_large", ["engine", "sidecar"])
@pytest.mark.parametrize("old", [b"old", None])
def test_an_engine_and_its_sidecar_are_written_both_or_neither(
    tmp_path: Path, too_large: str, old: bytes | None
) -> None:
    engine, plan = tmp_path / "net.engine", b"new" * (1 << 15 if too_large == "engine" else 1)
    if old is not None:
        write_engine(old, pair(old), engine)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    layers = [{"Name": "x" * (1 << 17)}] if too_large == "sidecar" else None
    with pytest.raises(SnDeployError, match=r"net\.engine: can't be written: File too large"):
        write_engine(plan, replace(pair(plan), layers=layers), engine)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


KILLED_BETWEEN = """
import os, signal, sys
from pathlib import Path
from sn_deploy.runtime.trt.sidecar import write_engine
from tests.engine.test_sidecar import pair

rename = Path.replace
Path.replace = lambda self, target: (rename(self, target), os.kill(os.getpid(), signal.SIGKILL))
write_engine(b"new", pair(b"new"), Path(sys.argv[1]))
"""


@pytest.mark.parametrize("old", [b"old", None])
def test_a_kill_between_the_two_leaves_nothing_that_is_loaded(tmp_path: Path, old: bytes | None) -> None:
    engine = tmp_path / "net.engine"
    if old is not None:
        write_engine(old, pair(old), engine)
    done = subprocess.run([sys.executable, "-c", KILLED_BETWEEN, str(engine)], cwd=ROOT, check=False)
    assert done.returncode == -signal.SIGKILL
    sidecar = read_sidecar(engine)
    assert sidecar == pair(b"new")
    if old is None:
        assert not engine.exists()
        return
    with pytest.raises(SnDeployError, match=r"isn't the engine that net\.engine\.json describes"):
        check_hash(sidecar, engine.read_bytes(), engine)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"schema": 2}, "net.engine.json: has schema 2 .expected schema 1.; delete it to load the engine without it"),
        ({"profiles": None}, "has no profiles .expected what build writes."),
        ({"tensorrt": 10}, "tensorrt is wrong"),
        ({"tensorrt": "newest"}, "tensorrt is wrong"),
        ({"gpu": {"name": "NVIDIA L4"}}, "gpu.compute_capability is wrong"),
        ({"plugin": "auto"}, "plugin is wrong"),
        ({"settings": []}, "settings is wrong"),
    ],
)
def test_a_sidecar_that_was_edited(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    engine = tmp_path / "net.engine"
    document = {**made_sidecar().as_json(), **change}
    document = {key: value for key, value in document.items() if value is not None or key == "layers"}
    sidecar_path(engine).write_text(json.dumps(document))
    with pytest.raises(SnDeployError, match=message):
        read_sidecar(engine)


@pytest.mark.parametrize("text", ["{", "[1]", '"text"', ""])
def test_what_is_no_sidecar(tmp_path: Path, text: str) -> None:
    engine = tmp_path / "net.engine"
    sidecar_path(engine).write_text(text)
    with pytest.raises(SnDeployError, match="delete it to load the engine without it"):
        read_sidecar(engine)


@pytest.mark.parametrize(
    ("capability", "settings", "runs"),
    [
        ("9.0", {}, True),
        ("8.9", {}, False),
        ("8.9", {"hardware_compatibility": "ampere-plus"}, True),
        ("10.0", {"hardware_compatibility": "ampere-plus"}, True),
        ("7.5", {"hardware_compatibility": "ampere-plus"}, False),
        ("8.9", {"hardware_compatibility": "same-compute-capability"}, False),
    ],
)
def test_which_gpus_an_engine_runs_on(capability: str, settings: dict[str, Any], runs: bool) -> None:
    sidecar = made_sidecar(settings=settings)
    here = Here("10.15.1.29", Gpu("NVIDIA X", capability, 1, "13.0"))
    if runs:
        check_fits(sidecar, here, Path("net.engine"))
    else:
        with pytest.raises(SnDeployError, match=f"and this is NVIDIA X .compute capability {capability}"):
            check_fits(sidecar, here, Path("net.engine"))


@pytest.mark.parametrize(
    ("settings", "use", "holds"),
    [
        ({}, "loaded", False),
        ({}, "embedded", True),
        ({"version_compatible": True}, "none", True),
        ({"version_compatible": True, "exclude_lean_runtime": True}, "none", False),
        ({"version_compatible": True, "exclude_lean_runtime": True}, "embedded", True),
    ],
)
def test_which_engines_hold_code_for_the_host(settings: dict[str, Any], use: str, holds: bool) -> None:
    sidecar = made_sidecar(settings=settings, plugin={"use": use, "library": None, "sha256": None})
    assert sidecar.holds_host_code is holds
    assert sidecar.needs_lean_runtime("10.16.0.1") is bool(settings.get("exclude_lean_runtime"))
    assert not sidecar.needs_lean_runtime(sidecar.tensorrt)


def test_the_driver_is_asked_without_harm() -> None:
    found = find_gpu()
    if isinstance(found, str):
        assert "NVIDIA driver" in found
    else:
        assert found.name
        assert found.memory_mib > 0
        assert find_gpu(999) != found


def test_the_class_has_what_the_document_has() -> None:
    assert set(made_sidecar().as_json()) == {"schema", *Sidecar.__dataclass_fields__}

"""The wheel that is released, installed in a fresh environment. `make wheel` builds it and runs this."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

USER = """
from pathlib import Path

import sn_deploy
from sn_deploy import FoldedSwitchNorm, SnDeployError
from sn_deploy.runtime.ort import OrtSession


def text_of(folded: FoldedSwitchNorm) -> str:
    return str(folded.ddof)


def run(path: Path) -> list[str]:
    try:
        with OrtSession(path, threads=1) as session:
            return [info.name for info in session.inputs]
    except SnDeployError as error:
        return [error.what, sn_deploy.__version__]
"""
WRONG = USER + "\nnumber: int = sn_deploy.__version__\n"


@pytest.fixture(scope="module")
def wheel() -> Path:
    folder = os.environ.get("SN_WHEEL_FOLDER")
    if folder is None:
        pytest.skip("SN_WHEEL_FOLDER names no folder with a wheel (make wheel)")
    (found,) = Path(folder).glob("sn_deploy-*.whl")
    return found


@pytest.fixture(scope="module")
def fresh(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Python of an environment with the wheel, and the other libraries of the one that runs the tests."""
    folder = tmp_path_factory.mktemp("fresh")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    site = next(folder.glob("lib/python*/site-packages"))
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(site)
    # The folders alone, not what they add in turn: the project itself, where it is installed to be edited.
    (site / "others.pth").write_text("\n".join(one for one in sys.path if one.endswith("-packages")) + "\n")
    return folder / "bin" / "python"


def test_its_name_says_which_linux_it_runs_on(wheel: Path) -> None:
    assert "manylinux" in wheel.name
    assert "-py3-none-" in wheel.name


def test_doctor_finds_its_library(fresh: Path, tmp_path: Path) -> None:
    code = "from sn_deploy.cli import main; main(['doctor', '--json'])"
    done = subprocess.run([fresh, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=300)
    found = json.loads(done.stdout)
    assert found["usable"], done.stdout
    (library,) = (one for one in found["findings"] if "libsn_deploy_ort.so" in json.dumps(one))
    assert library["status"] == "ok", library


def test_it_is_typed(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        assert "sn_deploy/py.typed" in archive.namelist()
        assert not [name for name in archive.namelist() if name.startswith(("tests/", "tools/", "benchmarks/"))]


def test_other_languages_find_the_library_in_it(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = {name.removeprefix("sn_deploy/plugins/") for name in archive.namelist()}
    assert {"libsn_deploy_ort.so", "include/sn_deploy/onnxruntime.h", "cmake/sn_deploy/sn_deployConfig.cmake"} <= names


@pytest.mark.parametrize(("text", "code"), [(USER, 0), (WRONG, 1)], ids=["right", "wrong"])
def test_mypy_checks_a_users_code_against_it(fresh: Path, tmp_path: Path, text: str, code: int) -> None:
    pytest.importorskip("mypy", reason="mypy isn't installed (make lint)")
    (tmp_path / "user.py").write_text(text)
    command = [sys.executable, "-m", "mypy", "--strict", "--python-executable", fresh, "user.py"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert done.returncode == code, done.stdout
    assert ("Incompatible types in assignment" in done.stdout) == (code == 1)

"""Headers that CMake downloads, from a repository of the shape that NVIDIA's has."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.tensorrt.conftest import Release

PLUGINS = Path(__file__).parent.parent.parent / "plugins"


def git(folder: Path, *arguments: str) -> None:
    identity = ("-c", "user.name=test", "-c", "user.email=test@example.org", "-c", "commit.gpgsign=false")
    subprocess.run(["git", *identity, *arguments], cwd=folder, check=True, capture_output=True)


@pytest.fixture(scope="module")
def repository(releases: dict[str, Release], tmp_path_factory: pytest.TempPathFactory) -> str:
    """One tag for each major version, of a tree that has more than headers."""
    folder = tmp_path_factory.mktemp("repository")
    git(folder, "init", "--quiet")
    git(folder, "config", "uploadpack.allowFilter", "true")
    for tag, release in {"v10.15": releases["10"], "v11.1": releases["11"]}.items():
        shutil.copytree(release.root / release.name / "include", folder / "include", dirs_exist_ok=True)
        for name in ("parsers", "plugin"):
            (folder / name).mkdir(exist_ok=True)
            (folder / name / "CMakeLists.txt").write_text('message(FATAL_ERROR "not to be read")\n')
        (folder / "CMakeLists.txt").write_text('message(FATAL_ERROR "not to be read")\n')
        git(folder, "add", ".")
        git(folder, "commit", "--quiet", "-m", tag)
        git(folder, "tag", tag)
    return folder.as_uri()


def configure(folder: Path, release: Release, repository: str, **settings: str) -> subprocess.CompletedProcess[str]:
    given = {
        "SN_WITH_TENSORRT": "ON",
        "SN_FETCH_TENSORRT": "ON",
        "SN_FETCH_TENSORRT_URL": repository,
        "SN_CUDA_ROOT": str(release.cuda),
        "SN_WITH_TESTS": "OFF",
        "SN_WITH_ORT": "OFF",
        **settings,
    }
    flags = [f"-D{name}={value}" for name, value in given.items()]
    command = ["cmake", "-S", str(PLUGINS), "-B", str(folder), "-G", "Ninja", *flags]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)


def test_both_versions_are_downloaded_and_nothing_else(
    releases: dict[str, Release], repository: str, tmp_path: Path
) -> None:
    done = configure(tmp_path, releases["10"], repository)
    assert done.returncode == 0, done.stdout + done.stderr
    for major in (10, 11):
        assert f"-- TensorRT plugin: headers of {major}." in done.stdout
    fetched = {path.name for folder in tmp_path.glob("_deps/tensorrt_*-src") for path in folder.iterdir()}
    assert fetched == {".git", "include", "CMakeLists.txt"}  # a sparse checkout keeps the files at the top
    # What is there isn't asked for again.
    done = configure(tmp_path, releases["10"], "file:///nowhere")
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_tag_that_is_not_there_is_named(releases: dict[str, Release], repository: str, tmp_path: Path) -> None:
    done = configure(tmp_path, releases["10"], repository, SN_FETCH_TENSORRT_TAGS="v10.99")
    assert done.returncode != 0
    said = " ".join((done.stdout + done.stderr).split())
    assert "v10.99 of file:///" in said
    assert "can't be downloaded" in said

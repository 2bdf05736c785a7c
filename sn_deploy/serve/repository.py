"""A model's folder in a Triton repository: versions are added, whole or not at all, and never changed."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from sn_deploy.atomic import atomic_output, umask
from sn_deploy.errors import SnDeployError
from sn_deploy.hashing import sha256_of_file

CONFIG: Final = "config.pbtxt"


@dataclass(frozen=True)
class ModelFolder:
    """REPOSITORY/NAME.

    Attributes:
        path: of it.
        versions: that are there, ascending.
        config: the text of its config.pbtxt; None where there is none.
    """

    path: Path
    versions: Sequence[int]
    config: str | None

    @property
    def next_version(self) -> int:
        """The version that comes."""
        return max(self.versions, default=0) + 1


def read_folder(repository: Path, name: str) -> ModelFolder:
    """What is there.

    Raises:
        SnDeployError: the repository or the model is no folder that can be written to.
    """
    path = repository / name
    for place in (repository, path):
        if place.exists() and not place.is_dir():
            raise SnDeployError("is no folder", where=str(place), expected="a folder, or a name that is free")
    _check_writable(repository, path)
    versions = sorted(
        int(one.name) for one in (path.iterdir() if path.is_dir() else ()) if one.is_dir() and one.name.isdecimal()
    )
    file = path / CONFIG
    config = read_text(file) if file.is_file() else None
    if config is None and versions:
        raise SnDeployError(
            f"has versions but no {CONFIG}", where=str(path), mend="choose another --name, or put its config there"
        )
    return ModelFolder(path, versions, config)


def read_text(path: Path) -> str:
    """A text file of a repository.

    Raises:
        SnDeployError: it can't be read, or is no UTF-8.
    """
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise SnDeployError(f"can't be read: {error}", where=str(path), expected="text in UTF-8") from error


def add_version(
    folder: ModelFolder,
    files: Mapping[str, Path],
    *,
    config: str,
    shared: Mapping[str, Path],
    texts: Mapping[str, str],
) -> int:
    """Adds the next version.

    Args:
        files: name in the version's folder -> the file to copy.
        config: the text of config.pbtxt.
        shared: name in the model's folder -> a library to copy.
        texts: name in the model's folder -> text.

    Returns:
        The version.

    Raises:
        SnDeployError: something can't be written, or somebody else added that version meanwhile.
    """
    version = folder.next_version
    try:
        with _staging(folder.path) as staged:
            for name, file in files.items():
                _copy(file, staged / str(version) / name)
            if not folder.path.exists():
                _write_shared(staged, config, shared, texts)
                _publish(staged, folder.path)
            else:
                with _alone(folder.path):
                    # The config says what is in this version: it must not be written over another one's.
                    if (folder.path / str(version)).exists():
                        raise _taken(folder.path / str(version))
                    # First what all versions need: a version that is there is loaded at once where Triton polls.
                    _write_shared(folder.path, config, shared, texts)
                    _publish(staged / str(version), folder.path / str(version))
    except OSError as error:
        raise SnDeployError(f"can't be written: {error.strerror or error}", where=str(folder.path)) from error
    return version


def _write_shared(folder: Path, config: str, shared: Mapping[str, Path], texts: Mapping[str, str]) -> None:
    for name, file in shared.items():
        target = folder / name
        if not target.is_file() or sha256_of_file(target) != sha256_of_file(file):
            with atomic_output(target) as temporary:
                shutil.copyfile(file, temporary)
    for name, text in {**texts, CONFIG: config}.items():
        target = folder / name
        if not target.is_file() or target.read_bytes() != text.encode():
            with atomic_output(target) as temporary:
                temporary.write_text(text, encoding="utf-8")


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    with source.open("rb") as read, target.open("wb") as written:
        shutil.copyfileobj(read, written, 1 << 20)
        written.flush()
        os.fsync(written.fileno())


def _publish(staged: Path, target: Path) -> None:
    staged.chmod(0o777 & ~umask())
    try:
        staged.rename(target)
    except OSError as error:
        if target.exists():
            raise _taken(target) from error
        raise


def _taken(target: Path) -> SnDeployError:
    return SnDeployError("somebody else added it meanwhile", where=str(target), mend="run the command again")


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Within it other calls for the folder wait. When the process ends, the system lets them go on."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        with contextlib.suppress(ImportError, OSError):  # not on every system, or file system
            import fcntl

            fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


@contextlib.contextmanager
def _staging(target: Path) -> Iterator[Path]:
    """An empty folder on the target's file system, where no server looks for models; removed in the end."""
    repository = target.parent
    repository.mkdir(parents=True, exist_ok=True)
    beside = repository.resolve().parent
    same = os.access(beside, os.W_OK | os.X_OK) and beside.stat().st_dev == repository.stat().st_dev
    place = beside if same else repository
    folder = Path(tempfile.mkdtemp(prefix=f".{target.name[:40]}-", dir=place))
    try:
        inner = folder / target.name
        inner.mkdir()
        yield inner
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _check_writable(repository: Path, path: Path) -> None:
    place = next(one for one in (path, repository, *repository.absolute().parents) if one.exists())
    if not place.is_dir() or not os.access(place, os.W_OK | os.X_OK):
        raise SnDeployError(
            "can't be written: no permission in its folder", where=str(place), mend="choose another output folder"
        )

"""Files that are either the old one or the whole new one, whatever happens in between."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

from sn_deploy.errors import SnDeployError


@contextlib.contextmanager
def atomic_output(path: str | os.PathLike[str], *, executable: bool = False) -> Iterator[Path]:
    """Yields a temporary path beside ``path``, renamed to it when the block ends well and removed when it raises.

    The name keeps ``path``'s suffix, because writers such as matplotlib choose the format by it. ``executable`` is for
    scripts.

    Raises:
        SnDeployError: see `check_writable`; or it can't be written after all.
    """
    with atomic_outputs(path, executable=executable) as (temporary,):
        yield temporary


@contextlib.contextmanager
def atomic_outputs(*paths: str | os.PathLike[str], executable: bool = False) -> Iterator[tuple[Path, ...]]:
    """The same for files that belong together: all of them are whole before the first is renamed.

    They are renamed in their order, so a kill between two renames leaves a new file beside an old one, or beside none:
    the first has to be what lets a reader tell.

    Raises:
        SnDeployError: as `atomic_output`, of any of them.
    """
    targets = [Path(path) for path in paths]
    for target in targets:
        check_writable(target)
    temporaries: list[Path] = []
    where = " and ".join(map(str, targets))
    try:
        for target in targets:
            handle, name = tempfile.mkstemp(prefix=f".{target.stem[:40]}-", suffix=target.suffix, dir=target.parent)
            os.close(handle)
            temporaries.append(Path(name))
        yield tuple(temporaries)
        for temporary in temporaries:
            # mkstemp gives 0600; a user expects what the umask gives any other file.
            temporary.chmod((0o777 if executable else 0o666) & ~umask())
            with temporary.open("rb") as file:
                os.fsync(file.fileno())
        for target, temporary in zip(targets, temporaries, strict=True):
            where = str(target)
            temporary.replace(target)
    except OSError as error:
        reason = error.strerror or str(error)
        if isinstance(error.filename, str) and Path(error.filename) not in (*targets, *temporaries):
            raise SnDeployError(reason, where=error.filename) from error  # what was read meanwhile, say
        raise SnDeployError(f"can't be written: {reason}", where=where) from error
    finally:
        for temporary in temporaries:
            temporary.unlink(missing_ok=True)


def check_writable(path: str | os.PathLike[str]) -> None:
    """Refuses, before any work is done, an output path that can't be written.

    Raises:
        SnDeployError: the folder is missing or can't be written to, or ``path`` is there and no plain file.
    """
    target = Path(path)
    if target.is_dir():
        raise SnDeployError("is a folder", where=str(target), expected="a file name")
    if target.exists() and not target.is_file():
        # A file would take its place: root's own /dev/null and /dev/stdout, too.
        raise SnDeployError(
            "is a device, a pipe or a socket",
            where=str(target),
            expected="a file name",
            mend="for the standard output give -, where the command takes it",
        )
    if not target.parent.is_dir():
        raise SnDeployError(
            "can't be written: its folder doesn't exist",
            where=str(target),
            mend=f"create it with: mkdir -p '{target.parent}'",
        )
    if not os.access(target.parent, os.W_OK | os.X_OK):
        raise SnDeployError(
            "can't be written: no permission in its folder", where=str(target), mend="choose another output path"
        )


def umask() -> int:
    """The bits that new files and folders don't get."""
    # The only portable way to read it; nothing here runs while other threads create files by it.
    value = os.umask(0)
    os.umask(value)
    return value

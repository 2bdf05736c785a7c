"""``PACKAGE.MODULE:CALLABLE``: the user's own code, imported and called. This runs it, as importing it would."""

from __future__ import annotations

import contextlib
import difflib
import importlib
import importlib.util
import inspect
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from sn_deploy.errors import SnDeployError, first_line


def load_object(reference: str, *, option: str) -> Any:
    """The object that ``PACKAGE.MODULE:NAME`` or ``FILE.py:NAME`` refers to.

    The current folder is searched first, as by ``python -m``.

    Args:
        option: the option the reference came from, for errors.

    Raises:
        SnDeployError: a malformed reference, a module that isn't there or fails when imported, a missing name.
    """
    where = f"{option} {reference}"
    module_name, colon, path = reference.rpartition(":")
    if not colon or not module_name or not path:
        raise SnDeployError("can't be read", where=where, expected="PACKAGE.MODULE:CALLABLE or FILE.py:CALLABLE")
    target = _import(module_name, where)
    for name in path.split("."):
        if not hasattr(target, name):
            near = difflib.get_close_matches(name, [other for other in dir(target) if not other.startswith("_")], 3)
            raise SnDeployError(
                f"{getattr(target, '__name__', target)} has no {name!r}",
                where=where,
                mend=f"did you mean {' or '.join(near)}" if near else "check the name after the colon",
            )
        target = getattr(target, name)
    return target


def name_of(held: object) -> str:
    """What to call an object that was given in the place of its name: of a function its own, else its class's."""
    name = getattr(held, "__qualname__", None)
    return name if isinstance(name, str) else type(held).__qualname__


@contextlib.contextmanager
def failures_told(where: str) -> Iterator[None]:
    """Turns what the user's code raises within it into an error of ours, at ``where``."""
    try:
        yield
    except SnDeployError:
        raise
    except Exception as error:
        raise SnDeployError(
            f"failed: {type(error).__name__}: {first_line(error)}",
            where=where,
            mend="see where with sn-deploy --traceback …",
        ) from error


def call(function: Any, arguments: Mapping[str, Any], *, option: str) -> Any:
    """``function(**arguments)``, with a wrong argument or a failure inside told apart.

    Raises:
        SnDeployError: it isn't callable, doesn't take the arguments, or fails.
    """
    if not callable(function):
        raise SnDeployError(f"is a {type(function).__name__}, not callable", where=option)
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):
        signature = None  # a builtin without one
    if signature is not None:
        try:
            signature.bind(**arguments)
        except TypeError as error:
            raise SnDeployError(
                f"doesn't take these arguments: {error}",
                where=option,
                expected=f"{getattr(function, '__name__', 'callable')}{signature}",
                mend="give them as --model-arg NAME=VALUE" if option.startswith("--model") else None,
            ) from error
    try:
        return function(**arguments)
    except SnDeployError:
        raise
    except SystemExit as error:
        raise _ended("calling it", error, option) from error
    except Exception as error:
        raise SnDeployError(
            f"failed: {type(error).__name__}: {error}", where=option, mend="see where with sn-deploy --traceback …"
        ) from error


def _import(name: str, where: str) -> Any:
    if name.endswith(".py"):
        return _import_file(Path(name), where)
    folder = str(Path.cwd())
    if folder not in sys.path:
        sys.path.insert(0, folder)
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        # The module itself, a package above it, or something that it imports?
        if error.name is not None and (name == error.name or name.startswith(f"{error.name}.")):
            raise SnDeployError(
                f"there is no module {error.name!r}",
                where=where,
                mend="run from the folder that holds it, install it, or give its path: FILE.py:CALLABLE",
            ) from error
        raise SnDeployError(f"{name} needs {error.name!r}, which isn't installed", where=where) from error
    except SystemExit as error:
        raise _ended(f"importing {name}", error, where) from error
    except Exception as error:
        raise SnDeployError(f"importing {name} failed: {type(error).__name__}: {error}", where=where) from error


def _ended(what: str, error: SystemExit, where: str) -> SnDeployError:
    """For scripts that run when they are imported: the end of theirs, with 0 even, must not pass for that of ours."""
    return SnDeployError(
        f"{what} ended the program, with {error.code}",
        where=where,
        mend="put what a script does under: if __name__ == '__main__'",
    )


def _import_file(path: Path, where: str) -> Any:
    if not path.is_file():
        raise SnDeployError("there is no such file", where=where)
    # Its own folder too, so that it finds its neighbours as a script would.
    folder = str(path.resolve().parent)
    if folder not in sys.path:
        sys.path.insert(0, folder)
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules.setdefault(path.stem, module)
    try:
        spec.loader.exec_module(module)
    except SystemExit as error:
        raise _ended("importing it", error, where) from error
    except Exception as error:
        raise SnDeployError(f"importing it failed: {type(error).__name__}: {error}", where=where) from error
    return module

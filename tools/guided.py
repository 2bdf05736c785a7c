"""What the fuzzers that atheris guides by coverage import, and whether it does."""

from __future__ import annotations

import contextlib
import inspect
import sys
from collections.abc import Callable, Iterator, Sequence
from importlib.machinery import ModuleSpec
from types import FunctionType
from typing import Any, Final

import atheris
from atheris.import_hook import AtherisMetaPathFinder

_MARK: Final = "__ATHERIS_INSTRUMENTED__"  # among the constants of what atheris has instrumented


@contextlib.contextmanager
def instrumented(modules: Sequence[str]) -> Iterator[None]:
    """These modules, and those in them, are instrumented where they are imported within, from the source tree.

    An editable install has a finder of its own, whose loader atheris takes, says so, and doesn't instrument. By itself
    atheris takes all of the package that a module is in, which is half a minute's work for one of torch's.
    """
    sys.meta_path[:] = [finder for finder in sys.meta_path if not type(finder).__module__.startswith("_editable")]
    with atheris.instrument_imports(include=list(modules)):
        (finder,) = (finder for finder in sys.meta_path if isinstance(finder, AtherisMetaPathFinder))
        find_any = finder.find_spec

        def find_spec(name: str, *place: Any) -> ModuleSpec | None:
            return find_any(name, *place) if any(f"{name}.".startswith(f"{one}.") for one in modules) else None

        finder.find_spec = find_spec
        yield


def check_guided(function: Callable[..., object]) -> None:
    """Ends the program where a function that was imported so isn't instrumented: a fuzzer without guidance finds
    little, and looks as if there were little to find."""
    plain = inspect.unwrap(function)  # a public function is decorated, by a decorator of the standard library
    if not isinstance(plain, FunctionType) or _MARK not in plain.__code__.co_consts:
        sys.exit(f"{function.__module__} isn't instrumented: the fuzzer would go without guidance")

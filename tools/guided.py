"""What the fuzzers that atheris guides by coverage import, and whether it does."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Final

import atheris

_MARK: Final = "__ATHERIS_INSTRUMENTED__"  # among the constants of what atheris has instrumented


@contextlib.contextmanager
def instrumented(packages: Sequence[str]) -> Iterator[None]:
    """Modules of these packages that are imported within are instrumented, from the source tree.

    An editable install has a finder of its own, whose loader atheris takes, says so, and doesn't instrument.
    """
    sys.meta_path[:] = [finder for finder in sys.meta_path if not type(finder).__module__.startswith("_editable")]
    with atheris.instrument_imports(include=list(packages)):
        yield


def check_guided(function: Callable[..., object]) -> None:
    """Ends the program where a function that was imported so isn't instrumented: a fuzzer without guidance finds
    little, and looks as if there were little to find."""
    if _MARK not in function.__code__.co_consts:
        sys.exit(f"{function.__module__} isn't instrumented: the fuzzer would go without guidance")

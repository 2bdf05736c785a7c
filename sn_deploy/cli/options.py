"""Options that several commands have and say alike, and how a command gets a group of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final, TypeVar

import click

Function = TypeVar("Function", bound=Callable[..., Any])

EXTERNAL_DATA: Final = click.option(
    "--external-data/--no-external-data", default=None, help="Weights in a file beside it; default: >2 GB."
)
JSON_REPORT: Final = click.option(
    "--json", "json_output", metavar="FILE|-", help="Write the report as JSON; - for the standard output."
)


def add_options(*groups: Sequence[Callable[[Any], Any]]) -> Callable[[Function], Function]:
    """Adds the options to a command, in that order."""

    def add(function: Function) -> Function:
        for group in reversed(groups):
            for option in reversed(group):
                function = option(function)
        return function

    return add

"""The options of every command that loads engines: what they may be loaded with."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click

if TYPE_CHECKING:
    from sn_deploy.runtime.trt.access import Access

Function = TypeVar("Function", bound=Callable[..., Any])

_LIBRARY: Final = click.Path(exists=True, dir_okay=False, path_type=Path)

ENGINES: Final = (
    click.option("--allow-host-code", is_flag=True, help="Load engines with code for this host in them."),
    click.option(
        "--plugin-library",
        type=_LIBRARY,
        metavar="FILE.so",
        help="The plugin that engines need; default: the package's.",
    ),
    click.option(
        "--lean-runtime",
        type=_LIBRARY,
        metavar="FILE.so",
        help="libnvinfer_lean of an earlier TensorRT, for engines that it built with --exclude-lean-runtime.",
    ),
)

# The parameters that they become.
ENGINE_PARAMETERS: Final = ("allow_host_code", "plugin_library", "lean_runtime")


def engine_options(function: Function) -> Function:
    """Adds them to a command, in that order."""
    for option in reversed(ENGINES):
        function = option(function)
    return function


def access_from_options(given: Mapping[str, Any]) -> Access:
    """What they say."""
    from sn_deploy.runtime.trt.access import Access

    return Access(given["allow_host_code"], given["plugin_library"], given["lean_runtime"])

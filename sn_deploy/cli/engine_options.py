"""The options of every command that loads engines: what they may be loaded with."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

if TYPE_CHECKING:
    from sn_deploy.runtime.trt.access import Access

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


def access_from_options(given: Mapping[str, Any]) -> Access:
    """What they say."""
    from sn_deploy.runtime.trt.access import Access

    return Access(given["allow_host_code"], given["plugin_library"], given["lean_runtime"])

"""``sn-deploy inspect`` of an engine."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from sn_deploy.cli.json_output import write_json
from sn_deploy.console import Console, output_console
from sn_deploy.engine.inspect import Inspection, inspect_engine, inspect_sidecar
from sn_deploy.engine.show import json_from_engine, layer_table, layers_summary, print_summary
from sn_deploy.errors import SnDeployError
from sn_deploy.runtime.trt.access import Access
from sn_deploy.text import typed_shape

_NOT_RUN = "the engine isn't loaded, with --no-run"


def show_engine(path: Path, *, access: Access | None, json_output: str | None) -> None:
    """Prints what is known of an engine, and writes it as JSON where that is asked for.

    Args:
        access: what it may be loaded with; None not to load it.

    Raises:
        SnDeployError: there is nothing to be known, or the sidecar is another engine's.
    """
    console = output_console()
    alone = json_output == "-"
    found = inspect_sidecar(path, _NOT_RUN if access is None else None)
    if found.sidecar is not None and not alone:
        print_summary(console, found.sidecar)
    if found.missing is None and access is not None:
        found = _asked(path, access, found)
    if not alone:
        _print_layers(console, found)
    if json_output is not None:
        write_json(json_from_engine(path, found), json_output)
        if alone:
            return
        console.print(f"wrote {json_output}")


def _asked(path: Path, access: Access, known: Inspection) -> Inspection:
    """What the engine tells; where it can't be loaded or run here, what its sidecar does."""
    try:
        return inspect_engine(path, access)
    except SnDeployError as error:
        if known.sidecar is None:
            raise
        return replace(known, missing=str(error))


def _print_layers(console: Console, found: Inspection) -> None:
    if found.rows is not None:
        console.print()
        console.print(layer_table(found.rows))
        console.print(layers_summary(found.rows))
    if found.shapes is not None:
        shapes = ", ".join(f"{name} {typed_shape(shape)}" for name, shape in found.shapes.items())
        console.print(f"times: median over 20 runs on random {shapes}, each layer launched and timed apart")
    if found.missing is not None:
        known = "layers are the sidecar's, without times" if found.rows is not None else "layers can't be shown"
        console.print(f"{known}: {found.missing}", style="yellow", soft_wrap=True)

"""What ``--json FILE|-`` writes."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

import click

from sn_deploy.atomic import atomic_output
from sn_deploy.output_file import check_text_name

# The document is all that goes to the standard output, so that programs can read it.
STANDARD_OUTPUT: Final = "-"


def write_json(document: Mapping[str, Any], target: str) -> None:
    """Writes a document whole, or not at all, to a file or the standard output.

    Raises:
        SnDeployError: the file can't be written.
    """
    text = json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    if target == STANDARD_OUTPUT:
        click.echo(text, nl=False)
        return
    check_text_name(target)
    with atomic_output(target) as temporary:
        temporary.write_text(text, encoding="utf-8")

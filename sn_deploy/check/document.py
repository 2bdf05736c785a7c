"""The JSON document of a check: written, and read again."""

from __future__ import annotations

import dataclasses
import json
import os
from functools import cache
from pathlib import Path
from typing import Any

from sn_deploy.atomic import atomic_output
from sn_deploy.check.result import SCHEMA, CheckResult, as_json
from sn_deploy.errors import SnDeployError, first_line
from sn_deploy.input_file import read_head, source_path
from sn_deploy.output_file import check_text_name
from sn_deploy.python_words import naming_arguments


def text_from_result(result: CheckResult) -> str:
    """The document as it is written."""
    return json.dumps(as_json(result), indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def write_document(result: CheckResult, path: Path) -> None:
    """Writes the document.

    Raises:
        SnDeployError: it can't be written.
    """
    check_text_name(path)
    with atomic_output(path) as temporary:
        temporary.write_text(text_from_result(result), encoding="utf-8")


@naming_arguments()
def read_document(path: str | os.PathLike[str]) -> dict[str, Any]:
    """The document in a file that `sn-deploy check --json`, or `CheckResult.write_json`, wrote.

    Args:
        path: of the JSON file.

    Raises:
        SnDeployError: it can't be read, isn't one, or is of another schema.
    """
    path = source_path(path, "the document")
    read_head(path)
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        json.dumps(document, ensure_ascii=False).encode()  # half a character, say, can't be written again
    except (ValueError, RecursionError) as error:
        raise SnDeployError(f"is no JSON: {first_line(error)}", where=str(path), expected=_EXPECTED) from error
    if not isinstance(document, dict) or "schema" not in document or "backends" not in document:
        raise SnDeployError("is no result of a check", where=str(path), expected=_EXPECTED)
    if document["schema"] != SCHEMA:
        raise SnDeployError(f"is of schema {document['schema']}", where=str(path), expected=f"schema {SCHEMA}")
    missing = {field.name for field in dataclasses.fields(CheckResult)} - document.keys()
    if missing:
        raise SnDeployError(f"has no {', '.join(sorted(missing))}", where=str(path), expected=_EXPECTED)
    return document


_EXPECTED = "a file written by: sn-deploy check … --json FILE"


@cache
def json_schema() -> dict[str, Any]:
    """The JSON Schema (draft 2020-12) of the document."""
    loaded: dict[str, Any] = json.loads(Path(__file__).with_name("check.schema.json").read_text(encoding="utf-8"))
    return loaded

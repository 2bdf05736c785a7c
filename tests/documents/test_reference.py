"""The tables of fields in docs/reference and the guides have those of the documents that the tool writes."""

from __future__ import annotations

import importlib
import inspect
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

import click
import numpy as np
import pytest

from sn_deploy.check.document import json_schema
from sn_deploy.cli import cli
from sn_deploy.runtime.gpu import Gpu
from sn_deploy.runtime.trt.builder import BuildSettings
from sn_deploy.runtime.trt.sidecar import Sidecar
from tests.cli.command import exit_code
from tests.documents.test_documents import ROOT


def table(document: str, heading: str) -> dict[str, set[str]]:
    """Of the table with this first heading: field -> what else is named in its row."""
    text = (ROOT / document).read_text(encoding="utf-8")
    (rows,) = re.findall(rf"^\| {heading} \| \|\n\|---\|---\|\n((?:\|.*\n)+)", text, flags=re.MULTILINE)
    found: dict[str, set[str]] = {}
    for row in rows.splitlines():
        first, _, rest = row.strip("| ").partition(" | ")
        found |= {name: set(names(rest)) for name in names(first)}
    return found


def names(text: str) -> list[str]:
    return re.findall(r"`(\w+)`", text)


def test_documents_of_checks() -> None:
    schema: dict[str, Any] = json_schema()
    found = table("docs/reference/check-json.md", "field")
    assert set(found) == set(schema["properties"])
    for field, definition in (("backends", "backend"), ("metrics", "metric"), ("assertions", "assertion")):
        known = set(schema["$defs"][definition]["properties"])
        assert found[field] <= known, field
        assert known - found[field] <= {"backend"}, field
    text = (ROOT / "docs/reference/check-json.md").read_text(encoding="utf-8")
    figures = set(names(text.partition("\nFigures of parity:")[2].partition("\n\n")[0]))
    others = {"output", "dtype", "shape", "tolerance", "passed"}
    assert figures == set(schema["$defs"]["parity"]["properties"]) - others


def test_sidecars_of_engines() -> None:
    found = table("docs/reference/engine-json.md", "field")
    assert set(found) == {"schema", *(field.name for field in fields(Sidecar))}
    assert found["gpu"] == {field.name for field in fields(Gpu)}
    # Profiles, TF32 and the plugin have fields of their own; where timings are kept belongs to the machine.
    apart = {"profiles", "tf32", "embed", "timing_cache"}
    assert found["settings"] == {field.name for field in fields(BuildSettings)} - apart


def test_documents_of_calibrations(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    np.save("x.npy", np.random.default_rng(0).random((8, 1, 8, 8), dtype=np.float32))
    arguments = ("--model", "sn_deploy.models.digits:load_pretrained", "--data", "x.npy", "-o", "new.pth")
    assert exit_code("calibrate", *arguments, "--json", "moved.json") == 0
    document = json.loads(Path("moved.json").read_text())
    found = table("docs/guides/calibrate.md", "key")
    assert set(found) == set(document)
    layer = document["layers"][0]
    inner = [key for value in layer.values() if isinstance(value, dict) for key in value]
    assert found["layers"] == {*layer, *inner}


def functions_of_commands() -> Iterator[tuple[str, list[Any], str]]:
    """Command, its functions, and what the reference says that they give."""
    text = (ROOT / "docs/reference/python.md").read_text(encoding="utf-8")
    for name, function, reports in re.findall(
        r"^\| `sn-deploy ([\w-]+)` \| (.*) \| (.*) \|$", text, flags=re.MULTILINE
    ):
        modules = re.findall(r"from (sn_deploy[\w.]*) import ([\w, ]+)", function) or [("sn_deploy", "export, build")]
        known = [
            getattr(importlib.import_module(module), one) for module, names in modules for one in names.split(", ")
        ]
        yield name, known, reports


def test_every_command_has_its_function() -> None:
    found = list(functions_of_commands())
    assert {name for name, _, _ in found} == set(cli.list_commands(click.Context(cli))) - {"demo"}
    for name, known, reports in found:
        given = {str(inspect.signature(one).return_annotation) for one in known if inspect.isfunction(one)}
        for report in re.findall(r"`(\w+)`", reports):
            assert any(report in annotation for annotation in given), (name, report)


def test_help_says_what_every_argument_is() -> None:
    for name, known, _ in functions_of_commands():
        for function in known:
            text = inspect.getdoc(function) or ""
            arguments = list(inspect.signature(function).parameters)
            unsaid = [one for one in arguments if not re.search(rf"\b{one}\b[^:]*: ", text)]
            assert not unsaid, (name, function.__qualname__)
            assert "Raises:" in text or inspect.isclass(function) or function.__name__ == "diagnose", name


@pytest.mark.parametrize("package", ["sn_deploy", "sn_deploy.check"])
def test_names_that_are_imported_late_can_be_completed(package: str) -> None:
    code = f"import {package}; print(*dir({package}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert set(done.stdout.split()) >= set(importlib.import_module(package).__all__)

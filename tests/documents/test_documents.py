"""README.md, the guides and the other documents name what the project has: commands, options, Python, files, headings.

What they tell to type is typed by test_guides.py.
"""

from __future__ import annotations

import inspect
from pathlib import Path

import click
import pytest

from sn_deploy.cli import cli as command_line
from tests.documents import commands, links, python_code
from tests.documents.cli import command_names
from tests.documents.markdown import Code, Document, read_document

ROOT = Path(__file__).parents[2]
CHANGELOG = ROOT / "CHANGELOG.md"  # tells of what is gone, too
DOCUMENTS = [
    *(
        ROOT / name
        for name in ("README.md", "SECURITY.md", *(f"{one}/README.md" for one in ("benchmarks", "examples", "plugins")))
    ),
    *sorted((ROOT / "docs").rglob("*.md")),
]


def test_commands_and_options_are_known() -> None:
    assert [fault for path in DOCUMENTS for fault in commands.faults(read_document(path))] == []


@pytest.mark.parametrize("name", command_names())
def test_commands_in_their_help_are_known(name: str) -> None:
    command: click.Command | None = command_line
    for word in name.split():
        assert isinstance(command, click.Group)
        command = command.get_command(click.Context(command), word)
    assert command is not None
    text = inspect.cleandoc(command.help or "")
    document = Document(Path(name), (Code(text, 1, "help"),), frozenset(), ())
    assert list(commands.faults(document)) == []


def test_python_takes_what_is_there() -> None:
    assert [fault for path in DOCUMENTS for fault in python_code.faults(read_document(path))] == []


def test_links_lead_somewhere() -> None:
    assert [fault for path in [*DOCUMENTS, CHANGELOG] for fault in links.faults(read_document(path))] == []


def test_files_that_are_named_are_there() -> None:
    assert [fault for path in DOCUMENTS for fault in links.file_faults(read_document(path), ROOT)] == []

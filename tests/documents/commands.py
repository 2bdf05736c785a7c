"""Commands and options that a document names, held against the programs."""

from __future__ import annotations

from collections.abc import Iterator

from tests.documents import cli, programs
from tests.documents.markdown import Document
from tests.documents.shell import Command, commands

# Of other programs, in sentences: nvcc's, tritonserver's.
OTHERS = frozenset({"--prec-div", "--backend-config", "--versionCompatible"})


def faults(document: Document) -> Iterator[str]:
    """Each command that can't be typed so."""
    for command in commands(document):
        for fault in _of_one(command):
            yield f"{document.path.name}:{command.line}: {' '.join(command.words)}: {fault}"


def _of_one(command: Command) -> Iterator[str]:
    words = list(command.words)
    if words[:3] == ["python", "-m", "sn_deploy"]:
        words[:3] = ["sn-deploy"]
    if words[0] == "sn-deploy":
        yield from cli.faults(words[1:], whole=command.whole)
    elif command.whole:
        yield from programs.faults(words)
    elif words[0].startswith("--"):
        option = words[0].partition("=")[0]
        if option not in OTHERS and option not in programs.all_script_options():
            yield from cli.option_faults(words)
    elif len(words) > 1 and words[1].startswith("--") and words[0] in [name.split()[0] for name in cli.command_names()]:
        yield from cli.faults(words, whole=False)
    elif len(words) > 1:
        # A script by its path alone: benchmarks/gpu_engines.py --goals.
        yield from programs.faults(["python", *words] if words[0].endswith(".py") else words)

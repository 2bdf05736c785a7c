"""The commands that a document tells to type."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass

from tests.documents.markdown import Code, Document

ELLIPSIS = "…"
_OPERATORS = frozenset(";|&()<>")
# What stands before a command at the beginning of its line, in a block of a language; ``help`` is a command's own.
_BEGINS = {
    "console": re.compile(r"\$ "),
    "sh": re.compile(r""),
    "yaml": re.compile(r"\s*(?:- run: )?(?=pip |sn-deploy )"),
    "help": re.compile(r"(?=sn-deploy |for )"),
}
_BEFORE_A_COMMAND = re.compile(r"do|then|else|!|if|time|sudo|\w+=.*")


@dataclass(frozen=True)
class Command:
    """Words of a command, its program first; ``whole`` where it is to be typed as it is, and no name of something."""

    words: tuple[str, ...]
    line: int
    whole: bool


def commands(document: Document) -> Iterator[Command]:
    """Each command, in order, aliases that the document defines in their place."""
    aliases: dict[str, list[str]] = {}
    for code in document.code:
        for line, text in _typed(code):
            for words in _split(text, whole=code.language is not None):
                if words[0] == "alias":
                    name, _, value = words[1].partition("=")
                    aliases[name] = shlex.split(value)
                    continue
                # A sentence has no aliases: there `check` is the name of a command.
                replaced = aliases.get(words[0]) if code.language is not None else None
                yield Command((*(replaced or words[:1]), *words[1:]), line, code.language is not None)


def _typed(code: Code) -> Iterator[tuple[int, str]]:
    """What is typed in a piece of code, in lines of any length."""
    if code.language is None:
        yield code.line, code.text
        return
    if code.language not in _BEGINS:
        return
    lines = code.text.splitlines()
    begins = _BEGINS[code.language]
    goes_on = False
    text, first = "", 0
    for number, line in enumerate(lines, code.line):
        if goes_on:
            text += " " + line.strip()
        else:
            found = begins.match(line)
            if found is None:
                continue
            text, first = line[found.end() :], number
        following = lines[number - code.line + 1] if number - code.line + 1 < len(lines) else ""
        # In a workflow lines are folded: one that begins with an option is no command.
        goes_on = text.endswith("\\") or (code.language == "yaml" and following.strip().startswith("--"))
        text = text.removesuffix("\\")
        if not goes_on:
            yield first, text


def _split(text: str, *, whole: bool) -> Iterator[list[str]]:
    """Words of each command of a line; of what isn't quoted as a shell wants it, the words between spaces."""
    text = re.sub(r"\$\{\{.*?\}\}", ELLIPSIS, text)
    lexer = shlex.shlex(text, posix=True, punctuation_chars="".join(_OPERATORS) if whole else "")
    lexer.whitespace_split = True
    try:
        words = list(lexer)
    except ValueError:
        words = text.split()
    command: list[str] = []
    for word in [*words, ";"]:
        if not set(word) <= _OPERATORS or (not whole and word != ";"):
            if command or not _BEFORE_A_COMMAND.fullmatch(word):
                command.append(word)
        elif command:
            yield command
            command = []

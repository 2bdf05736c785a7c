"""What a Markdown document has: blocks of code, code within sentences, links, and headings to link to."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from markdown_it import MarkdownIt
from markdown_it.token import Token


@dataclass(frozen=True)
class Code:
    """Code at a line, from 1, of its document. ``language`` is a fenced block's, None of code within a sentence."""

    text: str
    line: int
    language: str | None


@dataclass(frozen=True)
class Document:
    """What a document has.

    Attributes:
        anchors: of its headings, as GitHub makes them.
        links: (line, target) of links and pictures.
    """

    path: Path
    code: tuple[Code, ...]
    anchors: frozenset[str]
    links: tuple[tuple[int, str], ...]


def read_document(path: Path) -> Document:
    """Reads a Markdown file."""
    tokens = MarkdownIt("commonmark").enable("table").parse(path.read_text(encoding="utf-8"))
    code: list[Code] = []
    titles: list[str] = []
    links: list[tuple[int, str]] = []
    for before, token in zip([None, *tokens], tokens, strict=False):
        if token.type == "fence":
            code.append(Code(token.content, _line(token) + 1, token.info.strip()))
        for child, line in _children(token):
            if child.type == "code_inline":
                code.append(Code(child.content, line, None))
            target = child.attrs.get("href") or child.attrs.get("src")
            if target is not None:
                links.append((line, str(target)))
        if before is not None and before.type == "heading_open":
            titles.append("".join(child.content for child, _ in _children(token)))
    return Document(path, tuple(code), frozenset(_anchors(titles)), tuple(links))


def _line(token: Token) -> int:
    return token.map[0] + 1 if token.map is not None else 1


def _children(token: Token) -> Iterator[tuple[Token, int]]:
    line = _line(token)
    for child in token.children or []:
        yield child, line
        if child.type in ("softbreak", "hardbreak"):
            line += 1


def _anchors(titles: list[str]) -> Iterator[str]:
    """GitHub's: lower case, hyphens for spaces, no punctuation; a number behind those that were there before."""
    counts: dict[str, int] = {}
    for title in titles:
        slug = re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-")
        count = counts.get(slug, 0)
        counts[slug] = count + 1
        yield f"{slug}-{count}" if count else slug

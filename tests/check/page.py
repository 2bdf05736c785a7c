"""A report read as a reader's program would: elements, text and tables."""

from __future__ import annotations

import re
from collections import Counter
from html.parser import HTMLParser
from typing import Final

VOID: Final = {"meta", "br", "link", "img", "hr", "input"}


class Page(HTMLParser):
    """Attributes:
    elements: tag and attributes of each element, in order.
    tables: caption -> rows -> texts of the cells, the head first.
    text: all that is not style.
    """

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.tables: dict[str, list[list[str]]] = {}
        self._open: list[str] = []
        self._parts: list[str] = []
        self._caption = ""
        self.feed(html)
        self.close()
        assert self._open == [], "elements that are not closed"
        self.text = " ".join("".join(self._parts).split())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attrs}))
        if tag not in VOID:
            self._open.append(tag)
        if tag == "caption":
            self._caption = ""
        if tag == "tr":
            self.tables[self._caption].append([])
        if tag in ("th", "td"):
            self.tables[self._caption][-1].append("")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attrs}))

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag
        if tag == "caption":
            self.tables[self._caption] = []
        self._parts.append(" " if tag not in ("span", "a", "strong", "code") else "")

    def handle_data(self, data: str) -> None:
        if "style" in self._open:
            return
        self._parts.append(data)
        if "caption" in self._open:
            self._caption += data
        elif self._open[-1:] and {"th", "td"} & set(self._open):
            self.tables[self._caption][-1][-1] += data

    def tags(self) -> set[str]:
        return {tag for tag, _ in self.elements}

    def ids(self) -> Counter[str]:
        return Counter(attributes["id"] for _, attributes in self.elements if "id" in attributes)

    def references(self) -> set[str]:
        """The ids that other elements name."""
        found: set[str] = set()
        for _, attributes in self.elements:
            for name, value in attributes.items():
                if name in ("aria-labelledby", "aria-describedby"):
                    found |= set(value.split())
                if name == "href":
                    assert value.startswith("#"), value
                    found.add(value[1:])
                found |= set(re.findall(r"url\(#([^)]*)\)", value))
        return found

    def pictures(self) -> list[dict[str, str]]:
        return [attributes for tag, attributes in self.elements if tag == "svg"]

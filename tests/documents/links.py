"""Links of a document to files of the project, and to places in them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote, urlsplit

from tests.documents.markdown import Document, read_document

# The package's plugins are built.
_FILE = re.compile(r"(?:sn_deploy(?!/plugins)|tests|tools|benchmarks|plugins|docs|examples|requirements)(?:/[\w.-]+)+")


def faults(document: Document) -> Iterator[str]:
    """Each link that leads nowhere; links to other places than files aren't followed."""
    for line, target in document.links:
        parts = urlsplit(target)
        if parts.scheme or parts.netloc:
            continue
        path = document.path if not parts.path else document.path.parent / unquote(parts.path)
        if path.is_dir() and parts.fragment:
            path /= "README.md"  # what is shown of a folder
        if not path.exists():
            yield f"{document.path.name}:{line}: {target}: there is no such file"
        elif parts.fragment and path.suffix == ".md" and unquote(parts.fragment) not in read_document(path).anchors:
            yield f"{document.path.name}:{line}: {target}: no heading there has this anchor"


def file_faults(document: Document, root: Path) -> Iterator[str]:
    """Each path from the project's root, in code within sentences, that isn't there."""
    for code in document.code:
        named = code.language is None and _FILE.fullmatch(code.text)
        if named and not (root / code.text).exists():
            yield f"{document.path.name}:{code.line}: {code.text}: there is no such file"

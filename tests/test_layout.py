"""Arrows between packages point one way: docs/decisions/0001-layout.md."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

import sn_deploy

ROOT: Final = Path(sn_deploy.__file__).parent

# From the bottom up. A package knows those of the rows above its own. The modules beside the packages know one another
# and no package.
LEVELS: Final = (
    ("runtime",),
    ("graph",),
    ("capture",),
    ("nn",),
    ("recognise",),
    ("checkpoint", "compare", "models"),
    ("fuse", "inspection"),
    ("check",),
    ("calibrate", "diff", "doctor", "engine", "inline", "onnx_export", "optimise", "precision", "serve", "specialise"),
    ("cli",),
)
_LEVEL: Final = {package: level for level, packages in enumerate(LEVELS) for package in packages}


@pytest.mark.parametrize("package", ["", *_LEVEL])
def test_a_package_knows_only_those_below_it(package: str) -> None:
    files = (ROOT / package).rglob("*.py") if package else set(ROOT.glob("*.py")) - {ROOT / "__init__.py"}
    wrong = [
        f"{file.relative_to(ROOT)} imports {name}"
        for file in files
        if file.name != "__main__.py"
        for name in _packages_imported(file)
        if name != package and not _LEVEL[name] < _LEVEL.get(package, 0)
    ]
    assert not wrong


def test_every_package_has_its_level() -> None:
    assert {file.parent.name for file in ROOT.glob("*/__init__.py")} == set(_LEVEL)


def _packages_imported(file: Path) -> Iterator[str]:
    """Those of ours that are imported anywhere in a file, in functions and for types too."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        names = [alias.name for alias in node.names] if isinstance(node, (ast.Import, ast.ImportFrom)) else []
        if isinstance(node, ast.ImportFrom):
            names = [f"{node.module}.{name}" for name in names]
        for name in names:
            first, _, rest = name.partition(".")
            own = rest.partition(".")[0]
            if first == "sn_deploy" and own in _LEVEL:
                yield own

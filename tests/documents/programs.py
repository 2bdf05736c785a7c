"""What documents say of the project's other programs: scripts, extras for pip, settings for CMake, targets for make."""

from __future__ import annotations

import ast
import functools
import re
from collections.abc import Iterator, Sequence
from importlib.metadata import metadata
from pathlib import Path

from tests.documents.shell import ELLIPSIS

ROOT = Path(__file__).parents[2]
_FOLDERS = ("tools", "benchmarks", "examples")


def faults(words: Sequence[str]) -> Iterator[str]:
    """What a command names that isn't there. Programs of others are taken as they are."""
    program, *rest = words
    if program == "python" and rest:
        yield from _python_faults(rest)
    elif program == "pip" or (program == "python" and rest[:2] == ["-m", "pip"]):
        yield from _pip_faults(rest)
    elif program == "cmake":
        yield from _setting_faults([word[2:].partition("=")[0] for word in rest if word.startswith("-D")])
    elif program == "make":
        known = re.findall(r"^([\w-]+(?: [\w-]+)*):(?!=)", (ROOT / "Makefile").read_text(), re.MULTILINE)
        for word in rest:
            if re.fullmatch(r"[a-z][\w-]*", word) and word not in " ".join(known).split():
                yield f"there is no target {word!r} in the Makefile"


def _python_faults(words: list[str]) -> Iterator[str]:
    path = ROOT / words[0]
    if words[0] == "-m" and len(words) > 1 and words[1].split(".")[0] in _FOLDERS:
        path, words = ROOT / f"{words[1].replace('.', '/')}.py", words[1:]
    elif not re.fullmatch(rf"(?:{'|'.join(_FOLDERS)})/[\w/]+\.py", words[0]):
        return
    if not path.is_file():
        yield f"there is no {path.relative_to(ROOT)}"
        return
    known = script_options(path)
    for word in words[1:]:
        option = word.strip("[]").partition("=")[0]
        if option.startswith("--") and option not in known:
            yield f"{path.name} has no option {option}"


@functools.cache
def script_options(path: Path) -> frozenset[str]:
    """What a script, or a module of the project that it imports, adds to a parser, by its source."""
    found = {"--help"}
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "add_argument":
            for argument in node.args:
                if isinstance(argument, ast.Constant) and str(argument.value).startswith("--"):
                    found |= {str(argument.value), f"--no-{str(argument.value)[2:]}"}
        if isinstance(node, ast.ImportFrom) and node.module is not None:
            for folder in (ROOT, path.parent):
                module = folder / f"{node.module.replace('.', '/')}.py"
                if module != path and module.parent.name in _FOLDERS and module.is_file():
                    found |= script_options(module)
    return frozenset(found)


def all_script_options() -> frozenset[str]:
    """Of all of the project's scripts."""
    scripts = [path for folder in _FOLDERS for path in (ROOT / folder).glob("*.py")]
    return frozenset().union(*(script_options(path) for path in scripts))


def _pip_faults(words: list[str]) -> Iterator[str]:
    known = metadata("sn-deploy").get_all("Provides-Extra") or []
    for word in words:
        for extra in re.findall(r"[\w-]+", (re.fullmatch(r"(?:sn-deploy|\.|.*\.whl)\[(.*)\]", word) or ["", ""])[1]):
            if extra not in known:
                yield f"there is no extra {extra!r}"
    yield from _setting_faults([word.split(".", 2)[2].partition("=")[0] for word in words if "cmake.define." in word])


def _setting_faults(names: list[str]) -> Iterator[str]:
    for name in names:
        if name != "NAME" and ELLIPSIS not in name and not name.startswith("CMAKE_") and name not in _cmake_names():
            yield f"CMake has no setting {name!r}"


@functools.cache
def _cmake_names() -> frozenset[str]:
    files = [*(ROOT / "plugins").rglob("*.cmake"), *(ROOT / "plugins").rglob("CMakeLists.txt")]
    return frozenset(name for file in files for name in re.findall(r"\b[A-Z][A-Z_]+\b", file.read_text()))

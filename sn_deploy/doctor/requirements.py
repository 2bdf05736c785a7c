"""The versions that this package asks for, from its own metadata."""

from __future__ import annotations

import importlib.metadata
import re


def declared_ranges() -> dict[str, tuple[str, str]]:
    """(lowest, below) by normalised distribution name; ``''`` where there is no such limit.

    Empty where the package is run from its sources and not installed.
    """
    try:
        requirements = importlib.metadata.requires("sn-deploy") or []
    except importlib.metadata.PackageNotFoundError:
        return {}
    ranges = {}
    for requirement in requirements:
        specifiers = requirement.partition(";")[0]
        name = re.match(r"[A-Za-z0-9._-]+", specifiers)
        # An extra of ours asks for others of ours: not a library.
        if name is not None and normalised(name.group()) != "sn-deploy":
            lowest, below = (re.search(rf"{sign}\s*([0-9.]+)", specifiers) for sign in (">=", "<"))
            ranges[normalised(name.group())] = (lowest.group(1) if lowest else "", below.group(1) if below else "")
    return ranges


def range_problem(version: str, limits: tuple[str, str]) -> str:
    """What is wrong with a version, or ``''``."""
    lowest, below = limits
    if lowest and _release(version) < _release(lowest):
        return f"is older than {lowest}, the oldest version that is supported"
    if below and _release(version) >= _release(below):
        return f"is not supported yet: below {below} is"
    return ""


def installed_distributions(names: tuple[str, ...]) -> dict[str, str]:
    """The versions of those of ``names`` that are installed."""
    found = {}
    for name in names:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def normalised(name: str) -> str:
    """A distribution's name as the index compares it: ``onnx_ir`` is ``onnx-ir``."""
    return re.sub(r"[-_.]+", "-", name).lower()


def _release(version: str) -> tuple[int, ...]:
    """``2.15.0+cu130`` -> (2, 15); without trailing zeros, so that 2.8 is 2.8.0."""
    leading = re.match(r"[0-9]+(\.[0-9]+)*", version)
    numbers = [int(part) for part in leading.group().split(".")] if leading else []
    while numbers and numbers[-1] == 0:
        numbers.pop()
    return tuple(numbers)

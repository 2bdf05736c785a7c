"""What a row is: a model, what it needs, and how it is run."""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import torch

# What `tools.rows.table` shows of a row: see `tools.rows.measure.measure` for the keys.
Figures = dict[str, Any]


@dataclass(frozen=True)
class Place:
    """Where a row runs.

    Attributes:
        repositories: the folder that holds clones of the public repositories, by their own names.
        scratch: an empty folder for the row's files.
        effort: how many samples, as a factor of each row's own number.
    """

    repositories: Path
    scratch: Path
    effort: float = 1.0

    def samples(self, count: int) -> int:
        """The row's own number of samples, by the effort asked for; at least 3, a batch and one alone."""
        return max(3, round(count * self.effort))


@dataclass(frozen=True)
class Row:
    """One row of the table.

    Attributes:
        number: of its task in docs/models.md.
        task: such as ``ImageNet``.
        name: of the model, unique.
        needs: repositories (folders in `Place.repositories`), files there, Python packages (``python:torchvision``).
        run: gives the figures.
    """

    number: int
    task: str
    name: str
    needs: tuple[str, ...]
    run: Callable[[Place], Figures]

    def missing(self, place: Place) -> list[str]:
        """What it needs and isn't there."""
        return [need for need in self.needs if not _is_there(need, place.repositories)]


def _is_there(need: str, repositories: Path) -> bool:
    if need.startswith("python:"):
        return importlib.util.find_spec(need.removeprefix("python:")) is not None
    return (repositories / need).exists()


@contextlib.contextmanager
def authors_code(*folders: Path, stand_ins: Mapping[str, ModuleType] | None = None) -> Iterator[None]:
    """Imports from ``folders`` first, and forgets afterwards what came from there: their modules share names.

    Args:
        folders: the roots that the authors' own scripts import from.
        stand_ins: modules that their code imports and doesn't use, by name.
    """
    before = dict(sys.modules)
    sys.path[:0] = [str(folder) for folder in folders]
    sys.modules.update(stand_ins or {})
    importlib.invalidate_caches()
    try:
        yield
    finally:
        del sys.path[: len(folders)]
        roots = tuple(str(folder) for folder in folders)
        for name, module in list(sys.modules.items()):
            if str(getattr(module, "__file__", None) or "").startswith(roots) or name in (stand_ins or {}):
                del sys.modules[name]
                if name in before:
                    sys.modules[name] = before[name]


def replace_modules(model: torch.nn.Module, kind: type, make: Callable[[Any], torch.nn.Module]) -> None:
    """Puts ``make(module)`` in the place of each module of that very class."""
    for parent in list(model.modules()):
        for name, child in list(parent.named_children()):
            if type(child) is kind:
                setattr(parent, name, make(child))

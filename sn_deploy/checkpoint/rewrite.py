"""A checkpoint with some of its tensors replaced: the same keys and wrapping, so that what loaded it still does.

`save_state_dict` writes a state dict alone. A user's checkpoint often has more around it (the epoch, an optimizer) and
other names inside (``module.``); whoever loads it expects them.
"""

from __future__ import annotations

import copy
import os
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import safetensors
import torch

from sn_deploy.atomic import atomic_output
from sn_deploy.checkpoint.files import read_file
from sn_deploy.checkpoint.save import SAFETENSORS_SUFFIX, check_suffix, save_state_dict
from sn_deploy.checkpoint.state_dicts import StateDict, select
from sn_deploy.errors import SnDeployError
from sn_deploy.input_file import check_is_path, utf8_path
from sn_deploy.python_words import naming_arguments


class Base(Protocol):
    """Tensors to write again with some of them changed: those of a `Checkpoint`, or a `ModelState`."""

    @property
    def tensors(self) -> dict[str, torch.Tensor]: ...

    def write(self, changed: Mapping[str, torch.Tensor], path: str | os.PathLike[str]) -> list[str]: ...


@dataclass(frozen=True, eq=False)
class ModelState:
    """The state dict of a model that brings its own weights."""

    model: torch.nn.Module

    @property
    def tensors(self) -> dict[str, torch.Tensor]:
        """Its tensors."""
        return dict(self.model.state_dict())

    def write(self, changed: Mapping[str, torch.Tensor], path: str | os.PathLike[str]) -> list[str]:
        """As `Checkpoint.write`; leaves nothing out."""
        versions = getattr(self.model.state_dict(), "_metadata", None)
        save_state_dict({**self.tensors, **changed}, path, versions=versions)
        return []


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """A checkpoint as it was read.

    Attributes:
        path: the file.
        tree: all that is in it.
        state: the state dict that was chosen, by the model's names.
        text: a .safetensors file's own metadata; empty for other formats.
    """

    path: Path
    tree: Any
    state: StateDict
    text: dict[str, str]

    @property
    def tensors(self) -> dict[str, torch.Tensor]:
        """The tensors by the model's names; memory-mapped where the format allows it: don't write to them."""
        return self.state.tensors

    def write(self, changed: Mapping[str, torch.Tensor], path: str | os.PathLike[str]) -> list[str]:
        """Writes the checkpoint with ``changed`` tensors, by the model's names; whole or not at all.

        Args:
            changed: the new tensors; one that the state dict lacks is added beside its module's others.
            path: .safetensors, .pth, .pt or .ckpt; may be the checkpoint's own. A .safetensors file holds the state
                dict alone, under the names that it has in the checkpoint.

        Returns:
            What the new file leaves out: keys of the checkpoint.

        Raises:
            SnDeployError: another suffix, a tensor without a place, or the file can't be written.
        """
        check_suffix(path)
        renamed = {self._own_name(name): tensor.detach().cpu() for name, tensor in changed.items()}
        if Path(path).suffix.lower() == SAFETENSORS_SUFFIX:
            inner = _at(self.tree, self.state.path)
            tensors = {name: value for name, value in inner.items() if isinstance(value, torch.Tensor)}
            save_state_dict({**tensors, **renamed}, path, metadata=self.text)
            return _others(self.tree, self.state.path)
        tree = _replaced(self.tree, self.state.path, renamed)
        # Not by name: torch writes the name of the file, a temporary one, into it.
        with atomic_output(path) as temporary, temporary.open("wb") as file:
            torch.save(tree, file)
        return []

    def _own_name(self, name: str) -> str:
        """The name in the file; that of a tensor it lacks follows from the other tensors of its module."""
        names = self.state.names
        if name in names:
            return names[name]
        module, _, last = name.rpartition(".")
        for other, own in names.items():
            if other.rpartition(".")[0] == module:
                return "".join((*own.rpartition(".")[:2], last))
        raise SnDeployError(f"has no tensor of {module!r} beside which to put {name!r}", where=str(self.path))


@naming_arguments()
def read_whole_checkpoint(
    path: str | os.PathLike[str], *, match: Collection[str], key: str | None = None
) -> Checkpoint:
    """A checkpoint with all that is in it; arguments and errors as in `sn_deploy.checkpoint.read_checkpoint`."""
    check_is_path(path, "the checkpoint")
    file = Path(path)
    tree = read_file(file)
    state = select(tree, where=str(file), key=key, match=match)
    text: dict[str, str] = {}
    if file.suffix.lower() == SAFETENSORS_SUFFIX:
        with safetensors.safe_open(utf8_path(file), framework="pt") as opened:
            text = dict(opened.metadata() or {})
    return Checkpoint(file, tree, state, text)


def _at(tree: Any, path: tuple[str, ...]) -> Any:
    for name in path:
        tree = tree[name]
    return tree


def _replaced(tree: Any, path: tuple[str, ...], changed: Mapping[str, torch.Tensor]) -> Any:
    """A copy of the dicts along ``path``, whose last one has the changed tensors; all else is shared."""
    # Not dict(…): a state dict carries torch's versions as an attribute.
    fresh = copy.copy(tree)
    if path:
        fresh[path[0]] = _replaced(tree[path[0]], path[1:], changed)
    else:
        fresh.update(changed)
    return fresh


def _others(tree: Any, path: tuple[str, ...]) -> list[str]:
    """Keys of what isn't a tensor of the dict at ``path``, outermost first."""
    left = []
    for depth in range(len(path)):
        left += [".".join((*path[:depth], name)) for name in _at(tree, path[:depth]) if name != path[depth]]
    inner = _at(tree, path)
    return left + [".".join((*path, name)) for name, value in inner.items() if not isinstance(value, torch.Tensor)]

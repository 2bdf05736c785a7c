"""State dicts written to files that `read_checkpoint` and ``torch.load`` read."""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import safetensors.torch
import torch

from sn_deploy.atomic import atomic_output
from sn_deploy.errors import SnDeployError
from sn_deploy.input_file import check_is_path

PYTORCH_SUFFIXES: Final = (".pth", ".pt", ".ckpt")
SAFETENSORS_SUFFIX: Final = ".safetensors"


def check_suffix(path: str | os.PathLike[str]) -> None:
    """Refuses a name whose suffix is no format for a state dict.

    Raises:
        SnDeployError: it isn't.
    """
    check_is_path(path, "the checkpoint to write")
    suffix = Path(path).suffix.lower()
    if suffix not in (SAFETENSORS_SUFFIX, *PYTORCH_SUFFIXES):
        raise SnDeployError(
            f"{suffix or 'no suffix'} is no format for a checkpoint",
            where=str(path),
            expected=" or ".join((SAFETENSORS_SUFFIX, *PYTORCH_SUFFIXES)),
        )


def save_state_dict(
    tensors: Mapping[str, torch.Tensor],
    path: str | os.PathLike[str],
    *,
    metadata: Mapping[str, str] | None = None,
    versions: Mapping[str, Any] | None = None,
) -> None:
    """Writes a plain state dict, whole or not at all; the same tensors give the same bytes.

    Args:
        tensors: by name; on any device, perhaps sharing memory.
        path: .safetensors, or .pth, .pt or .ckpt for ``torch.save``'s format.
        metadata: text for a safetensors file; the other format has no place for it. More than one key would be written
            in an order that changes from run to run.
        versions: torch's versions by module name (``state_dict()._metadata``), which only its own format keeps.

    Raises:
        SnDeployError: another suffix, or the file can't be written.
    """
    check_suffix(path)
    # Copies: safetensors refuses shared memory, and torch.save writes the whole storage that a view is part of.
    dense = torch.contiguous_format
    copies = {name: tensor.detach().cpu().clone(memory_format=dense) for name, tensor in tensors.items()}
    with atomic_output(path) as temporary:
        if Path(path).suffix.lower() == SAFETENSORS_SUFFIX:
            safetensors.torch.save_file(copies, temporary, metadata=dict(metadata or {}) or None)
            return
        state: OrderedDict[str, torch.Tensor] = OrderedDict(copies)
        if versions:
            state._metadata = OrderedDict(versions)  # type: ignore[attr-defined]
        # Not by name: torch writes the name of the file, a temporary one, into it.
        with temporary.open("wb") as file:
            torch.save(state, file)

"""Damaged checkpoints and samples through their readers, guided by coverage: formats are changed as what they are.

    python -m tools.fuzz_checkpoints [LIBFUZZER'S OPTIONS] CORPUS

A part of tools/soak.py, which gives it the limits. It needs atheris, which `make soak` brings. What is done, and what a
fault is, stands in tools/checkpoint_readers.py.
"""

from __future__ import annotations

import random
import sys
import warnings
from pathlib import Path
from typing import Final

import atheris

from tools.guided import check_guided, instrumented

# Of torch, which has 750 modules, those that read a checkpoint and take it into a model.
_TORCH: Final = ("_tensor", "_utils", "_weights_only_unpickler", "nn.modules.module", "serialization", "storage")
_READERS: Final = ["sn_deploy", "safetensors", *(f"torch.{name}" for name in _TORCH), "numpy.lib", "zipfile"]
with instrumented(_READERS):
    from sn_deploy.checkpoint import read_checkpoint
    from tools.checkpoint_readers import another, forbid, take, whole_cases

import torch  # noqa: E402

BYTES_SHARE: Final = 0.1  # of the inputs, changed by libFuzzer itself


def mutate(data: bytes, max_size: int, seed: int) -> bytes:
    """Another case of the same kind."""
    draw = random.Random(seed)
    if data and draw.random() >= BYTES_SHARE:
        made = another(data, draw)
        if len(made) <= max_size:
            return made
    return bytes(atheris.Mutate(data, max_size))


def one_input(data: bytes) -> None:
    """Takes one case; what it raises is a fault."""
    take(data)


def main() -> None:
    """The command."""
    warnings.simplefilter("ignore")
    check_guided(read_checkpoint)
    check_guided(torch.serialization._load)
    folder = Path(sys.argv[-1])
    for name, case in whole_cases().items():
        (folder / name).write_bytes(case)
    torch.set_num_threads(1)
    sys.addaudithook(forbid)
    atheris.Setup(sys.argv, one_input, custom_mutator=mutate)
    atheris.Fuzz()


if __name__ == "__main__":
    main()

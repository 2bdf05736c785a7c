"""Damaged checkpoints and samples through their readers: what tools/fuzz_checkpoints.py gives to atheris.

    python -m tools.checkpoint_readers COUNT [SEED]

does the same without atheris, on COUNT files drawn by chance. A case is a byte that says which file it is (`KINDS`) and
the file, changed by tools/hostile_files.py. A reader has to read it or refuse it in its own words, and nothing that is
in it may be run: an audit hook keeps a file from starting a program, opening a connection or loading a library, and
the case has failed then. Exit code 0: none did. 1: one did, and is named by its number.
"""

from __future__ import annotations

import os
import random
import sys
import tempfile
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch

from sn_deploy.calibrate.partial import merge_parts
from sn_deploy.check.data.arrays import open_arrays
from sn_deploy.checkpoint import load_into, read_checkpoint
from sn_deploy.errors import SnDeployError
from sn_deploy.inspection.checkpoint_file import layers_from_checkpoint
from sn_deploy.nn import SwitchNorm2d
from sn_deploy.runtime.tensors import TensorInfo
from tools.hostile_files import changed
from tools.soak_documents import make_checkpoints, make_samples

FOLDER: Final = Path(tempfile.mkdtemp())
IMAGE: Final = TensorInfo("image", ("N", 3, 8, 8), np.dtype(np.float32))
MODEL: Final = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), SwitchNorm2d(4), torch.nn.ReLU())
# What no reader does.
FORBIDDEN: Final = frozenset(
    {"os.system", "os.exec", "os.posix_spawn", "os.fork", "subprocess.Popen", "pty.spawn", "socket.connect",
     "socket.bind", "ctypes.dlopen", "webbrowser.open", "shutil.rmtree"}
)  # fmt: skip


def _checkpoint(path: Path) -> None:
    read_checkpoint(path, match=MODEL.state_dict())
    load_into(MODEL, path, strict=False)


def _samples(path: Path) -> None:
    samples = open_arrays(path, [IMAGE], None)
    samples.load(0, len(samples))


def _part(path: Path) -> None:
    merge_parts([path])


# Name of a whole file (tools/soak_documents.py) -> what reads it.
KINDS: Final[tuple[tuple[str, tuple[Callable[[Path], Any], ...]], ...]] = (
    ("net.pth", (_checkpoint, layers_from_checkpoint)),
    ("old.pth", (_checkpoint, layers_from_checkpoint)),
    ("net.safetensors", (_checkpoint, layers_from_checkpoint)),
    ("sums.npz", (_part,)),
    ("data.npz", (_samples,)),
    ("x.npy", (_samples,)),
)
ran: list[str] = []


def forbid(event: str, arguments: tuple[object, ...]) -> None:
    """The audit hook: keeps what is forbidden from happening, and remembers it."""
    if event in FORBIDDEN:
        ran.append(f"{event}{arguments!r:.200}")
        raise PermissionError(event)


def whole_cases() -> dict[str, bytes]:
    """A whole file of each kind, as a case."""
    before = Path.cwd()
    with tempfile.TemporaryDirectory() as name:
        os.chdir(name)
        try:
            make_samples()
            make_checkpoints()
            return {kind: bytes([number]) + Path(kind).read_bytes() for number, (kind, _) in enumerate(KINDS)}
        finally:
            os.chdir(before)


def take(case: bytes) -> bool:
    """Takes one case, and tells whether a reader has read it; what it raises is a fault."""
    if not case:
        return False
    name, readers = KINDS[case[0] % len(KINDS)]
    path, was_read = FOLDER / name, False
    path.write_bytes(case[1:])
    for read in readers:
        try:
            read(path)
            was_read = True
        except SnDeployError:
            pass
        if ran:
            raise RuntimeError(f"{name} has run {ran}")
    return was_read


def another(case: bytes, draw: random.Random) -> bytes:
    """Another case of the same kind."""
    return case[:1] + changed(KINDS[case[0] % len(KINDS)][0], case[1:], draw)


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; returns the exit code."""
    given = sys.argv[1:] if arguments is None else list(arguments)
    count, seed = int(given[0]), int(given[1]) if len(given) > 1 else 0
    warnings.simplefilter("ignore")
    whole = list(whole_cases().values())
    sys.addaudithook(forbid)
    ended: Counter[bool] = Counter()
    faults = 0
    for number in range(count):
        draw = random.Random(f"{seed}/{number}")
        case = whole[number % len(whole)]
        for _ in range(draw.choice((1, 1, 2, 3))):
            case = another(case, draw)
        try:
            ended[take(case)] += 1
        except Exception as error:  # noqa: BLE001 (it is what is looked for)
            faults += 1
            print(f"case {number}: {''.join(traceback.format_exception(error)[-3:])}")
            ran.clear()
    print(f"{count} damaged files: {ended[True]} read, {ended[False]} refused, {faults} faults")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())

"""Commands that are killed while they work: what lies there then is the old file or the whole new one.

    python -m tools.soak_kills COUNT [SEED]

Each case runs a command over the result of an earlier run, in a process of its own, and kills it with SIGKILL at a
moment drawn from the time that it takes, half of them from its end, in which files are written. The commands come in
turns: fuse, specialise, export, calibrate and, where tritonclient is installed or TRITON_TEST_ROOT names where `make
triton` put it, serve. A file must then be the old one or the new one to the byte, a repository for Triton hold whole
versions only. What a killed command may leave beside it is hidden
(`.NAME-…`), and nothing reads it. Exit code 0: all held. 1: one didn't, and is named by its number.
"""

from __future__ import annotations

import importlib
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import torch

from sn_deploy.cli import main as command_line
from tools.triton_client import triton_client

NET: Final = """
import torch
from torch import nn
from sn_deploy.nn import SwitchNorm2d


def net(seed=0):
    torch.manual_seed(int(seed))
    layers = [nn.Conv2d(3, 64, 3), SwitchNorm2d(64), nn.ReLU(), nn.Conv2d(64, 256, 3), SwitchNorm2d(256), nn.ReLU()]
    return nn.Sequential(*layers).eval()
"""
# Imported before the cases, which are forks: so that kills fall on the work and not on Python's imports.
IMPORTS: Final = (
    "sn_deploy.onnx_export", "sn_deploy.fuse.run", "sn_deploy.specialise.run", "sn_deploy.calibrate.calibration",
    "sn_deploy.serve.run", "onnxruntime", "torch.onnx", "onnxscript",
)  # fmt: skip
EXPORT: Final = ("export", "--model", "small.py:net", "--input", "2x3x16x16")
CALIBRATE: Final = ("calibrate", "--model", "small.py:net", "--data", "x.npy")
REPOSITORIES: Final = "repository"


@dataclass(frozen=True)
class Command:
    """Two command lines that write the same output with other content."""

    old: Sequence[str]
    new: Sequence[str]
    output: str

    @property
    def name(self) -> str:
        """The command's own."""
        return self.old[0]


def commands() -> list[Command]:
    """Those that can run here."""
    exports = [(*EXPORT, "--model-arg", f"seed={seed}") for seed in (0, 1)]
    found = [
        Command(("fuse", "a.onnx", "-o", "f.onnx"), ("fuse", "b.onnx", "-o", "f.onnx"), "f.onnx"),
        Command(("specialise", "c.onnx", "-o", "s.onnx"), ("specialise", "d.onnx", "-o", "s.onnx"), "s.onnx"),
        Command((*exports[0], "-o", "e.onnx"), (*exports[1], "-o", "e.onnx"), "e.onnx"),
        Command(
            (*CALIBRATE, "--checkpoint", "a.pth", "-o", "n.pth"),
            (*CALIBRATE, "--checkpoint", "b.pth", "-o", "n.pth"),
            "n.pth",
        ),
    ]
    if triton_client():
        serve = ("serve", "triton", "c.onnx", "-o", REPOSITORIES, "--name", "net", "--max-batch", "0")
        found.append(Command(serve, serve, REPOSITORIES))
    return found


def make_files() -> None:
    """What the commands read."""
    Path("small.py").write_text(NET, encoding="utf-8")
    np.save("x.npy", np.random.default_rng(0).standard_normal((8, 3, 16, 16)).astype(np.float32))
    namespace: dict[str, object] = {}
    exec(NET, namespace)
    for seed, (plain, own, checkpoint) in enumerate((("a.onnx", "c.onnx", "a.pth"), ("b.onnx", "d.onnx", "b.pth"))):
        seeded = ("--model-arg", f"seed={seed}")
        whole((*EXPORT, *seeded, "-o", own))
        whole((*EXPORT, *seeded, "--inline", "-o", plain))
        torch.save(namespace["net"](seed).state_dict(), checkpoint)  # type: ignore[operator]


def start(line: Sequence[str]) -> int:
    """Runs a command line in a fork of this process; its number."""
    process = os.fork()
    if process:
        return process
    try:
        sink = os.open("said.txt", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(sink, 1)
        os.dup2(sink, 2)
        command_line(list(line))
        os._exit(0)
    except SystemExit as stop:
        sys.stdout.flush()
        os._exit(int(stop.code or 0))
    finally:
        os._exit(70)


def whole(line: Sequence[str]) -> float:
    """Lets a command line run to its end; how long that took, in seconds."""
    begin = time.monotonic()
    _, status = os.waitpid(start(line), 0)
    if status:
        raise RuntimeError(f"{' '.join(line)}: {status}: {Path('said.txt').read_text(errors='replace')[-500:]}")
    return time.monotonic() - begin


class Kills:
    """A command's file, its two contents, and how kills of it end."""

    def __init__(self, command: Command) -> None:
        self.command = command
        self.prepare()
        self.seconds = whole(command.new)

    def prepare(self) -> None:
        """Makes both contents."""
        self.output = Path(self.command.output)
        whole(self.command.new)
        self.new = self.output.read_bytes()
        whole(self.command.old)
        self.old = self.output.read_bytes()
        if self.old == self.new:
            raise RuntimeError(f"{self.command.name}: both results are the same")

    def reset(self) -> None:
        """Puts the old content back."""
        self.output.write_bytes(self.old)

    def found(self) -> str:
        """What lies there now: ``old`` or ``new``.

        Raises:
            ValueError: neither.
        """
        found = self.output.read_bytes()
        if found not in (self.old, self.new):
            raise ValueError(f"{len(found)} bytes, neither old nor new")
        return "new" if found == self.new else "old"

    def kill(self, draw: random.Random) -> str:
        """One case: ``old`` or ``new``.

        Raises:
            ValueError: what lies there is neither, or something else lies there, too.
        """
        self.reset()
        before = visible()
        moment = draw.uniform(0, 1.2) if draw.random() < 0.5 else draw.uniform(0.75, 1.2)
        process = start(self.command.new)
        time.sleep(moment * self.seconds)
        os.kill(process, signal.SIGKILL)
        os.waitpid(process, 0)
        ended = self.found()
        if more := sorted(name for name in visible() - before if not name.startswith(f"{REPOSITORIES}/")):
            raise ValueError(f"beside it lies {more}")
        return ended


class RepositoryKills(Kills):
    """A folder of models, to which a version is added: the same for each of its files, and for a version as a whole."""

    def prepare(self) -> None:
        """The folder with one version, and with two."""
        self.output, self.one = Path(REPOSITORIES), Path(".one")
        shutil.rmtree(self.output, ignore_errors=True)
        whole(self.command.old)
        shutil.copytree(self.output, self.one)
        self.old_files = files_of(self.output)
        whole(self.command.new)
        self.new_files = files_of(self.output)
        self.reset()

    def reset(self) -> None:
        """Puts the folder with one version back."""
        shutil.rmtree(self.output)
        shutil.copytree(self.one, self.output)

    def found(self) -> str:
        """``old`` without the second version; with it ``new``, and then all that it needs is there.

        What is outside versions' folders is for all of them and written first; the manifests come last.

        Raises:
            ValueError: a file that is neither the old nor the new one, a version that isn't whole.
        """
        files = files_of(self.output)
        for name, content in files.items():
            if content not in (self.old_files.get(name), self.new_files.get(name)):
                raise ValueError(f"{name}: {len(content)} bytes, neither old nor new")
        added = {name for name in self.new_files if name.startswith("net/")}
        is_new = any(name.startswith("net/2/") for name in files)
        missing = (added if is_new else self.old_files.keys()) - files.keys()
        if missing:
            raise ValueError(f"{sorted(missing)[0]} is missing")
        if is_new and files["net/config.pbtxt"] != self.new_files["net/config.pbtxt"]:
            raise ValueError("the second version is there, and config.pbtxt is the old one")
        whole(self.command.new)  # it goes on from there
        return "new" if is_new else "old"


def files_of(folder: Path) -> dict[str, bytes]:
    """Name -> content of all files in a folder that aren't hidden."""
    found = (path for path in sorted(folder.rglob("*")) if path.is_file())
    names = {path.relative_to(folder): path for path in found}
    return {
        str(name): path.read_bytes()
        for name, path in names.items()
        if not any(part.startswith(".") for part in name.parts)
    }


def visible() -> set[str]:
    """All files, but for those in or with hidden names."""
    found = (path for path in Path().rglob("*") if path.is_file() and path.name != "said.txt")
    return {str(path) for path in found if not any(part.startswith((".", "__pycache__")) for part in path.parts)}


def run(count: int, seed: int, *, only: Sequence[str] = ()) -> tuple[Counter[str], list[str]]:
    """How the cases ended, by command, and the faults. The process must have used no threads: it forks."""
    for name in IMPORTS:
        importlib.import_module(name)
    torch.set_num_threads(1)
    ended: Counter[str] = Counter()
    faults, before = [], Path.cwd()
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder) / "work"
        work.mkdir()
        os.chdir(work)
        try:
            make_files()
            wanted = [command for command in commands() if not only or command.name in only]
            kinds = [(RepositoryKills if one.output == REPOSITORIES else Kills)(one) for one in wanted]
            for number in range(count):
                kind = kinds[number % len(kinds)]
                try:
                    ended[f"{kind.command.name} {kind.kill(random.Random(f'{seed}/{number}'))}"] += 1
                except (ValueError, OSError, RuntimeError) as error:
                    faults.append(f"kill {number}, {kind.command.name}: {error}")
        finally:
            os.chdir(before)
    return ended, faults


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; returns the exit code."""
    given = sys.argv[1:] if arguments is None else list(arguments)
    count, seed = int(given[0]), int(given[1]) if len(given) > 1 else 0
    ended, faults = run(count, seed)
    for fault in faults:
        print(fault)
    told = ", ".join(f"{name} {times}" for name, times in sorted(ended.items()))
    print(f"{count} kills, {len(faults)} faults; what lay there: {told}")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())

"""Gives exported, inlined and specialised files to other runtimes and tools: docs/guides/interoperability.md.

    python -m tools.interoperability FOLDER [--only NAME …]

Each program is installed alone into FOLDER and run in a process of its own, on copies, since some write over what they
read. Outputs are held against PyTorch in float64; a file that a tool has changed is run in ONNX Runtime. Prints a line
for each program and file: the relative L2 error, or what it said. Those are for reading: it exits with 0. onnx2tf needs
Python 3.12, onnx-tf 3.11 at most.
"""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from torch import nn

import sn_deploy
from sn_deploy.errors import SnDeployError
from sn_deploy.inline import inline
from sn_deploy.models.digits import load_pretrained
from sn_deploy.nn import SwitchNorm2d, SwitchNorm3d
from sn_deploy.runtime.ort import OrtSession
from sn_deploy.specialise import specialise
from tools.interop_programs import RUNTIMES, TOOLS

Array = np.ndarray[Any, np.dtype[Any]]

_MOST_SECONDS: Final = 300
# What a program that is run leaves of itself: its answer, or the last line that it said.
_MAIN: Final = """
import sys
import numpy
{code}
if len(sys.argv) == 4:
    numpy.save(sys.argv[3], numpy.asarray(run(sys.argv[1], numpy.load(sys.argv[2]))))
else:
    change(sys.argv[1], sys.argv[2])
"""


class _Volumes(nn.Module):
    """(N, 2, D, H, W) to five logits."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.norm = nn.Conv3d(2, 8, 3, padding=1), SwitchNorm3d(8)
        self.classifier = nn.Linear(8, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.norm(self.conv(x)))
        return self.classifier(nn.functional.adaptive_avg_pool3d(x, 1).flatten(1))


class _Specialised(nn.Module):
    """(N, 3, H, W) to maps; two layers use all statistics, the one between them no variance of its input."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.norm = nn.Conv2d(3, 8, 3, padding=1), SwitchNorm2d(8)
        self.second, self.second_norm = nn.Conv2d(8, 8, 3, padding=1), SwitchNorm2d(8)
        self.third, self.third_norm = nn.Conv2d(8, 8, 3, padding=1), SwitchNorm2d(8)
        with torch.no_grad():
            self.second_norm.mean_weight.copy_(torch.tensor([200.0, 200.0, 0.0]))
            self.second_norm.var_weight.copy_(torch.tensor([0.0, 0.0, 200.0]))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.second_norm(self.second(self.norm(self.conv(x))))
        return self.third_norm(self.third(x))


def make_files(folder: Path) -> dict[str, tuple[Path, Array, Array]]:
    """Name -> the file, its input, and PyTorch's output in float64."""
    nets = {"images": (load_pretrained(), (1, 1, 8, 8)), "volumes": (_Volumes().eval(), (1, 2, 4, 6, 6))}
    files = {}
    for name, (net, shape) in nets.items():
        x = torch.rand(shape, generator=torch.Generator().manual_seed(1))
        with torch.no_grad():
            wanted = net.double()(x.double()).numpy()
        exported = folder / f"{name}.onnx"
        sn_deploy.export(net.float(), x, exported, trust_statistics=True)
        files[f"{name}, exported"] = (exported, x.numpy(), wanted)
        for what, opset in (("inlined", None), ("inlined, opset 17", 17)):
            path = folder / f"{name}.{opset or 'inlined'}.onnx"
            inline(exported, path, opset=opset)
            files[f"{name}, {what}"] = (path, x.numpy(), wanted)
    return files | _with_open_axes(folder, *files["volumes, exported"][1:]) | _specialised(folder)


def _with_open_axes(folder: Path, x: Array, wanted: Array) -> dict[str, tuple[Path, Array, Array]]:
    exported = folder / "open.onnx"
    sn_deploy.export(
        _Volumes().eval(), torch.from_numpy(x), exported, trust_statistics=True, dynamic=["batch", "spatial"]
    )
    files = {}
    for what, opset in (("inlined", None), ("inlined, opset 17", 17)):
        path = folder / f"open.{opset or 'inlined'}.onnx"
        inline(exported, path, opset=opset)
        files[f"volumes of any size, {what}"] = (path, x, wanted)
    return files


def _specialised(folder: Path) -> dict[str, tuple[Path, Array, Array]]:
    net = _Specialised().eval()
    x = torch.rand((1, 3, 12, 10), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        wanted = net.double()(x.double()).numpy()
    path = folder / "specialised.onnx"
    sn_deploy.export(net.float(), x, path, trust_statistics=True)
    specialise(path, path)
    return {"specialised": (path, x.numpy(), wanted)}


def environment(folder: Path, name: str, packages: Sequence[str]) -> Path:
    """The Python of a program's own environment, made where it isn't there."""
    own = folder / re.sub(r"\W+", "-", name)
    python = own / "bin" / "python"
    if not (own / "complete").exists():
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(own)], check=True)
        subprocess.run([str(python), "-m", "pip", "install", "--quiet", "numpy", *packages], check=True)
        (own / "complete").touch()
    return python


def call(python: Path, code: str, *arguments: Path) -> str | None:
    """Runs a program; what it said last where it failed."""
    command = [str(python), "-c", _MAIN.format(code=code), *map(str, arguments)]
    folder = arguments[0].parent
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_MOST_SECONDS, cwd=folder, check=False)
    except subprocess.TimeoutExpired:
        return f"takes more than {_MOST_SECONDS} s"
    said = [line for line in done.stderr.splitlines() if line.strip()] or ["no message"]
    told = [line for line in said if "rror" in line]  # some end with other words
    return None if done.returncode == 0 and arguments[-1].exists() else (told or said)[-1].strip()[:150]


def error_of(found: Array, wanted: Array) -> str:
    """Relative L2; a batch of one may be left out."""
    if found.size != wanted.size:
        return f"has the shape {found.shape}"
    return f"{np.linalg.norm(found.reshape(wanted.shape) - wanted) / np.linalg.norm(wanted):.1e}"


def outcomes(folder: Path, only: Sequence[str]) -> Iterator[tuple[str, str, str]]:
    """Program, file, what came of it."""
    chosen = {
        name: program
        for name, program in {**RUNTIMES, **TOOLS}.items()
        if not only or any(word.lower() in name.lower() for word in only)
    }
    with tempfile.TemporaryDirectory() as scratch:
        files = make_files(Path(scratch))
        for name, (packages, code) in chosen.items():
            try:
                python = environment(folder, name, packages)
            except subprocess.CalledProcessError:
                yield name, "", "can't be installed"
                continue
            for file, (path, x, wanted) in files.items():
                if (name in TOOLS and "inlined" in file) or (name in RUNTIMES and file == "specialised"):
                    continue
                with tempfile.TemporaryDirectory() as own:
                    copy = Path(own) / "model.onnx"
                    shutil.copy(path, copy)
                    yield name, file, (_changed if name in TOOLS else _run)(python, code, copy, x, wanted)


def _run(python: Path, code: str, path: Path, x: Array, wanted: Array) -> str:
    given, output = path.with_name("x.npy"), path.with_name("y.npy")
    np.save(given, x)
    said = call(python, code, path, given, output)
    return said or error_of(np.load(output), wanted)


def _changed(python: Path, code: str, path: Path, x: Array, wanted: Array) -> str:
    target = path.with_name("changed.onnx")
    said = call(python, code, path, target)
    if said is not None:
        return said
    try:
        with OrtSession(target, threads=1, native=False) as session:
            (found,) = session.run({session.inputs[0].name: x}).values()
    except SnDeployError as error:
        return f"the changed file: {error.what[:150]}"
    return error_of(found, wanted)


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, metavar="FOLDER")
    parser.add_argument("--only", nargs="+", default=(), metavar="NAME", help="programs whose name has one of these")
    options = parser.parse_args(arguments)
    options.folder.mkdir(parents=True, exist_ok=True)
    for name, file, outcome in outcomes(options.folder.resolve(), options.only):
        print(f"{name:30} {file:36} {outcome}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())

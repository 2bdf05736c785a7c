"""What tools/gpu_check.py needs that no GPU makes: put into one folder ahead, small enough to be carried.

The folder gets ``nets`` (the ONNX files of the benchmarks in every precision, calibrated, without the weights that are
drawn by a rule; the demo's images), ``build`` (the libraries and programs of a build folder) and ``site`` (packages of
plain Python that the machine may lack). What is there already isn't made again.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path

from tools.gpu_parts import KERNELS, LAUNCHES, ORT_CUDA, TENSORRT, TRIAL, TRIAL_PLUGINS
from tools.parts import ROOT

NETS, BUILD, SITE = "nets", "build", "site"
PACKAGES = ("polygraphy",)
LARGEST_MB = 60.0  # that is said to be small


def prepare(folder: Path, build: Path | None, nets: Sequence[str]) -> int:
    """Fills the folder, and says what is in it; the exit code."""
    folder.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, str(ROOT / "benchmarks/gpu_engines.py"), "--make-files", "--files", str(folder / NETS)]
    done = subprocess.run([*command, *(["--nets", *nets] if nets else [])], cwd=ROOT, check=False)
    if done.returncode:
        print("error: the nets' files can't be made", file=sys.stderr)
        return 1
    missing = copy_build(build, folder / BUILD) if build is not None else [f"{BUILD}: --build names none"]
    missing += copy_packages(folder / SITE)
    for line in missing:
        print(f"not there: {line}")
    size = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()) / 1e6
    print(f"{folder}: {size:.1f} MB" + ("" if size < LARGEST_MB else f", more than {LARGEST_MB:.0f}"))
    return 0


def copy_build(build: Path, target: Path) -> list[str]:
    """The files of a build folder that the checks load or run; what isn't there is returned, a line each."""
    missing = []
    for name in (KERNELS, TRIAL, LAUNCHES, ORT_CUDA, *TENSORRT, *TRIAL_PLUGINS):
        if not (build / name).is_file():
            missing.append(f"{build / name}")
            continue
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(build / name, target / name)
    return missing


def copy_packages(target: Path) -> list[str]:
    """The packages of plain Python that are installed here; what isn't is returned."""
    missing = []
    for package in PACKAGES:
        try:
            files = metadata.distribution(package).files or []
        except metadata.PackageNotFoundError:
            missing.append(f"the package {package}")
            continue
        for file in files:
            if ".." in file.parts or file.suffix == ".pyc":
                continue  # commands, and what this Python compiled
            (target / file).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(str(file.locate()), target / file)
    return missing

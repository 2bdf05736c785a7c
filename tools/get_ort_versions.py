"""Installs real ONNX Runtimes, the newest of each minor version from 1.18 on, each alone in a folder.

    python tools/get_ort_versions.py ROOT

For tools/ort_matrix.py: Triton's releases carry different versions. ROOT/VERSION holds one, ROOT/numpy1 and ROOT/numpy2
what they were built for, for the Python that runs this. Each is fetched once and left alone afterwards.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from sn_deploy.errors import SnDeployError
from tools.get_tensorrt import once, run

OLDEST: Final = (1, 18)
# Built before NumPy 2.
_WITH_NUMPY_1: Final = (1, 18)


def versions() -> list[str]:
    """The newest release of each minor version from 1.18 on that there is for this Python.

    Raises:
        SnDeployError: pip can't tell.
    """
    text = run([sys.executable, "-m", "pip", "index", "versions", "onnxruntime"])
    match = re.search(r"Available versions: (.*)", text)
    if match is None:
        raise SnDeployError("pip lists no versions of onnxruntime")
    newest: dict[tuple[int, int], str] = {}
    for version in match[1].split(", "):  # newest first
        numbers = version.split(".")
        minor = (int(numbers[0]), int(numbers[1]))
        if minor >= OLDEST:
            newest.setdefault(minor, version)
    return [newest[minor] for minor in sorted(newest)]


def install(root: Path, version: str) -> list[Path]:
    """The folders of packages that a process needs to import this version."""
    numbers = tuple(int(part) for part in version.split(".")[:2])
    numpy = "numpy<2" if numbers <= _WITH_NUMPY_1 else "numpy>=2"
    folders = {root / version: f"onnxruntime=={version}", root / ("numpy1" if numpy == "numpy<2" else "numpy2"): numpy}
    for folder, requirement in folders.items():
        # Its other dependencies are for tools that come with it.
        once(folder, lambda target, requirement=requirement: _install(target, requirement))  # type: ignore[misc]
    return list(folders)


def _install(target: Path, requirement: str) -> None:
    run([sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(target), requirement])


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("root", type=Path, metavar="ROOT")
    options = parser.parse_args(arguments)
    try:
        for version in versions():
            install(options.root.resolve(), version)
    except SnDeployError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())

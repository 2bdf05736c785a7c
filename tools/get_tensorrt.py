"""Brings what the tests of the TensorRT plugin need to a machine without TensorRT, CUDA or a GPU.

    python tools/get_tensorrt.py ROOT [--only headers libraries bindings cuda]

Afterwards ROOT holds, for both major versions, ``ROOT/10`` and ``ROOT/11``, and for the oldest version that is allowed,
``ROOT/10.6``, for which nothing is built:

- ``include``: TensorRT's headers (cargo; the package trtx-sys carries them), of the major versions,
- ``lib``: the real libnvinfer and libnvonnxparser (Maven; 1.5 GB for each version while it is unpacked),
- ``python``: TensorRT's own Python bindings for the Python that runs this (pip),

and ``ROOT/cuda``, a CUDA compiler with its headers and runtime (pip). It is for tests: who uses TensorRT installs it as
NVIDIA says. Each part is fetched once and left alone afterwards; a part that broke off is fetched again.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from sn_deploy.errors import SnDeployError


@dataclass(frozen=True)
class Release:
    """One version of TensorRT: the packages that carry its parts (their minor versions differ a little)."""

    name: str
    headers: str | None  # version of the crate trtx-sys; None: the plugin that runs there is built with another's
    libraries: str  # version of org.bytedeco:tensorrt
    bindings: str  # version of tensorrt-cu13 and tensorrt-cu13-bindings
    cuda: str = "13"  # the CUDA that these are for


RELEASES = (
    Release("10", "0.4.0", "10.15-1.5.13", "10.15.1.29"),
    Release("10.6", None, "10.6-1.5.11", "10.6.0.post2", cuda="12"),
    Release("11", "0.9.1+rtx1.7", "11.2-1.5.14", "11.2.1.2"),
)
# nvcc, its device headers and the runtime of one minor version: a newer compiler fails on older headers. And
# compute-sanitizer (14 MB), which tools/gpu_check.py runs where a GPU is.
CUDA = "cuda-toolkit[nvcc,cudart,cccl,sanitizer]==13.0.*"

MANIFEST = """\
[package]
name = "headers"
version = "0.0.0"
edition = "2021"
[lib]
path = "lib.rs"
[dependencies]
trtx-sys = "={version}"
"""


def run(command: Sequence[str], **options: object) -> str:
    """Runs a command and returns what it printed.

    Raises:
        SnDeployError: if the program is missing or fails, with the end of what it said.
    """
    program = shutil.which(command[0])
    if program is None:
        raise SnDeployError(f"the program {command[0]} was not found", mend=f"install {command[0]}")
    result = subprocess.run([program, *command[1:]], capture_output=True, text=True, **options)  # type: ignore[call-overload]
    if result.returncode != 0:
        tail = " ".join((result.stderr or result.stdout).split())[-400:]
        raise SnDeployError(f"exited with {result.returncode}: {tail}", where=" ".join(command[:3]))
    return str(result.stdout)


def fetch_headers(release: Release, target: Path) -> None:
    """Copies the headers of one version out of the crate that carries them."""
    with tempfile.TemporaryDirectory() as scratch:
        Path(scratch, "Cargo.toml").write_text(MANIFEST.format(version=release.headers))
        Path(scratch, "lib.rs").touch()
        metadata = json.loads(run(["cargo", "metadata", "--format-version", "1"], cwd=scratch))
    manifest = next(package["manifest_path"] for package in metadata["packages"] if package["name"] == "trtx-sys")
    found = sorted((Path(manifest).parent / "TensorRT-Headers").glob(f"TRT-Enterprise-{release.name}.*"))
    if len(found) != 1:
        raise SnDeployError(f"trtx-sys {release.headers} has no headers of TensorRT {release.name}")
    shutil.copytree(found[0], target)


def fetch_libraries(release: Release, target: Path) -> None:
    """Unpacks the shared libraries that the plugin registry and the ONNX parser live in."""
    with tempfile.TemporaryDirectory(dir=target.parent) as scratch:
        artifact = f"org.bytedeco:tensorrt:{release.libraries}:jar:linux-x86_64-redist"
        run(["mvn", "-q", "dependency:copy", f"-Dartifact={artifact}", f"-DoutputDirectory={scratch}"], cwd=scratch)
        (jar,) = Path(scratch).glob("*.jar")
        target.mkdir()
        with zipfile.ZipFile(jar) as archive:
            for member in archive.infolist():
                name = Path(member.filename).name
                # The builder's kernels (240 MB) are of use only where an engine can be built, on a GPU.
                if ".so" in name and "builder_resource" not in name:
                    with archive.open(member) as source, (target / name).open("wb") as sink:
                        shutil.copyfileobj(source, sink)


def fetch_bindings(release: Release, target: Path) -> None:
    """Installs TensorRT's Python modules, without the libraries that they would bring."""
    name = f"tensorrt-cu{release.cuda}"
    packages = [f"{name}-bindings=={release.bindings}", f"{name}=={release.bindings}"]
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(target), *packages]
    # Older ones are built from source, and start a pip of their own for what --no-deps leaves out.
    run(command, env={**os.environ, "NVIDIA_TENSORRT_DISABLE_INTERNAL_PIP": "1"})


def fetch_cuda(target: Path) -> None:
    """Installs nvcc and CUDA's headers and runtime."""
    run([sys.executable, "-m", "pip", "install", "--quiet", "--target", str(target), CUDA])


def once(target: Path, fetch: Callable[[Path], None]) -> None:
    """Fetches into a folder beside `target` and moves it there when it is whole."""
    if target.exists():
        print(f"{target}: there already")
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f"{target.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    fetch(partial)
    partial.rename(target)
    print(f"{target}: fetched")


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; returns the exit code."""
    parts = ("headers", "libraries", "bindings", "cuda")
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("root", type=Path, metavar="ROOT")
    parser.add_argument("--only", nargs="+", choices=parts, default=parts)
    options = parser.parse_args(arguments)
    try:
        for release in RELEASES:
            home = options.root.resolve() / release.name
            if "headers" in options.only and release.headers is not None:
                once(home / "include", lambda target, release=release: fetch_headers(release, target))  # type: ignore[misc]
            if "libraries" in options.only:
                once(home / "lib", lambda target, release=release: fetch_libraries(release, target))  # type: ignore[misc]
            if "bindings" in options.only:
                once(home / "python", lambda target, release=release: fetch_bindings(release, target))  # type: ignore[misc]
        if "cuda" in options.only:
            once(options.root.resolve() / "cuda", fetch_cuda)
    except SnDeployError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""Brings what the tests of `sn-deploy serve` need to a machine without Docker: a real Triton, its clients, and Ray.

    python tools/get_triton.py ROOT [--only server client]

Afterwards ROOT holds

- ``server``: the program tritonserver 2.51 with its Python backend, out of the wheel nvidia-pytriton, and the packages
  of that backend's own interpreter: NumPy below 2 (with a newer one tensors come back empty, without an error) and
  ONNX Runtime, by which the tests stand in for Triton's ONNX Runtime backend, which no wheel carries;
- ``client``: what the extras ``triton`` and ``ray`` bring, PyYAML and the schemas of Kubernetes.

Both are folders of packages for the Python that runs this, 3.10 to 3.12, and for PYTHONPATH. The clients want older
versions of packages that others of the project have newer: so they aren't in the project's own environment. Each part
is fetched once and left alone afterwards; a part that broke off is fetched again.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from sn_deploy.errors import SnDeployError
from tools.get_tensorrt import once, run

WHEEL = "nvidia-pytriton==0.7.0"
INTERPRETER = ("numpy<2", "onnxruntime>=1.18")
CLIENT = ("tritonclient[grpc,http]>=2.41", "ray[data]>=2.40", "pyyaml>=6", "kubernetes-validate>=1.31")


def pip_install(target: Path, *requirements: str) -> None:
    """Installs packages into a folder.

    Raises:
        SnDeployError: pip fails.
    """
    run([sys.executable, "-m", "pip", "install", "--quiet", "--target", str(target), *requirements])


def fetch_server(target: Path) -> None:
    """Installs Triton and puts its Python backend together."""
    pip_install(target, "--no-deps", WHEEL)
    pip_install(target, *INTERPRETER)
    home = target / "pytriton" / "tritonserver"
    stub = home / "python_backend_stubs" / f"3.{sys.version_info.minor}" / "triton_python_backend_stub"
    if not stub.is_file():
        raise SnDeployError(
            f"{WHEEL} has no Python backend for Python 3.{sys.version_info.minor}", expected="3.10 to 3.12"
        )
    shutil.copy(stub, home / "backends" / "python")
    (home / "bin" / "tritonserver").chmod(0o755)
    (home / "backends" / "python" / stub.name).chmod(0o755)


def fetch_client(target: Path) -> None:
    """Installs the clients and what validates manifests."""
    pip_install(target, *CLIENT)


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; returns the exit code."""
    parts = {"server": fetch_server, "client": fetch_client}
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("root", type=Path, metavar="ROOT")
    parser.add_argument("--only", nargs="+", choices=list(parts), default=list(parts))
    options = parser.parse_args(arguments)
    try:
        for part in options.only:
            once(options.root.resolve() / part, parts[part])
    except SnDeployError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())

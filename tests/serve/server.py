"""A real Triton on loopback, with ports of its own, stopped at the end."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sysconfig
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Final

SHIM: Final = Path(__file__).with_name("onnxruntime_backend.py")
READY_S: Final = 60


def free_ports(count: int) -> list[int]:
    """Ports of loopback that nobody listens on."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]
    finally:
        for one in sockets:
            one.close()


class Triton:
    """A started server.

    Args:
        root: the folder of `tools/get_triton.py`.
        repository: of models.
        scratch: an empty folder for its backends and its log.
        more: further arguments.
    """

    def __init__(self, root: Path, repository: Path, scratch: Path, *more: str) -> None:
        self.http, self.grpc, self.metrics = free_ports(3)
        self.log = scratch / "triton.log"
        self._process: subprocess.Popen[bytes] | None = None
        command = [str(program(root)), *arguments(root, scratch), f"--model-repository={repository}"]
        for name in ("http", "grpc", "metrics"):
            command += [f"--{name}-port={getattr(self, name)}", f"--{name}-address=127.0.0.1"]
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(
                [*command, *more], stdout=log, stderr=log, env=environment(root), start_new_session=True
            )

    def wait_until_ready(self) -> Triton:
        """Waits.

        Raises:
            RuntimeError: it ended, or takes too long; with its log.
        """
        until = time.monotonic() + READY_S
        while not self.is_ready():
            assert self._process is not None
            if self._process.poll() is not None or time.monotonic() > until:
                self.stop()
                raise RuntimeError(f"Triton isn't ready:\n{self.log.read_text()[-4000:]}")
            time.sleep(0.1)
        return self

    def is_ready(self) -> bool:
        """Whether it says so."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.http}/v2/health/ready", timeout=2) as answer:
                return bool(answer.status == 200)
        except (urllib.error.URLError, OSError):
            return False

    def kill(self) -> None:
        """Ends it and its stubs at once, as a machine that fails does."""
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):  # all of them have ended
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            self._process = None

    def stop(self) -> None:
        """Ends it and its stubs."""
        if self._process is not None:
            self._process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(20)
            self.kill()

    def __enter__(self) -> Triton:
        return self.wait_until_ready()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()


def program(root: Path) -> Path:
    """Triton's own."""
    return root / "server" / "pytriton" / "tritonserver" / "bin" / "tritonserver"


def arguments(root: Path, scratch: Path) -> Sequence[str]:
    """What tells it of the stand-in for the ONNX Runtime backend."""
    backends = scratch / "backends"
    shutil.copytree(root / "server" / "pytriton" / "tritonserver" / "backends", backends)
    (backends / "onnxruntime").mkdir()
    # The interpreter that Triton embeds doesn't look at PYTHONPATH.
    found_by = f"import sys\n\nsys.path.insert(0, {str(root / 'server')!r})\n"
    (backends / "onnxruntime" / "model.py").write_text(found_by + SHIM.read_text())
    own = f"--backend-config=python,shm-region-prefix-name=sn_deploy_{os.getpid()}_{time.monotonic_ns()}"
    return [f"--backend-directory={backends}", own, "--allow-gpu-metrics=false", "--exit-timeout-secs=1"]


def environment(root: Path) -> dict[str, str]:
    """What its programs find their libraries by."""
    libraries = [str(root / "server" / "nvidia_pytriton.libs"), str(sysconfig.get_config_var("LIBDIR"))]
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "TMPDIR", "LANG") if name in os.environ}
    return {**kept, "LD_LIBRARY_PATH": os.pathsep.join(libraries), "OMP_NUM_THREADS": "1"}

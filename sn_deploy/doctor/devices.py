"""The GPU and its driver, as the system's own tools tell them."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Final

from sn_deploy.doctor.finding import Finding

_QUERY: Final = ("nvidia-smi", "--query-gpu=name,memory.total,driver_version", "--format=csv,noheader")
_KERNEL_MODULE: Final = Path("/proc/driver/nvidia/version")
_RUNS_WITHOUT: Final = "export and ONNX Runtime's CPU provider need none; TensorRT does"


def find_gpu() -> Finding:
    """NVIDIA GPUs, asked of nvidia-smi; the version is the driver's."""
    try:
        done = subprocess.run(
            _QUERY, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace", timeout=60, check=False
        )
    except FileNotFoundError:
        return _without_tool()
    except (OSError, subprocess.TimeoutExpired) as error:
        return Finding("GPU", "broken", "", f"nvidia-smi doesn't answer ({type(error).__name__})", _RESTART)
    rows = [[cell.strip() for cell in line.split(",")] for line in done.stdout.splitlines()]
    rows = [row for row in rows if len(row) == 3]
    if done.returncode or not rows:
        said = " ".join((done.stdout + " " + done.stderr).split())[:200] or f"exit {done.returncode}"
        return Finding("GPU", "broken", "", f"nvidia-smi fails: {said}", _RESTART)
    note = ", ".join(f"{name} ({memory})" for name, memory, _ in rows)
    return Finding("GPU", "ok", rows[0][2], f"{note}; the version is the driver's")


_RESTART: Final = "install the NVIDIA driver again, or restart the machine after its update"


def _without_tool() -> Finding:
    """In containers the tool may be missing where the driver isn't."""
    try:
        driver = re.search(r"Kernel Module\D*([0-9.]+)", _KERNEL_MODULE.read_text(errors="replace"))
    except OSError:
        return Finding("GPU", "optional", "", f"no NVIDIA driver found: {_RUNS_WITHOUT}", "")
    return Finding(
        "GPU",
        "broken",
        driver.group(1) if driver else "",
        "a driver is loaded, but nvidia-smi is missing",
        "in a container: start it with --gpus all, and NVIDIA_DRIVER_CAPABILITIES=compute,utility",
    )

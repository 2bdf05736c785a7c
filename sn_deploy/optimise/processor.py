"""The processor's architecture and the features of it that choose between kernels."""

from __future__ import annotations

import platform
from pathlib import Path
from typing import Final

# Those that ONNX Runtime's kernels and ours are chosen by, as Linux names them; x86-64, then AArch64.
_FEATURES: Final = (
    *("sse4_1", "avx", "f16c", "avx2", "fma", "avx512f", "avx512bw", "avx512dq", "avx512vl", "avx512_bf16", "amx_tile"),
    *("asimd", "asimdhp", "asimddp", "i8mm", "bf16", "sve", "sve2", "sme"),
)


def describe_processor(cpuinfo: Path = Path("/proc/cpuinfo")) -> str:
    """Such as ``x86_64: sse4_1 avx f16c avx2 fma``."""
    present = _flags(cpuinfo)
    features = [feature for feature in _FEATURES if feature in present]
    return f"{platform.machine()}: {' '.join(features) or 'features unknown'}"


def _flags(cpuinfo: Path) -> set[str]:
    try:
        lines = cpuinfo.read_text(encoding="utf-8").splitlines()
    except OSError:
        return set()
    rows = (line.partition(":") for line in lines)
    return next((set(value.split()) for key, _, value in rows if key.strip() in ("flags", "Features")), set())

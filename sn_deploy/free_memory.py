"""How much memory a process may still take, before something is read that may claim any amount."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

_MEMINFO: Final = Path("/proc/meminfo")
# Folder of a container's memory, the files in it of its limit and its use, and what names of its statistics begin with:
# by the two versions of control groups.
_CONTAINER: Final = (
    (Path("/sys/fs/cgroup"), "memory.max", "memory.current", ""),
    (Path("/sys/fs/cgroup/memory"), "memory.limit_in_bytes", "memory.usage_in_bytes", "total_"),
)
_WITHOUT_KNOWLEDGE: Final = 16 << 30  # where the system doesn't tell


def free_memory() -> int:
    """Bytes that this process could still take: of the machine, or of the container that it runs in."""
    free = [_WITHOUT_KNOWLEDGE]
    if found := re.search(r"^MemAvailable:\s*(\d+) kB", _read(_MEMINFO), re.M):
        free = [int(found.group(1)) << 10]
    for folder, limit, used, prefix in _CONTAINER:
        texts = [_read(folder / limit).strip(), _read(folder / used).strip()]
        if all(text.isdecimal() for text in texts):
            # Files that were read count as used, until somebody needs the memory: in the end they fill all of it.
            cached = re.findall(rf"^{prefix}(?:in)?active_file (\d+)$", _read(folder / "memory.stat"), re.M)
            free.append(max(int(texts[0]) - int(texts[1]) + sum(map(int, cached)), 0))
    return min(free)


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError:
        return ""

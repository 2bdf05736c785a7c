"""One fuzzer, and what it did in one line.

    python -m tools.soak_fuzz PROGRAM FOLDER RUNS SECONDS

Runs a libFuzzer program (plugins/*/tests/fuzz_*.cpp), or a module of ours that atheris drives (tools.fuzz_*), until
either limit, from the corpus in FOLDER, which grows. An input that fails is kept beside the corpus and named. Exit code
0: none failed. 1: one did. 2: it can't be run.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Final

# No input takes 10 s or 2 GiB; in Python, with coverage and on a busy machine, 60 s and 6 GiB.
LIMITS: Final = ("-max_len=600", "-timeout=10", "-rss_limit_mb=2048", "-print_final_stats=1")
PYTHON_LIMITS: Final = ("-max_len=65536", "-timeout=60", "-rss_limit_mb=6144", "-print_final_stats=1")
# Where files that are made for each input lie: in memory, where there is such a folder.
MEMORY: Final = Path("/dev/shm")


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; returns the exit code."""
    given = sys.argv[1:] if arguments is None else list(arguments)
    if len(given) != 4 or not (Path(given[0]).is_file() or given[0].startswith("tools.")):
        print("usage: soak_fuzz PROGRAM FOLDER RUNS SECONDS; the program has to be built", file=sys.stderr)
        return 2
    name, folder, runs, seconds = given[0], Path(given[1]), given[2], given[3]
    is_module = name.startswith("tools.")
    program = [sys.executable, "-m", name] if is_module else [str(Path(name).resolve())]
    folder.mkdir(parents=True, exist_ok=True)
    before = {file.name for file in folder.parent.iterdir()}
    limits = [f"-runs={runs}", f"-max_total_time={seconds}", *(PYTHON_LIMITS if is_module else LIMITS)]
    with tempfile.TemporaryDirectory(dir=MEMORY if MEMORY.is_dir() else None) as scratch:
        done = subprocess.run(
            [*program, *limits, folder.name],
            cwd=folder.parent,
            env={**os.environ, "TMPDIR": scratch},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            check=False,
        )
    found = {
        key: re.findall(rf"{key}:\s+(\d+)", done.stdout) for key in ("number_of_executed_units", "peak_rss_mb", "cov")
    }
    if done.returncode != 0 or not all(found.values()):
        kept = sorted({file.name for file in folder.parent.iterdir()} - before)
        print("\n".join(done.stdout.splitlines()[-40:]))
        untold = "".join(f"; it didn't tell {key}" for key, values in found.items() if not values)
        print(f"{Path(name).name}: exit code {done.returncode}{untold}; input: {', '.join(kept) or 'none was kept'}")
        return 1
    executed, memory, edges = (found[key][-1] for key in found)
    print(f"{executed} runs, no crash, no hang; {edges} branches seen, at most {memory} MiB")
    return 0


if __name__ == "__main__":
    sys.exit(main())

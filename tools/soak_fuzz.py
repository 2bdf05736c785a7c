"""One fuzzer, and what it did in one line.

    python -m tools.soak_fuzz PROGRAM FOLDER RUNS SECONDS

Runs a libFuzzer program (plugins/*/tests/fuzz_*.cpp) until either limit, from the corpus in FOLDER, which grows. An
input that fails is kept beside the corpus and named. Exit code 0: none failed. 1: one did. 2: it can't be run.
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

# No input takes 10 s or 2 GiB.
LIMITS = ("-max_len=600", "-timeout=10", "-rss_limit_mb=2048", "-print_final_stats=1")


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; returns the exit code."""
    given = sys.argv[1:] if arguments is None else list(arguments)
    if len(given) != 4 or not Path(given[0]).is_file():
        print("usage: soak_fuzz PROGRAM FOLDER RUNS SECONDS; the program has to be built", file=sys.stderr)
        return 2
    program, folder, runs, seconds = Path(given[0]).resolve(), Path(given[1]), given[2], given[3]
    folder.mkdir(parents=True, exist_ok=True)
    before = {file.name for file in folder.parent.iterdir()}
    command = [program, f"-runs={runs}", f"-max_total_time={seconds}", *LIMITS, folder.name]
    done = subprocess.run(
        command, cwd=folder.parent, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace"
    )
    found = {
        key: re.findall(rf"{key}:\s+(\d+)", done.stdout) for key in ("number_of_executed_units", "peak_rss_mb", "cov")
    }
    if done.returncode != 0 or not all(found.values()):
        kept = sorted({file.name for file in folder.parent.iterdir()} - before)
        print("\n".join(done.stdout.splitlines()[-40:]))
        print(f"{program.name}: exit code {done.returncode}; input: {', '.join(kept) or 'none was kept'}")
        return 1
    executed, memory, edges = (found[key][-1] for key in found)
    print(f"{executed} runs, no crash, no hang; {edges} branches seen, at most {memory} MiB")
    return 0


if __name__ == "__main__":
    sys.exit(main())

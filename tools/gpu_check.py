"""Everything that only a GPU can show, in one call.

    python tools/gpu_check.py OUTPUT [--build FOLDER] [--budget SECONDS] [--only PART …] [--skip PART …]
    python tools/gpu_check.py OUTPUT --dry-run
    python tools/gpu_check.py OUTPUT --rehearse

OUTPUT gets, as it comes: ``gpu_check.json`` (each part's result), ``log.txt`` (what the parts said), ``device.json``
and the benchmarks' figures; and at the end ``gpu_results.json``, all of them but the log in one, which
tools/gpu_report.py makes the tables of docs/performance.md of. Called again with the same OUTPUT it goes on with the
parts that haven't passed, so a run that was ended, or whose budget was spent, is resumed by the same command. The last
lines are a table. --rehearse takes the steps that need no GPU, over the host, wherever it is.

Exit code 0: nothing that ran has failed. 1: something has. 2: there is no GPU, or the call was wrong.

Needs the standard library, and torch to see the GPU; the parts need what they say. ``--build`` (or SN_PLUGIN_BUILD)
names a CMake build folder of ``plugins/``; without one the kernels are compiled here, if nvcc and cmake are there.
docs/guides/gpu.md lists what has to be carried to a machine that can fetch nothing.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # run as a file, from anywhere

from tools.gpu_parts import PARTS
from tools.parts import LEAST_S, ROOT, Part, Place, Result, State, table, take

RESULTS = "gpu_check.json"


def take_all(parts: Sequence[Part], place: Place, state: State, deadline: float) -> None:
    """Runs the parts one after the other, as far as the time goes."""
    no_gpu = ""
    for part in parts:
        left = deadline - time.monotonic()
        if state.results.get(part.name, Result("")).status == "passed":
            print(f"{part.name:14s} passed before", flush=True)
            continue
        if part.name != "device" and no_gpu:
            result = Result("left out", reason=no_gpu)
        elif left < min(LEAST_S, part.limit_s):
            result = Result("left out", reason="the budget is spent: call again to go on")
        else:
            own = replace(place, seconds=min(part.limit_s, left))
            result = take(part, own, state)
            if part.name == "device" and result.status != "passed":
                no_gpu = result.reason if result.reason.startswith("no GPU") else f"no GPU: {result.reason}"
        state.record(part, result)
        print(f"{part.name:14s} {result.status:9s} {result.seconds:6.1f} s  {result.reason[:150]}", flush=True)


def exit_code(parts: Sequence[Part], state: State) -> int:
    """See the top of the file."""
    results = [state.results[part.name] for part in parts if part.name in state.results]
    if any(result.status in ("failed", "timed out") for result in results):
        return 1
    checks = [part for part in parts if part.is_check]
    passed = [part for part in checks if state.results[part.name].status == "passed"]
    return 0 if passed or not checks else 2


def plan(parts: Sequence[Part], place: Place, state: State) -> str:
    """What would be run."""
    rows = []
    for part in parts:
        before = state.results.get(part.name, Result("")).status == "passed"
        verdict = "passed before" if before else part.missing(place) or "would run"
        command = " ".join(part.command(replace(place, seconds=part.limit_s)))
        rows += [f"{part.name:14s} {part.limit_s:4d} s  {part.what}", f"  {verdict}", f"  {command}"]
    return "\n".join(rows)


FIGURES = ("device", "gpu_kernels", "gpu_engines")


def collect(output: Path) -> Path:
    """Puts all results in one file, ``gpu_results.json``; what isn't there yet is left out of it."""
    found: dict[str, object] = {}
    for name in ("gpu_check", *FIGURES):
        try:
            found[name] = json.loads((output / f"{name}.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            continue
    path = output / "gpu_results.json"
    draft = path.with_suffix(".partial")
    draft.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    draft.replace(path)
    return path


def _nothing(place: Place) -> str | None:
    return None


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    names = [part.name for part in PARTS]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("output", type=Path, metavar="OUTPUT")
    parser.add_argument("--build", type=Path, metavar="FOLDER", help="CMake build folder of plugins/")
    parser.add_argument("--budget", type=float, default=540, metavar="SECONDS", help="for all parts (default: 540)")
    parser.add_argument("--only", nargs="+", choices=names, metavar="PART", help=f"of {', '.join(names)}")
    parser.add_argument("--skip", nargs="+", choices=names, default=[], metavar="PART")
    parser.add_argument("--again", action="store_true", help="also the parts that have passed")
    parser.add_argument(
        "--rehearse", action="store_true", help="the parts that the host can stand in for, without a GPU"
    )
    parser.add_argument("--dry-run", action="store_true", help="show what would be run, and what is missing for it")
    options = parser.parse_args(arguments)
    if options.budget <= 0:
        parser.error(f"--budget is {options.budget}; expected seconds above 0")
    return options


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; returns the exit code."""
    options = parse(arguments)
    deadline = time.monotonic() + options.budget
    named = options.build or os.environ.get("SN_PLUGIN_BUILD")
    place = Place(options.output.resolve(), Path(named or ROOT / "build" / "gpu-check").resolve())
    # Whether there is a GPU is asked each time: a later call may be on another machine.
    chosen = [part for part in PARTS if part.name == "device" or part.name in (options.only or [part.name])]
    parts = [part for part in chosen if part.name not in options.skip or part.name == "device"]
    if options.rehearse:
        parts = [
            replace(part, command=part.rehearsal, missing=_nothing) for part in parts if part.rehearsal is not None
        ]
    if options.dry_run:
        print(plan(parts, place, State(place.output / RESULTS)))
        return 0
    try:
        place.output.mkdir(parents=True, exist_ok=True)
        state = State(place.output / RESULTS)
    except (OSError, ValueError, KeyError, TypeError) as error:
        print(f"error: {place.output}: {error}", file=sys.stderr)
        return 2
    state.results = {} if options.again else state.results
    state.results.pop("device", None)
    take_all(parts, place, state, deadline)
    collect(place.output)
    print(table(parts, state))
    return exit_code(parts, state)


if __name__ == "__main__":
    sys.exit(main())

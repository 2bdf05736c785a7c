"""Long runs, sanitizers and fuzzers, in one call: what docs/reliability.md says, measured.

    python tools/soak.py OUTPUT [--build FOLDER] [--short | --long] [--budget SECONDS] [--only PART …] [--skip PART …]
    python tools/soak.py OUTPUT --dry-run

`make soak` builds what it needs and calls it. OUTPUT gets, as it comes: ``soak.json`` (each part's result and figures),
``log.txt`` (what the parts said) and what a fuzzer found. Called again with the same OUTPUT it goes on with the parts
that haven't passed. Each part is a process of its own with a time limit; a new one is an entry in tools/soak_parts.py.

Exit code 0: nothing that ran has failed. 1: something has. 2: the call was wrong, or nothing could run.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # run as a file, from anywhere

from tools.parts import ROOT, Part, Place, Result, State, table, take
from tools.soak_parts import PARTS

RESULTS = "soak.json"
LEAST_S = 20  # with less left, no part is begun


def take_all(parts: Sequence[Part], place: Place, state: State, deadline: float) -> None:
    """Runs the parts one after the other, as far as the time goes."""
    for part in parts:
        if state.results.get(part.name, Result("")).status == "passed":
            print(f"{part.name:14s} passed before", flush=True)
            continue
        left = deadline - time.monotonic()
        if left < LEAST_S:
            result = Result("left out", reason="the budget is spent: call again to go on")
        else:
            result = take(part, replace(place, seconds=min(part.limit_s, left)), state)
        state.record(part, result)
        print(f"{part.name:14s} {result.status:9s} {result.seconds:6.1f} s  {result.reason[:300]}", flush=True)


def exit_code(parts: Sequence[Part], state: State) -> int:
    """See the top of the file."""
    statuses = [state.results[part.name].status for part in parts if part.name in state.results]
    if any(status in ("failed", "timed out") for status in statuses):
        return 1
    return 0 if "passed" in statuses else 2


def plan(parts: Sequence[Part], place: Place) -> str:
    """What would be run."""
    rows = []
    for part in parts:
        rows += [f"{part.name:14s} {part.limit_s:4d} s  {part.what}", f"  {part.missing(place) or 'would run'}"]
        rows.append(f"  {' '.join(part.command(place))}")
    return "\n".join(rows)


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    names = [part.name for part in PARTS]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("output", type=Path, metavar="OUTPUT")
    parser.add_argument(
        "--build", type=Path, metavar="FOLDER", default=ROOT / "build", help="of the CMake build folders"
    )
    forms = parser.add_mutually_exclusive_group()
    forms.add_argument("--short", action="store_true", help="the short form of each part, as CI runs it")
    forms.add_argument("--long", action="store_true", help="all figures of docs/reliability.md: some hours")
    parser.add_argument("--budget", type=float, default=36000, metavar="SECONDS", help="for all parts (default: 36000)")
    parser.add_argument(
        "--only", nargs="+", choices=names, default=names, metavar="PART", help=f"of {', '.join(names)}"
    )
    parser.add_argument("--skip", nargs="+", choices=names, default=[], metavar="PART")
    parser.add_argument("--again", action="store_true", help="also the parts that have passed")
    parser.add_argument("--dry-run", action="store_true", help="show what would be run, and what is missing for it")
    options = parser.parse_args(arguments)
    if options.budget <= 0:
        parser.error(f"--budget is {options.budget}; expected seconds above 0")
    return options


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; returns the exit code."""
    options = parse(arguments)
    deadline = time.monotonic() + options.budget
    form = "short" if options.short else "long" if options.long else "usual"
    place = Place(options.output.resolve(), options.build.resolve(), form=form)
    parts = [part for part in PARTS if part.name in options.only and part.name not in options.skip]
    if options.dry_run:
        print(plan(parts, place))
        return 0
    try:
        place.output.mkdir(parents=True, exist_ok=True)
        state = State(place.output / RESULTS)
    except (OSError, ValueError, KeyError, TypeError) as error:
        print(f"error: {place.output}: {error}", file=sys.stderr)
        return 2
    state.results = {} if options.again else state.results
    take_all(parts, place, state, deadline)
    print(table(parts, state))
    return exit_code(parts, state)


if __name__ == "__main__":
    sys.exit(main())

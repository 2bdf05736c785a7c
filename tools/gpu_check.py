"""Everything that only a GPU can show, in calls that each end by themselves in under ten minutes.

    python tools/gpu_check.py --prepare FOLDER [--build FOLDER]                # ahead, where no GPU is
    python tools/gpu_check.py OUTPUT [--prepared FOLDER] [--build FOLDER]      # on the GPU's machine; again, to go on
    python tools/gpu_check.py OUTPUT --dry-run
    python tools/gpu_check.py OUTPUT --rehearse

OUTPUT gets, as it comes: ``gpu_check.json`` (each part's result), ``log.txt`` (what the parts said), ``device.json``,
the benchmarks' figures and TensorRT's ``timings``; and at the end ``gpu_results.json``, all figures in one, which
tools/gpu_report.py makes the tables of docs/performance.md of. Called again with the same OUTPUT, wherever it was
carried, it goes on with the parts that haven't passed: first those that were never begun, or whose time was up, then
those that failed. A part that is likely to take longer than what is left of --budget isn't begun. The last lines are a
table, and "to be continued" where more is to be done.

--prepare makes what no GPU is needed for: the nets' ONNX files, and copies of what a build folder has. --rehearse takes
the steps of the benchmarks over the host, wherever it is. --try-all asks every part, even without a GPU, so that each
says itself what it lacks.

Exit code 0: nothing that ran has failed. 1: something has. 2: there is no GPU, or the call was wrong.

Needs the standard library, and torch to see the GPU; the parts need what they say. ``--build`` (or SN_PLUGIN_BUILD)
names a CMake build folder of ``plugins/``; without one, and with nothing prepared, the kernels are compiled here, if
nvcc and cmake are there. docs/guides/gpu.md lists what has to be carried to a machine that can fetch nothing.
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
from tools.gpu_prepare import BUILD, prepare
from tools.parts import ROOT, Part, Place, Result, State, table, take

RESULTS = "gpu_check.json"


NO_TIME = "the budget is spent: call again to go on"
FAILED = ("failed", "timed out")


def take_all(parts: Sequence[Part], place: Place, state: State, deadline: float, *, without_gpu: bool = False) -> None:
    """Runs the parts one after the other, as far as the time goes; those that failed before at the end."""
    no_gpu = ""
    for part in sorted(parts, key=lambda part: state.results.get(part.name, Result("")).status in FAILED):
        left = deadline - time.monotonic()
        if state.results.get(part.name, Result("")).status == "passed":
            print(f"{part.name:14s} passed before", flush=True)
            continue
        if part.name != "device" and no_gpu and not without_gpu:
            result = Result("left out", reason=no_gpu)
        elif left < min(part.least_s, part.limit_s):
            before = state.results.get(part.name, Result(""))
            result = before if before.status in (*FAILED, "unfinished") else Result("left out", reason=NO_TIME)
        else:
            own = replace(place, seconds=min(part.limit_s, left))
            result = take(part, own, state)
            if part.name == "device" and result.status != "passed":
                no_gpu = result.reason if result.reason.startswith("no GPU") else f"no GPU: {result.reason}"
        state.record(part, result)
        print(f"{part.name:14s} {result.status:10s} {result.seconds:6.1f} s  {result.reason[:150]}", flush=True)


def to_do(parts: Sequence[Part], state: State) -> list[str]:
    """The parts that another call would go on with."""
    results = {part.name: state.results.get(part.name, Result("")) for part in parts}
    return [name for name, result in results.items() if result.status == "unfinished" or result.reason == NO_TIME]


def exit_code(parts: Sequence[Part], state: State) -> int:
    """See the top of the file."""
    results = {part.name: state.results[part.name] for part in parts if part.name in state.results}
    if any(result.status in FAILED for result in results.values()):
        return 1
    if results.pop("device", Result("passed")).status != "passed":
        return 2
    shown = [results[part.name] for part in parts if part.is_check and part.name in results]
    return 0 if not shown or to_do(parts, state) or any(result.status == "passed" for result in shown) else 2


def plan(parts: Sequence[Part], place: Place, state: State) -> str:
    """What would be run."""
    rows = []
    for part in parts:
        before = state.results.get(part.name, Result("")).status == "passed"
        verdict = "passed before" if before else part.missing(place) or "would run"
        command = " ".join(part.command(replace(place, seconds=part.limit_s)))
        rows += [f"{part.name:14s} {part.limit_s:4d} s  {part.what}", f"  {verdict}", f"  {command}"]
    return "\n".join(rows)


FIGURES = ("device", "gpu_tactics", "gpu_expansions", "gpu_kernels", "gpu_engines", "gpu_fused_engines")


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
    parser.add_argument("output", type=Path, metavar="OUTPUT", nargs="?")
    parser.add_argument("--build", type=Path, metavar="FOLDER", help="CMake build folder of plugins/")
    parser.add_argument("--prepare", type=Path, metavar="FOLDER", help="make what needs no GPU, and end")
    parser.add_argument("--prepared", type=Path, metavar="FOLDER", help="what --prepare made")
    parser.add_argument("--nets", nargs="+", metavar="NET", default=[], help="for --prepare: these alone")
    parser.add_argument("--budget", type=float, default=540, metavar="SECONDS", help="for all parts (default: 540)")
    parser.add_argument("--only", nargs="+", choices=names, metavar="PART", help=f"of {', '.join(names)}")
    parser.add_argument("--skip", nargs="+", choices=names, default=[], metavar="PART")
    parser.add_argument("--again", action="store_true", help="also the parts that have passed")
    parser.add_argument(
        "--rehearse", action="store_true", help="the parts that the host can stand in for, without a GPU"
    )
    parser.add_argument("--try-all", action="store_true", help="without a GPU, too, ask every part what it lacks")
    parser.add_argument("--dry-run", action="store_true", help="show what would be run, and what is missing for it")
    options = parser.parse_args(arguments)
    if (options.output is None) == (options.prepare is None):
        parser.error("expected OUTPUT, or --prepare FOLDER")
    if options.prepared is not None and not options.prepared.is_dir():
        parser.error(f"--prepared {options.prepared}: no such folder")
    if options.budget <= 0:
        parser.error(f"--budget is {options.budget}; expected seconds above 0")
    return options


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; returns the exit code."""
    options = parse(arguments)
    deadline = time.monotonic() + options.budget
    prepared = None if options.prepared is None else options.prepared.resolve()
    named = options.build or os.environ.get("SN_PLUGIN_BUILD")
    if options.prepare is not None:
        return prepare(options.prepare.resolve(), Path(named).resolve() if named else None, options.nets)
    carried = prepared / BUILD if prepared is not None and (prepared / BUILD).is_dir() else None
    build = Path(options.build or carried or named or ROOT / "build" / "gpu-check").resolve()
    place = Place(options.output.resolve(), build, prepared=prepared)
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
    take_all(parts, place, state, deadline, without_gpu=options.try_all)
    collect(place.output)
    print(table(parts, state))
    open_ = to_do(parts, state)
    if open_:
        print(f"\nto be continued by the same command: {', '.join(open_)}")
    return exit_code(parts, state)


if __name__ == "__main__":
    sys.exit(main())

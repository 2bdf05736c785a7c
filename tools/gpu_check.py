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
import signal
import subprocess
import sys
import time
import xml.etree.ElementTree as ElementTree
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # run as a file, from anywhere

from tools.gpu_parts import PARTS, ROOT, UNFINISHED, Part, Place, junit

LEAST_S = 20  # with less left, no part is begun
TAIL_LINES = 12  # of a part that failed, shown at once


@dataclass(frozen=True)
class Result:
    """What came of a part.

    Attributes:
        status: passed, failed, timed out, left out; unfinished, where its time was up and it goes on when it is called
            again; running, in a file whose run was ended.
        seconds: that it took.
        reason: why it was left out or failed; what it counted.
    """

    status: str
    seconds: float = 0.0
    reason: str = ""


class State:
    """The results in OUTPUT, written after every step."""

    def __init__(self, output: Path) -> None:
        self._file = output / "gpu_check.json"
        self.results: dict[str, Result] = {}
        if self._file.exists():
            known = json.loads(self._file.read_text(encoding="utf-8"))
            self.results = {name: Result(**result) for name, result in known["parts"].items()}

    def record(self, part: Part, result: Result) -> None:
        """Keeps it, and writes all of them."""
        self.results[part.name] = result
        text = json.dumps({"parts": {name: asdict(result) for name, result in self.results.items()}}, indent=1)
        draft = self._file.with_suffix(".partial")
        draft.write_text(text + "\n", encoding="utf-8")
        draft.replace(self._file)


def run(command: Sequence[str], place: Place, log: Path) -> tuple[int | None, str]:
    """Runs a command in the project's root; its exit code, None where its time was up, and what it said."""
    paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    own = {"PYTHONPATH": os.pathsep.join(paths), "SN_PLUGIN_BUILD": str(place.build), "PYTHONUNBUFFERED": "1"}
    with log.open("a+", encoding="utf-8", errors="replace") as sink:
        sink.write(f"\n==== {' '.join(command)}\n")
        sink.flush()
        begin = sink.tell()
        try:
            process = subprocess.Popen(
                command,
                cwd=ROOT,
                env={**os.environ, **own},
                stdin=subprocess.DEVNULL,
                stdout=sink,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        except OSError as error:
            return 127, f"{command[0]}: {error.strerror}"
        try:
            code: int | None = process.wait(place.seconds)
        except subprocess.TimeoutExpired:
            code = None
        finally:
            _end(process)
        sink.seek(begin)
        return code, sink.read()


def _end(process: subprocess.Popen[bytes]) -> None:
    """Ends it and all that it started."""
    for order in (signal.SIGTERM, signal.SIGKILL):
        if process.poll() is not None:
            return
        os.killpg(process.pid, order)
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            continue


def last_line(said: str) -> str:
    """Of what a part said."""
    return next((line.strip() for line in reversed(said.splitlines()) if line.strip()), "it said nothing")


def pytest_result(code: int | None, place: Place, said: str) -> tuple[str, str]:
    """Status and reason from pytest's own file."""
    try:
        suites = ElementTree.parse(junit(place)).getroot()
    except (OSError, ElementTree.ParseError):
        return ("timed out" if code is None else "failed"), last_line(said)
    finally:
        junit(place).unlink(missing_ok=True)
    counts = {
        key: sum(int(suite.get(key, 0)) for suite in suites) for key in ("tests", "failures", "errors", "skipped")
    }
    bad = counts["failures"] + counts["errors"]
    passed = counts["tests"] - bad - counts["skipped"]
    reasons = [skip.get("message", "") for skip in suites.iter("skipped")]
    text = f"{passed} passed, {bad} failed, {counts['skipped']} skipped" + (f" ({reasons[0]})" if reasons else "")
    if bad or code not in (0, 5):
        return "failed", text
    return ("passed" if passed else "left out"), text


def result_of(part: Part, code: int | None, place: Place, said: str) -> tuple[str, str]:
    """Status and reason of a part that has ended."""
    if part.is_pytest:
        return pytest_result(code, place, said)
    if code is None:
        return "timed out", f"after {place.seconds:.0f} s; {last_line(said)}"
    # Ours give 2 where something that they need isn't there.
    status = {0: "passed", 2: "left out", UNFINISHED: "unfinished"}.get(code, "failed")
    return status, last_line(said) if status != "failed" else f"exit code {code}: {last_line(said)}"


def take(part: Part, place: Place, state: State) -> Result:
    """Runs one part and records what came of it."""
    missing = part.missing(place)
    if missing is not None:
        return Result("left out", reason=missing)
    state.record(part, Result("running"))
    start = time.monotonic()
    code, said = run(part.command(place), place, place.output / "log.txt")
    seconds = time.monotonic() - start
    status, reason = result_of(part, code, place, said)
    if status in ("failed", "timed out"):
        print("\n".join(["", *said.splitlines()[-TAIL_LINES:], ""]), flush=True)
    return Result(status, round(seconds, 1), reason)


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


def table(parts: Sequence[Part], state: State) -> str:
    """The summary."""
    rows = []
    for part in parts:
        result = state.results.get(part.name, Result("not run"))
        rows.append(f"{part.name:14s} {result.status:9s} {result.seconds:6.1f} s  {part.what}")
    return "\n".join(["", *rows])


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
        print(plan(parts, place, State(place.output)))
        return 0
    try:
        place.output.mkdir(parents=True, exist_ok=True)
        state = State(place.output)
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

"""What tools that run many checks share: parts, each a process of its own with a time limit, and their results."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import time
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

ROOT = Path(__file__).resolve().parents[1]
LEAST_S = 20  # with less left, no part is begun
TAIL_LINES = 12  # of a part that failed, shown at once
UNFINISHED = 3  # exit code of a part whose time was up, and that goes on when it is called again


@dataclass(frozen=True)
class Place:
    """Where a run happens.

    Attributes:
        output: the folder for everything that is written.
        build: the CMake build folder of ``plugins/``, or the folder of several.
        seconds: what the part may take.
        form: how much each part does: ``short`` (some seconds), ``usual``, or ``long`` (all that was ever asked of it).
        prepared: what was made ahead for the run; None where nothing was.
    """

    output: Path
    build: Path
    seconds: float = 0.0
    form: Literal["short", "usual", "long"] = "usual"
    prepared: Path | None = None


@dataclass(frozen=True)
class Part:
    """One step.

    Attributes:
        name: for the command line.
        what: it shows, for people.
        limit_s: after which it is ended.
        least_s: with less than this left of the time for all parts it isn't begun: as long as it is likely to take, or,
            of a part that goes on where it was ended, as long as it needs to get anywhere.
        command: what is run.
        missing: why it can't run here, or None.
        is_check: whether it shows anything; those that prepare don't.
        is_pytest: whether its result is read from what pytest writes.
        rehearsal: what is run in its place where no GPU is; None where nothing could be.
    """

    name: str
    what: str
    limit_s: int
    command: Callable[[Place], Sequence[str]]
    missing: Callable[[Place], str | None] = lambda place: None
    is_check: bool = True
    is_pytest: bool = False
    rehearsal: Callable[[Place], Sequence[str]] | None = None
    least_s: int = LEAST_S


def junit(place: Place) -> Path:
    """Where pytest writes its results; read and removed behind each part."""
    return place.output / "junit.xml"


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
    """The results in a file, written after every step; those of a file that is there are taken up."""

    def __init__(self, file: Path) -> None:
        self._file = file
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


def run(
    command: Sequence[str], place: Place, log: Path, *, end_with: signal.Signals = signal.SIGTERM
) -> tuple[int | None, str]:
    """Runs a command in the project's root; its exit code, None where its time was up, and what it said.

    Args:
        end_with: what it is ended with first, when its time is up.
    """
    carried = [str(place.prepared / "site")] if place.prepared is not None else []
    paths = [str(ROOT), *carried, *filter(None, [os.environ.get("PYTHONPATH")])]
    own = {"PYTHONPATH": os.pathsep.join(paths), "SN_PLUGIN_BUILD": str(place.build), "PYTHONUNBUFFERED": "1"}
    with log.open("a+", encoding="utf-8", errors="replace") as sink:
        sink.write(f"\n==== {' '.join(command)}\n")
        sink.flush()
        begin = sink.tell()
        try:
            with _hears_interrupts():
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
            _end(process, end_with)
        sink.seek(begin)
        return code, sink.read()


@contextlib.contextmanager
def _hears_interrupts() -> Iterator[None]:
    """What is started within it hears Ctrl-C, also where we don't: nothing does that a shell put in the background."""
    deaf = signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    if deaf:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        yield
    finally:
        if deaf:
            signal.signal(signal.SIGINT, signal.SIG_IGN)


def _end(process: subprocess.Popen[bytes], first: signal.Signals) -> None:
    """Ends it and all that it started."""
    for order in dict.fromkeys((first, signal.SIGTERM, signal.SIGKILL)):
        if process.poll() is not None:
            return
        os.killpg(process.pid, order)
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            continue


def last_line(said: str) -> str:
    """Of what a part said; CTest says how long it took behind what came of it."""
    lines = [line.strip() for line in reversed(said.splitlines()) if not line.startswith("Total Test time")]
    return next(filter(None, lines), "it said nothing")


@dataclass(frozen=True)
class Counts:
    """What pytest has counted."""

    passed: int
    bad: int
    skipped: int
    why_skipped: str  # the first of them

    def __str__(self) -> str:
        why = f" ({self.why_skipped})" if self.why_skipped else ""
        return f"{self.passed} passed, {self.bad} failed, {self.skipped} skipped{why}"


def pytest_counts(place: Place) -> Counts | None:
    """From pytest's own file, which is removed; None where it wrote none."""
    try:
        suites = ElementTree.parse(junit(place)).getroot()
    except (OSError, ElementTree.ParseError):
        return None
    finally:
        junit(place).unlink(missing_ok=True)
    counts = {
        key: sum(int(suite.get(key, 0)) for suite in suites) for key in ("tests", "failures", "errors", "skipped")
    }
    bad, skipped = counts["failures"] + counts["errors"], counts["skipped"]
    reasons = [skip.get("message", "") for skip in suites.iter("skipped")]
    return Counts(counts["tests"] - bad - skipped, bad, skipped, reasons[0] if reasons else "")


def result_of(part: Part, code: int | None, place: Place, said: str) -> tuple[str, str]:
    """Status and reason of a part that has ended."""
    counts = pytest_counts(place) if part.is_pytest else None
    if code is None:
        early = place.seconds < part.limit_s
        reached = f"; {counts or last_line(said)}" if counts or not early else ""
        if early:
            return "unfinished", f"the time for all parts was up {place.seconds:.0f} s into it{reached}"
        return "timed out", f"after {place.seconds:.0f} s{reached}"
    if counts is not None:
        status = "failed" if counts.bad or code not in (0, 5) else "passed" if counts.passed else "left out"
        return status, str(counts)
    if part.is_pytest:
        return "failed", last_line(said)
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
    # Of pytest Ctrl-C is the way to have what has failed until then.
    gently = signal.SIGINT if part.is_pytest else signal.SIGTERM
    code, said = run(part.command(place), place, place.output / "log.txt", end_with=gently)
    seconds = time.monotonic() - start
    status, reason = result_of(part, code, place, said)
    if status in ("failed", "timed out"):
        print("\n".join(["", *said.splitlines()[-TAIL_LINES:], ""]), flush=True)
    return Result(status, round(seconds, 1), reason)


def table(parts: Sequence[Part], state: State) -> str:
    """The summary."""
    rows = []
    for part in parts:
        result = state.results.get(part.name, Result("not run"))
        rows.append(f"{part.name:14s} {result.status:9s} {result.seconds:6.1f} s  {part.what}")
    return "\n".join(["", *rows])

"""`reproduce.sh`: the exact command of a check, with the versions and hashes that it was made with."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from sn_deploy.atomic import atomic_output
from sn_deploy.check.result import CheckResult


def write_reproduce(result: CheckResult, path: Path, commands: Sequence[str] = ()) -> None:
    """Writes the script.

    Args:
        commands: what to run; nothing for the result's own command. Parts are run again before they are merged.

    Raises:
        SnDeployError: it can't be written.
    """
    with atomic_output(path) as temporary:
        temporary.write_text(script(result, list(commands) or [result.command]), encoding="utf-8")
    path.chmod(path.stat().st_mode | 0o111)


def script(result: CheckResult, commands: list[str]) -> str:
    """The text of the script."""
    # A line break in what comes from a document must not make a line of its own.
    return "".join(" ".join(line.splitlines()) + "\n" for line in _lines(result, commands))


def _lines(result: CheckResult, commands: list[str]) -> Iterator[str]:
    yield "#!/bin/sh"
    verdict = "passed" if result.passed else "failed"
    yield f"# A check of sn-deploy {result.version}, made {result.created}, that {verdict}."
    yield "# Run it in the folder in which it was made: the paths are as they were typed."
    yield "#"
    versions = {library: version for info in result.backends for library, version in info.versions.items()}
    for name, version in {"sn-deploy": result.version, **versions}.items():
        yield f"#   pip install {name}=={version}"
    for key, value in result.machine.items():
        yield f"#   {key}: {value}"
    yield "set -e"
    hashes = {info.file: info.sha256 for info in result.backends if info.file and info.sha256}
    if result.data.get("file") and result.data.get("sha256"):
        hashes[str(result.data["file"])] = str(result.data["sha256"])
    if hashes:
        yield "# The files that were compared; stops where one is another now."
        yield "sha256sum -c --quiet <<'END'"
        yield from (f"{digest}  {file}" for file, digest in hashes.items())
        yield "END"
    # A check that fails ends with 1, and the parts must all run.
    yield from (f"{command} || [ $? -eq 1 ]" for command in commands[:-1])
    yield commands[-1]


def rerun_commands(parts: Iterable[Mapping[str, Any]], merged: CheckResult) -> list[str]:
    """The commands of all parts, and the merge: only those that call sn-deploy, whatever a document says."""
    typed = [shlex.split(str(part["command"])) for part in parts]
    return [shlex.join(words) for words in typed if words[:1] == ["sn-deploy"]] + [merged.command]


def quoted(arguments: Iterable[str]) -> str:
    """What was typed, quoted for a shell."""
    return shlex.join(["sn-deploy", *arguments])

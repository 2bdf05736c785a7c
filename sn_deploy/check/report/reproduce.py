"""``reproduce.sh``: a script that holds versions and files against those of a check, and runs it again."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from sn_deploy.atomic import atomic_output, check_writable
from sn_deploy.check.report.document import checked_document
from sn_deploy.errors import SnDeployError

# Versions of anything else, such as CUDA's, are no pip requirements.
_DISTRIBUTIONS: Final = frozenset(
    {
        "numpy",
        "onnx",
        "onnxruntime",
        "onnxruntime-gpu",
        "onnxscript",
        "openvino",
        "pillow",
        "sn-deploy",
        "tensorrt",
        "torch",
        "tritonclient",
    }
)
_SCRIPT: Final = "reproduce.sh"
_VERSION: Final = re.compile(r"[0-9][0-9A-Za-z.!_-]*")
_HASH: Final = re.compile(r"[0-9a-f]{64}")

_TEMPLATE: Final = """\
#!/usr/bin/env bash
# Repeats the check that sn-deploy {version} made on {created}. The verdict then: {verdict}.
#
# Without an option it holds versions and files against those of the check, and runs it again.
#
#   --any-version    the same, with whatever versions are installed
#   --requirements   prints the versions as pip requirements, and does nothing else
#
# Run it in the folder in which the check was run: paths are as they were typed there. PYTHON=… names the Python to use.
set -euo pipefail

python=${{PYTHON:-python3}}

requirements() {{
  cat <<'END_OF_REQUIREMENTS'
{requirements}
END_OF_REQUIREMENTS
}}

# A check that fails ends with 1, and what follows needs its result; any other failure ends this.
failed_check() {{
  [ "$1" -eq 1 ] || exit "$1"
}}

case ${{1-}} in
  --requirements) requirements; exit ;;
  --any-version | '') ;;
  *) echo "usage: $0 [--any-version | --requirements]" >&2; exit 2 ;;
esac

if [ "${{1-}}" != --any-version ]; then
  requirements | "$python" -c '
import sys
from importlib import metadata

def installed(name):
    for candidate in (name, name + "-gpu"):
        try:
            return metadata.version(candidate).partition("+")[0]
        except metadata.PackageNotFoundError:
            pass
    return "none"


others = []
for line in sys.stdin.read().split():
    name, _, wanted = line.partition("==")
    if installed(name) != wanted:
        others.append(f"  {{line}} (found {{installed(name)}})")
if others:
    lines = [
        "Other versions than in the check:",
        *others,
        f"Install them with: pip install -r <({{sys.argv[1]}} --requirements)",
        f"or go on all the same with: {{sys.argv[1]}} --any-version",
    ]
    print(*lines, sep="\\n", file=sys.stderr)
    sys.exit(2)
' "$0"
fi
{hashes}
# The commands are those of this Python, wherever it is.
PATH="$("$python" -c 'import sysconfig; print(sysconfig.get_path("scripts"))'):$PATH"
export PATH

{commands}
"""


def script_beside(page: Path) -> Path:
    """Where the script of a report goes: beside it, under a name that no other report's has.

    ``reproduce.sh`` for ``report.html``, else ``NAME.reproduce.sh`` for ``NAME.html``.

    Raises:
        SnDeployError: the page has a script's name.
    """
    if page.name.endswith(_SCRIPT):
        raise SnDeployError("is the name of a script beside a report", where=str(page), expected="FILE.html")
    name = page.stem if page.suffix == ".html" else page.name
    return page.with_name(_SCRIPT if name == "report" else f"{name}.{_SCRIPT}")


def check_script(path: Path) -> None:
    """Refuses a script beside the report that can't be written, or that somebody else wrote: its name isn't the user's
    choice.

    Raises:
        SnDeployError: so it is.
    """
    check_writable(path)
    own = _TEMPLATE.partition("{")[0].encode()
    if path.is_file():
        with path.open("rb") as file:
            if file.read(len(own)) != own:
                raise SnDeployError(
                    "isn't of sn-deploy, and would be overwritten",
                    where=str(path),
                    mend="move it, or write the report to another folder",
                )


def write_reproduce(
    document: Mapping[str, Any], path: str | os.PathLike[str], commands: Sequence[str] | None = None
) -> None:
    """Writes the script, executable.

    Args:
        document: what `sn_deploy.check.result.as_json` gives. Its command, and ``commands``, are one command each,
            quoted for a shell as `shlex.join` does. They are quoted anew: nothing but a call of sn-deploy is written.
        commands: what to run in place of the document's command. All but the last may fail a check.

    Raises:
        SnDeployError: it isn't such a document, a command isn't one of sn-deploy, or the file can't be written.
    """
    text = script_from_document(document, commands)
    with atomic_output(path, executable=True) as temporary:
        # File names may have bytes that are no characters: what Python made of them becomes those bytes again.
        temporary.write_bytes(text.encode("utf-8", "surrogateescape"))


def script_from_document(document: Mapping[str, Any], commands: Sequence[str] | None = None) -> str:
    """The script as text.

    Raises:
        SnDeployError: see `write_reproduce`.
    """
    checked = checked_document(document)  # for the types; below, file names and commands are as they were
    *before, last = [quoted_command(command) for command in commands or [document["command"]]]
    return _TEMPLATE.format(
        version=_one_line(checked["version"]),
        created=_one_line(checked["created"]),
        verdict="passed" if checked["passed"] else "failed",
        requirements="\n".join(requirements(checked)),
        hashes=_hash_check(dict(_hashed_files(document))),
        commands="\n".join([*(f"{command} || failed_check $?" for command in before), f"exec {last}"]),
    )


def quoted_command(command: str) -> str:
    """The command with every word quoted anew, so that a shell does nothing but call sn-deploy.

    Raises:
        SnDeployError: its quotes don't close, or it calls something else.
    """
    try:
        words = shlex.split(command)
    except ValueError as error:
        raise SnDeployError(f"the command can't be read: {error}", where="reproduce.sh") from error
    called = words[:1] == ["sn-deploy"] or (words[1:3] == ["-m", "sn_deploy"] and words[0].startswith("python"))
    if not called:
        raise SnDeployError(
            f"the command calls {words[0] if words else 'nothing'!r}", where="reproduce.sh", expected="sn-deploy …"
        )
    if words[0].startswith("python"):
        return f'"$python" {shlex.join(words[1:])}'
    return shlex.join(words)


def requirements(document: Mapping[str, Any]) -> list[str]:
    """The versions as pip requirements, without the local part (``+cu130``) that no index has."""
    versions = {"sn-deploy": document["version"]}
    for info in document["backends"]:
        versions.update(info["versions"])
    public = {name: str(version).partition("+")[0] for name, version in versions.items()}
    return [
        f"{name}=={version}"
        for name, version in sorted(public.items())
        if name in _DISTRIBUTIONS and _VERSION.fullmatch(version)
    ]


def _hashed_files(document: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for described in (*document["backends"], document["data"]):
        file, digest = described.get("file"), described.get("sha256")
        if isinstance(file, str) and isinstance(digest, str) and _HASH.fullmatch(digest):
            yield file, digest


def _hash_check(files: Mapping[str, str]) -> str:
    if not files:
        return ""
    lines = "\n".join(_hash_line(file, digest) for file, digest in files.items())
    return f"""
sha256sum --check --strict --quiet - >&2 <<'END_OF_HASHES' || {{
{lines}
END_OF_HASHES
  echo "A file is another one than in the check, or isn't here: run this in the folder in which the check was run." >&2
  exit 2
}}
"""


def _hash_line(file: str, digest: str) -> str:
    r"""As sha256sum writes it: a name with a backslash or a line break is escaped, and the line begins with one."""
    escaped = file.replace("\\", "\\\\").replace("\n", "\\n").replace("\r", "\\r")
    return f"{'' if escaped == file else chr(92)}{digest}  {escaped}"


def _one_line(text: str) -> str:
    return " ".join(text.split())

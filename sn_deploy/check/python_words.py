"""Errors of a check in the words of who called it from Python: arguments in the place of the command's options."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from typing import Final

from sn_deploy.errors import SnDeployError

# The others have their options' names.
_ARGUMENTS: Final = {
    "backend": "backends",
    "input": "example_inputs",
    "latency-batch": "Latency, batches",
    "layer-tolerance": "layers",
    "max": "Limits, maxima",
    "max-drop": "Limits, drops",
    "metric": "metrics",
    "min": "Limits, minima",
    "min-speedup": "Latency, speedups",
    "tolerance": "Limits, tolerances",
    "triton": "served",
}
_SHAPE: Final = re.compile(r"--input (?:\[?(?P<name>\w+)=\]?)?(?P<sizes>\d+(?:x\d+)+)")
# An option, and what stands for its value: FILE, none, a number. Not within a path.
_OPTION: Final = re.compile(
    r"(?<![\w/.-])--(?P<name>[a-z][a-z0-9-]*)(?: (?P<value>[A-Z]\S*?|none|batch|\d\S*?)(?=[,;]?(?:\s|$)))?"
)
# What names the command itself is left as it is, to its end.
_COMMAND: Final = "sn-deploy "
_TRACEBACK: Final = "see where with sn-deploy --traceback …"


@contextlib.contextmanager
def naming_arguments() -> Iterator[None]:
    """Puts the errors that leave it into these words."""
    try:
        yield
    except SnDeployError as error:
        mend = "see where in the traceback above" if error.mend == _TRACEBACK else error.mend
        texts = {"where": error.where, "expected": error.expected, "mend": mend}
        named = {field: None if text is None else in_arguments(text) for field, text in texts.items()}
        SnDeployError.__init__(error, in_arguments(error.what), **named)
        raise


def in_arguments(text: str) -> str:
    """A text about options, about arguments: ``--batch-size 1`` as ``batch_size=1``."""
    head, command, rest = text.partition(_COMMAND)
    return _OPTION.sub(_argument, _SHAPE.sub(_example, head)) + command + rest


def _example(match: re.Match[str]) -> str:
    sizes = match["sizes"].replace("x", ", ")
    return f"example_inputs={{{match['name'] or 'NAME'!r}: torch.zeros({sizes})}}"


def _argument(match: re.Match[str]) -> str:
    name = _ARGUMENTS.get(match["name"], match["name"].replace("-", "_"))
    return name if match["value"] is None else f"{name}={match['value']}"

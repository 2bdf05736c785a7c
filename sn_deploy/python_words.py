"""Errors in the words of who called: a Python program gave arguments, where the command line has options.

The texts are written once, about options. A public function is decorated with `naming_arguments`, and what leaves the
outermost one is about its arguments. The command line runs within `naming_options`, and reads the texts as they are.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator, Mapping
from contextvars import ContextVar
from typing import Final, TypeAlias

from sn_deploy.errors import SnDeployError

# An argument, a field of one ("Limits.minima"), or a flag ("run=False"); or one of them, and what it is with a value,
# whose parts between : and = fill the braces.
Name: TypeAlias = str | tuple[str, str]

# Options whose arguments have other names in every function that has them.
_ARGUMENTS: Final[Mapping[str, Name]] = {
    "checkpoint-key": "key",
    "half-io-types": "keep_io_types=False",
    "input": "inputs",
    "model-arg": "its arguments",
}
# Options without a value.
_FLAGS: Final = frozenset(
    {
        *(
            "allow-host-code",
            "check-range",
            "exclude-lean-runtime",
            "external-data",
            "freeze-weights",
            "fuse",
            "inline",
        ),
        *("keep-convolutions", "keep-first", "keep-io-types", "keep-last", "keep-unrecognised", "memory", "native"),
        *("refit", "run", "strict", "strip-weights", "tf32", "trust-statistics", "version-compatible", "warmup"),
    }
)
_TRACEBACK: Final = (
    (re.compile(r"see where with sn-deploy --traceback …"), "see where in the traceback above"),
    (re.compile(r"with --traceback"), "in the traceback above"),
)
# What belongs to a command is left as it is.
_COMMANDS: Final = re.compile(r"(`?sn-deploy [^`]*`?|pip install [^;)]*|nvidia-smi [^;)]*)")
_INPUT: Final = re.compile(
    r"--input (?:\[?(?P<name>[^\s=\[\]]+)=\]?)?(?:(?P<sizes>\d+(?:x\d+)+)(?:, or \[?NAME=\]?FILE\.npy)?|FILE\.npy)"
)
_DATA: Final = re.compile(r"--data (?P<data>\S+) --limit (?P<limit>\d+)")
# What is in memory is called so, with its part behind a comma.
_DATA_ITSELF: Final = re.compile(r"^data(?=,|$)")
_KEY: Final = re.compile(r"with --checkpoint-key '?(?P<key>[^\s']*)'?")
_QUOTED: Final = re.compile("'[^']*'")
_KEPT: Final = re.compile("--keep '[^']*'(?: --keep '[^']*')*")
_PROFILE: Final = re.compile("--min, --opt(?:,| and) --max")
_WORDS: Final = (
    "batch|bf16|cpu|embed|fp8|fp16|fp32|int8|keep|none|random|replace|same-compute-capability|spatial|lib[^ ]+|"
    r"[a-z]\w*/\w+|[a-z]+:[A-Z]+"
)
# An option, and what stands for its value: FILE, none, a number. Not within a path.
_OPTION: Final = re.compile(
    r"(?P<given>with )?(?<![\w/.-])--(?P<name>[a-z][a-z0-9-]*)"
    rf"(?: (?P<value>[A-Z]+(?![a-z])\S*?|\w+=\S+?|\d\S*?|{_WORDS})(?=[,;:)]*(?:\s|$)))?"
)

# None where no public function was called; within the command line, the same object as `_OPTIONS`.
_own_names: ContextVar[Mapping[str, Name] | None] = ContextVar("_own_names", default=None)
_OPTIONS: Final[Mapping[str, Name]] = {}


@contextlib.contextmanager
def naming_options() -> Iterator[None]:
    """The command line: what is said within stays as it is."""
    token = _own_names.set(_OPTIONS)
    try:
        yield
    finally:
        _own_names.reset(token)


@contextlib.contextmanager
def naming_arguments(*shared: Mapping[str, Name], **names: Name) -> Iterator[None]:
    """Decorates a public function: errors that leave it name its arguments.

    Within another one, or the command line, nothing is changed: the words are those of who was called.

    Args:
        shared, names: option, with underscores -> argument, where that hasn't its name.
    """
    if _own_names.get() is not None:
        yield
        return
    own = {option.replace("_", "-"): name for each in (*shared, names) for option, name in each.items()}
    token = _own_names.set(own)
    try:
        yield
    except SnDeployError as error:
        texts: dict[str, str | None] = {"where": error.where, "expected": error.expected, "mend": error.mend}
        named = {field: None if text is None else in_callers_words(text) for field, text in texts.items()}
        if named["where"] is not None and "data" in own:
            named["where"] = _DATA_ITSELF.sub(str(own["data"]), named["where"])
        SnDeployError.__init__(error, in_callers_words(error.what), **named)
        raise
    finally:
        _own_names.reset(token)


def in_callers_words(text: str) -> str:
    """A text about options as it is, or about the arguments of the public function that is running.

    ``--batch-size 1`` is ``batch_size=1`` there.
    """
    own = _own_names.get()
    if own is None or own is _OPTIONS:
        return text
    for pattern, instead in _TRACEBACK:
        text = pattern.sub(instead, text)
    parts = _COMMANDS.split(text)
    return "".join(part if at % 2 else _in_arguments(part, own) for at, part in enumerate(parts))


def _in_arguments(text: str, own: Mapping[str, Name]) -> str:
    text = _KEPT.sub(lambda match: f"keep=[{', '.join(_QUOTED.findall(match[0]))}]", text)
    text = _PROFILE.sub("profiles", text)
    text = _KEY.sub(lambda match: f"with key={match['key']!r}", text)
    text = _DATA.sub(lambda match: _data(match, own.get("data", "data")), text)
    text = _INPUT.sub(lambda match: _example(match, own.get("input", _ARGUMENTS["input"])), text)
    return _OPTION.sub(lambda match: _argument(match, own), text)


def _data(match: re.Match[str], argument: Name) -> str:
    return f"{argument}=DataOptions({match['data']!r}, limit={match['limit']})"


def _example(match: re.Match[str], argument: Name) -> str:
    value = "array" if match["sizes"] is None else f"torch.randn({match['sizes'].replace('x', ', ')})"
    return f"{argument}={{{match['name'] or 'NAME'!r}: {value}}}"


def _argument(match: re.Match[str], own: Mapping[str, Name]) -> str:
    option, value, given = match["name"], match["value"], match["given"] or ""
    negated = option.startswith("no-") and option not in own
    option = option[3:] if negated else option
    known = own.get(option) or _ARGUMENTS.get(option) or option.replace("-", "_")
    name, form = known if isinstance(known, tuple) else (known, None)
    behind = ""
    if negated or (option in _FLAGS and "=" not in name):
        behind = "" if value is None else f" {value}"
        value = str(not negated)
    elif value is not None and form is not None:
        return f"{given}{form.format(*re.split('[:=]', value))}"
    elif value is not None:
        value = _as_python(value)
    elif given and "=" not in name and " " not in name:
        value = "…"  # "give them with --data" names a word that the sentence needs
    if value is None:
        return f"{given}{name}"
    kind, dot, field = name.partition(".")
    return f"{given}{kind}({field}={value}){behind}" if dot else f"{given}{name}={value}{behind}"


def _as_python(value: str) -> str:
    """Words are texts; numbers and what stands for something, FILE, are themselves."""
    is_word = value[0].islower() or any(mark in value for mark in ":/=")
    return repr(value) if is_word else value

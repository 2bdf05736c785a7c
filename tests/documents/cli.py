"""What documents say of ``sn-deploy``'s commands and options, held against its own parser."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

import click

from sn_deploy.cli import cli
from tests.documents.shell import ELLIPSIS

# What stands for a value: FILE, [NAME=]SHAPE, N,N, $part, part$i.
_PLACEHOLDER = re.compile(rf".*[{ELLIPSIS}$\[].*|[A-Z][A-Z0-9_]*(?:[^\w\s]+[A-Z0-9_]+)*")


def command_names() -> list[str]:
    """Of the commands that take options of their own: ``serve triton`` is one, ``serve`` none."""
    context = click.Context(cli)
    names: list[str] = []
    for name in cli.list_commands(context):
        command = cli.get_command(context, name)
        inner = command.list_commands(context) if isinstance(command, click.Group) else []
        names += [f"{name} {one}" for one in inner] or [name]
    return names


def faults(words: Sequence[str], *, whole: bool) -> Iterator[str]:
    """What ``sn-deploy WORDS`` has that it doesn't know: a command, an option, a value, a file too many.

    Args:
        whole: no value is left out; else the last option may stand for itself.
    """
    command: click.Command = cli
    context = click.Context(cli, info_name="sn-deploy")
    left = list(words)
    while isinstance(command, click.Group) and left and not left[0].startswith("-"):
        name = left.pop(0)
        try:
            found = command.get_command(context, name)
        except click.UsageError as error:
            yield error.message
            return
        if found is None:
            yield f"No such command {name!r}."
            return
        command, context = found, click.Context(found, parent=context, info_name=name)
    yield from _option_faults(command, context, left, whole=whole)


def option_faults(words: Sequence[str]) -> list[str]:
    """The same of options without their command: none where one takes them all."""
    of_each = [list(faults([*name.split(), *words], whole=False)) for name in ("", *command_names())]
    if not all(of_each):
        return []
    # What a command says that knows the option, before those that don't.
    return min(of_each, key=lambda found: "No such option" in found[0])


def _option_faults(command: click.Command, context: click.Context, words: list[str], *, whole: bool) -> Iterator[str]:
    try:
        values, left, _ = command.make_parser(context).parse_args(list(words))
    except click.BadOptionUsage as error:
        if not whole and words and error.option_name == words[-1]:
            yield from _option_faults(command, context, [*words, ELLIPSIS], whole=True)
        else:
            yield error.format_message()
        return
    except click.UsageError as error:
        yield error.format_message()
        return
    for word in left:
        if word != ELLIPSIS:
            yield f"Unexpected argument {word!r}."
    for param in command.params:
        given = values.get(param.name)
        for value in given if isinstance(given, list) else [given]:
            if isinstance(value, str) and not _PLACEHOLDER.fullmatch(value):
                yield from _value_faults(param, value, context)


def _value_faults(param: click.Parameter, value: str, context: click.Context) -> Iterator[str]:
    """Of the types whose values can be told without files."""
    if not isinstance(param.type, click.Choice | click.types.IntParamType | click.types.FloatParamType):
        return
    for one in value.split("|"):
        try:
            param.type.convert(one, param, context)
        except click.BadParameter as error:
            yield f"{param.opts[0]}: {error.message}"

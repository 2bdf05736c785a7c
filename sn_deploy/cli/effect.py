"""Options that can't have the effect that they are given for: they are refused, and never passed over in silence."""

from __future__ import annotations

from collections.abc import Collection

import click
from click.core import ParameterSource

from sn_deploy.errors import SnDeployError

_DEFAULTS = (None, ParameterSource.DEFAULT, ParameterSource.DEFAULT_MAP)


def given_options(names: Collection[str]) -> list[str]:
    """Those of the running command's options that stand on its command line, as they are written there.

    Args:
        names: of their parameters.
    """
    context = click.get_current_context()
    return [
        _written(param, context.params[name])
        for param in context.command.params
        if (name := param.name) in names and name is not None and context.get_parameter_source(name) not in _DEFAULTS
    ]


def refuse_idle(names: Collection[str], why: str, *, mend: str = "leave it out") -> None:
    """Refuses options of the running command that would do nothing.

    Args:
        names: of their parameters.
        why: a clause: what they would act on isn't there, or isn't done.

    Raises:
        SnDeployError: one of them stands on the command line.
    """
    given = given_options(names)
    if given:
        raise SnDeployError(f"without effect: {why}", where=" and ".join(given), mend=mend)


def _written(param: click.Parameter, value: object) -> str:
    off = value is False and param.secondary_opts
    return (param.secondary_opts if off else param.opts)[-1]

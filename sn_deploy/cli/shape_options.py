"""``--min``, ``--opt`` and ``--max``, read."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from sn_deploy.engine.profiles import KINDS, Given, Kind, Shape, given_from_repeats
from sn_deploy.errors import SnDeployError

_FORM = "[NAME=]8x3x224x224"


def given_shapes(options: Mapping[Kind, Sequence[str]], names: Sequence[str], model: Path) -> list[Given]:
    """What was given, profile by profile.

    Args:
        names: of the model's inputs; with one of them, its name may be left out.

    Raises:
        SnDeployError: a shape that can't be read, without the name of its input, or of no input.
    """
    shapes = {kind: [_parse(text, kind, names, model) for text in options.get(kind, ())] for kind in KINDS}
    return given_from_repeats(shapes) if any(shapes.values()) else []


def _parse(text: str, kind: Kind, names: Sequence[str], model: Path) -> tuple[str, Shape]:
    where = f"--{kind} {text}"
    name, equals, sizes = text.rpartition("=")  # names of inputs may have an = in them
    if not re.fullmatch(r"\d+([x,×]\d+)*", sizes):
        raise SnDeployError(f"can't read the shape {sizes!r}", where=where, expected=_FORM)
    shape = tuple(int(size) for size in re.split(r"[x,×]", sizes))
    if not equals:
        if len(names) != 1:
            raise SnDeployError(
                f"{model} has {len(names)} inputs", where=where, expected=f"NAME={sizes}, NAME being {', '.join(names)}"
            )
        return names[0], shape
    if name not in names:
        raise SnDeployError(f"there is no input {name!r}", where=where, expected=", ".join(names))
    return name, shape

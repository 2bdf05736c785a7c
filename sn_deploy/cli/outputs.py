"""Commands that write files: where they can be written, and never over one that they were given to read."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import click

from sn_deploy.atomic import check_writable
from sn_deploy.errors import SnDeployError
from sn_deploy.output_file import check_onnx_name, check_text_name

# Parameters that name a file to be written.
_OUTPUTS: Final = frozenset({"output", "json_output", "html", "picture", "bisect_output"})
_ONNX_FILE: Final = "FILE.onnx"
_TEXTS: Final = frozenset({"json_output", "html"})


class OutputCommand(click.Command):
    """A command that refuses, before any work is done, an output that can't be written, or is one of its inputs.

    A slip of the shell's history (``-o best.pth`` for ``-o best.onnx``) would cost a trained checkpoint.

    Args:
        may_be: parameters whose file ``--output`` may be: the command works in place, or says by itself why not.
    """

    def __init__(self, *args: Any, may_be: tuple[str, ...] = (), **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._may_be = may_be

    def invoke(self, ctx: click.Context) -> Any:
        """Runs the command.

        Raises:
            SnDeployError: an output is an input, or another output, has the name of a file of another kind, or can't be
                written.
        """
        outputs = {name: path for name, path in ctx.params.items() if name in _OUTPUTS and path not in (None, "-")}
        options = {param.name: param for param in self.params if param.name is not None}
        for name, path in outputs.items():
            where = f"{_label(options[name])} {path}"
            for other, value in ctx.params.items():
                if other == name or (name == "output" and other in self._may_be):
                    continue
                if any(is_same_file(Path(path), file) for file in _files(value)) or (
                    other in outputs and Path(value) == Path(path)
                ):
                    raise SnDeployError(
                        f"is also what {_label(options[other])} names, and would be overwritten",
                        where=where,
                        mend="name another file",
                    )
            if options[name].metavar == _ONNX_FILE:
                check_onnx_name(path, where=where)
            elif name in _TEXTS:
                check_text_name(path, where=where)
            check_writable(path)
        return super().invoke(ctx)


def _label(param: click.Parameter) -> str:
    return param.opts[-1] if isinstance(param, click.Option) else (param.metavar or str(param.name)).strip("[]…")


def _files(value: object) -> Iterator[Path]:
    """What may be files in a parameter's value: paths, and parts of NAME=FILE, KIND:FILE and FILE.py:CALLABLE."""
    if isinstance(value, Path):
        yield value
    elif isinstance(value, str):
        after_name = value.partition("=")[2]
        parts = {value, after_name, value.rpartition(":")[0], value.rpartition(":")[2], after_name.partition(":")[2]}
        yield from (Path(part) for part in parts if part)
    elif isinstance(value, tuple):
        for one in value:
            yield from _files(one)


def is_same_file(output: Path, other: Path) -> bool:
    """Whether to write ``output`` is to write over ``other``, however either is spelt."""
    try:
        return output.is_file() and output.samefile(other)
    except (OSError, ValueError):  # a text that is no file's name
        return False

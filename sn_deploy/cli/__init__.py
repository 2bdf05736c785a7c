"""The command line. Each command is a file of its own, imported only when it is called."""

from __future__ import annotations

import contextlib
import difflib
import errno
import importlib
import sys
import traceback
import warnings
from collections.abc import Iterator
from typing import Any, Final

import click

import sn_deploy
from sn_deploy.cli.signals import exit_code_of, signals_heeded
from sn_deploy.cli.streams import discard_output, prepare_streams
from sn_deploy.console import Console
from sn_deploy.errors import SnDeployError, SnDeployWarning, first_line
from sn_deploy.python_words import naming_options

# command -> (module with a click command `command`, its line in --help). The line stands here so that `--help`
# imports no command, and so works without torch, TensorRT or anything else that is heavy.
_COMMANDS: Final = {
    "build": ("sn_deploy.cli.build", "Build a TensorRT engine of an ONNX file, for this machine's GPU."),
    "calibrate": ("sn_deploy.cli.calibrate", "Take the BN branches' statistics from your data, as a new checkpoint."),
    "check": ("sn_deploy.cli.check", "Prove that backends agree, and time them; the gate for your own CI."),
    "convert-precision": (
        "sn_deploy.cli.convert_precision",
        "Put an ONNX file into fp16 or bf16, SwitchNorm's constants in float32.",
    ),
    "demo": ("sn_deploy.cli.demo", "Export a digit classifier, run it in ONNX Runtime and compare with PyTorch."),
    "diff": ("sn_deploy.cli.diff", "Show what changed between two ONNX files, and whether they compute the same."),
    "doctor": ("sn_deploy.cli.doctor", "Show what is installed, found and usable here, and how to mend the rest."),
    "export": ("sn_deploy.cli.export", "Turn a trained PyTorch model with SN layers into one ONNX file."),
    "fuse": ("sn_deploy.cli.fuse", "Find the SN layers of any ONNX file and make each one a SwitchNorm node."),
    "inline": ("sn_deploy.cli.inline", "Write SN layers in standard operators, for tools that expand no functions."),
    "inspect": (
        "sn_deploy.cli.inspect",
        "Show the SN layers of an ONNX file or a checkpoint, or what is in an engine.",
    ),
    "merge": ("sn_deploy.cli.merge", "Put the parts of a check together, exactly."),
    "optimise": ("sn_deploy.cli.optimise", "Make an ONNX file faster on this machine."),
    "specialise": (
        "sn_deploy.cli.specialise",
        "Make SN layers cheaper that need less than SN, exactly or within a budget.",
    ),
    "quantize": ("sn_deploy.cli.quantize", "Put the convolutions of an ONNX file into int8 or FP8, by Q/DQ nodes."),
    "refit": ("sn_deploy.cli.refit", "Put an ONNX file's weights into a TensorRT engine."),
    "report": ("sn_deploy.cli.report", "Make the HTML report of a check anew, from its JSON."),
    "serve": ("sn_deploy.cli.serve", "Prepare a model for a server: an NVIDIA Triton repository, and what deploys it."),
}


# What Americans, or the other half of the commands, would write.
_OTHER_SPELLINGS: Final = {
    "optimize": "optimise",
    "specialize": "specialise",
    "quantise": "quantize",
    "convert": "convert-precision",
    "triton": "serve",
}


_OUR_FAULT: Final = 70  # sysexits.h: an internal software error


class _LazyGroup(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            near = difflib.get_close_matches(cmd_name, [*_COMMANDS, *_OTHER_SPELLINGS], n=1)
            if near and not ctx.resilient_parsing:
                meant = _OTHER_SPELLINGS.get(near[0], near[0])
                ctx.fail(f"No such command {cmd_name!r}. Did you mean {meant!r}?")
            return None
        command = importlib.import_module(_COMMANDS[cmd_name][0]).command
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, line) for name, (_, line) in sorted(_COMMANDS.items())])


@click.group(cls=_LazyGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(sn_deploy.__version__, prog_name="sn-deploy")
@click.option("--traceback", is_flag=True, help="Show Python's traceback with an error (for bug reports).")
def cli(traceback: bool) -> None:  # read by `_run`
    """Take trained PyTorch models with Switchable Normalization to ONNX Runtime and TensorRT."""


@contextlib.contextmanager
def _own_warnings_shown() -> Iterator[None]:
    """Shows our own warnings as one line each, without the place in our code that Python would add."""

    def show(message: Warning | str, category: type[Warning], *place: Any, **more: Any) -> None:
        if issubclass(category, SnDeployWarning):
            Console(stderr=True).print(f"warning: {message}", style="yellow", markup=False, soft_wrap=True)
        else:
            usual(message, category, *place, **more)

    with warnings.catch_warnings():
        warnings.simplefilter("always", SnDeployWarning)
        usual, warnings.showwarning = warnings.showwarning, show
        yield


def program() -> None:
    """What ``sn-deploy`` starts: `main`, and 70 for a fault of ours. Python's own 1 would say that a check failed."""
    try:
        main()
    except Exception as error:  # noqa: BLE001 (nothing is above it)
        traceback.print_exception(error)
        _print_error(SnDeployError("sn-deploy itself is at fault", mend="please report it, with the traceback above"))
        sys.exit(_OUR_FAULT)


def main(arguments: list[str] | None = None) -> None:
    """Runs the command line; returns when it is done, exits with 1 (a check failed), 2 (wrong usage or input), or 128
    and the number of the signal that interrupted it.
    """
    arguments = sys.argv[1:] if arguments is None else arguments
    prepare_streams()
    code = _print_what_is_left(_run(arguments))
    if code:
        sys.exit(code)


def _run(arguments: list[str]) -> int:
    """Runs it and prints what is wrong; gives the exit code."""
    try:
        _check_names(arguments)
        with _own_warnings_shown(), signals_heeded(), naming_options():
            result = cli.main(args=arguments, prog_name="sn-deploy", standalone_mode=False, obj=tuple(arguments))
        # Outside its standalone mode click returns what ctx.exit was given.
        return result if isinstance(result, int) else 0
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except (click.Abort, KeyboardInterrupt) as error:
        click.echo("interrupted", err=True)
        return exit_code_of(error)
    except (SnDeployError, OSError, MemoryError, UnicodeEncodeError) as error:
        known = error if isinstance(error, SnDeployError) else _in_our_words(error)
        if known is None:
            raise
        if "--traceback" in arguments:
            traceback.print_exception(error)
        _print_error(known)
        return known.exit_code


def _check_names(arguments: list[str]) -> None:
    """Refuses, before any work is done, a name that the locale has no letters for: no document could hold it."""
    encoding = sys.getfilesystemencoding()
    for argument in arguments:
        if encoding != "utf-8" and _undecoded(argument):
            raise SnDeployError(f"is no text in this locale ({encoding})", where=argument, mend="set PYTHONUTF8=1")


def _undecoded(text: str) -> bool:
    """Whether bytes of a file's name stand in it as they are."""
    return any("\udc80" <= character <= "\udcff" for character in text)


def _in_our_words(error: Exception) -> SnDeployError | None:
    """What the machine refused, wherever that was: a full disk, a limit of the memory, a name in another encoding."""
    if isinstance(error, MemoryError):
        return SnDeployError("the memory isn't enough", mend="give it more, or smaller batches")
    if isinstance(error, OSError) and error.errno == errno.ENOSPC and not error.filename:
        return SnDeployError(
            f"nothing more can be written: {error.strerror}",
            mend="make room where the output goes, and where temporary files go (TMPDIR)",
        )
    if isinstance(error, OSError):
        return SnDeployError(error.strerror or first_line(error), where=str(error.filename) if error.filename else None)
    if isinstance(error, UnicodeEncodeError) and _undecoded(error.object):
        return SnDeployError("the name of a file is no text", mend="rename it")
    return None


def _print_error(error: SnDeployError) -> None:
    # Not through rich's markup: paths and shapes have brackets in them.
    Console(stderr=True).print(f"error: {error}", style="red", markup=False, highlight=False, soft_wrap=True)


def _print_what_is_left(code: int) -> int:
    """Writes what is buffered while an error can still be told; gives the exit code."""
    try:
        sys.stdout.flush()
    except OSError as error:
        discard_output()
        _print_error(SnDeployError(f"can't be written: {error.strerror}", where="the standard output"))
        return code or 2
    return code

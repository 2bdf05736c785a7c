"""Errors of Python functions name their arguments, those of the command line its options."""

from __future__ import annotations

import importlib
import inspect
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import click
import numpy as np
import onnx
import pytest
import torch

import sn_deploy
from sn_deploy.calibrate import calibrate
from sn_deploy.check import check
from sn_deploy.check.merge import merge_parts, read_parts
from sn_deploy.checkpoint import load_into
from sn_deploy.cli import cli
from sn_deploy.diff import diff
from sn_deploy.engine.inspect import inspect_engine
from sn_deploy.engine.refit import refit
from sn_deploy.errors import CheckFailedError, SnDeployError
from sn_deploy.fuse import fuse
from sn_deploy.inline import inline
from sn_deploy.inspection import layers_from_file
from sn_deploy.models.digits import load_pretrained
from sn_deploy.nn import SwitchNorm2d
from sn_deploy.optimise import optimise
from sn_deploy.precision import convert_precision, quantize
from sn_deploy.python_words import in_callers_words, naming_arguments
from sn_deploy.runtime.ort import OrtSession
from sn_deploy.runtime.trt import Engine
from sn_deploy.serve import DeployOptions, ServeOptions, serve_triton
from sn_deploy.specialise import Budget, specialise
from tests.cli.command import run_folded


class Failing(os.PathLike[str]):
    """A path that can't be told: what is wrong is a text about options."""

    def __init__(self, text: str) -> None:
        self._text = text

    def __fspath__(self) -> str:
        raise SnDeployError(self._text, where=self._text, expected=self._text, mend=self._text)

    def __iter__(self) -> Any:
        """Of one in the place of parts."""
        return iter(self.__fspath__())


OTHER: Final = Path("other.onnx")
# command -> its functions, each given a path of which something is wrong.
FUNCTIONS: Final[dict[str, dict[Callable[..., Any], Callable[[Failing], object]]]] = {
    "build": {sn_deploy.build: lambda given: sn_deploy.build(given, "other.engine")},
    "calibrate": {
        calibrate: lambda given: calibrate(load_pretrained(), given),
        load_into: lambda given: load_into(load_pretrained(), given),
    },
    "check": {check: check, load_into: lambda given: load_into(load_pretrained(), given)},
    "convert-precision": {convert_precision: lambda given: convert_precision(given, OTHER, precision="fp16")},
    "diff": {diff: lambda given: diff(given, OTHER)},
    "export": {
        sn_deploy.export: lambda given: sn_deploy.export(SwitchNorm2d(2), torch.zeros(1, 2, 3, 3), given),
        load_into: lambda given: load_into(load_pretrained(), given),
        specialise: lambda given: specialise(given, OTHER),
    },
    "fuse": {fuse: lambda given: fuse(given, OTHER), specialise: lambda given: specialise(given, OTHER)},
    "inline": {inline: lambda given: inline(given, OTHER)},
    "inspect": {layers_from_file: layers_from_file, inspect_engine: inspect_engine},
    "merge": {
        read_parts: lambda given: read_parts([given]),
        merge_parts: lambda given: merge_parts(given),  # type: ignore[arg-type]
    },
    "optimise": {optimise: lambda given: optimise(given, OTHER)},
    "quantize": {quantize: lambda given: quantize(given, OTHER, precision="int8")},
    "refit": {refit: lambda given: refit(given, OTHER, "other.engine")},
    "serve triton": {serve_triton: lambda given: serve_triton(given, OTHER, ServeOptions("name"))},
    "specialise": {specialise: lambda given: specialise(given, OTHER)},
}
# What a function has no argument for: it gives what the command shows or writes, takes the model that the command
# builds, and is followed by another one.
NO_ARGUMENTS: Final = {
    *("all", "html", "json", "output", "picture", "verbose", "no-verbose"),
    *("checkpoint", "model", "model-arg"),
    *("merge", "specialise", "statistics"),
}
# In Python sums are an argument of `export` and `check`, and finalised by `sn_deploy.nn.finalize_batch_average`.
OTHERWISE: Final = {
    ("calibrate", "finalize-batch-average"),
    # Whether an engine is run is which function is called.
    ("inspect", "no-run"),
    # Keys of a profile.
    ("build", "min"),
    ("build", "max"),
    *(("fuse", name) for name in ("external-data", "no-external-data")),
}


def options_of(command: str) -> dict[str, bool]:
    """Without the dashes -> whether it takes no value."""
    found: click.Command = cli
    for name in command.split():
        assert isinstance(found, click.Group)
        found = found.get_command(click.Context(found), name)  # type: ignore[assignment]
    return {
        text[2:]: option.is_flag
        for option in found.params
        if isinstance(option, click.Option)
        for text in (*option.opts, *option.secondary_opts)
        if text.startswith("--")
    }


def fields_of(function: Callable[..., Any]) -> dict[str, set[str]]:
    """Class -> its fields, of the classes that the signature or the text of a function names."""
    named = set(re.findall(r"\b[A-Z]\w+", f"{inspect.signature(function)} {function.__doc__}"))
    named |= {"ImageOptions"} if "DataOptions" in named or function is check else set()
    found = {}
    for module in ("check", "serve", "runtime.trt.access", "specialise"):
        place = importlib.import_module(f"sn_deploy.{module}")
        for name in named:
            kind = getattr(place, name, None)
            if isinstance(kind, type):
                found[name] = set(inspect.signature(kind).parameters)
    return found


@pytest.mark.parametrize("command", FUNCTIONS)
def test_every_option_is_an_argument_of_the_function(command: str) -> None:
    for option, is_flag in options_of(command).items():
        known = []
        for function, call in FUNCTIONS[command].items():
            with pytest.raises(SnDeployError) as caught:
                call(Failing(f"leave --{option} out"))
            error = caught.value
            assert {error.what, error.where, error.expected, error.mend} == {error.what}
            name = error.what.removeprefix("leave ").removesuffix(" out")
            assert "--" not in name
            known.append(name_is_known(name, function, is_flag=is_flag))
        if option not in NO_ARGUMENTS and (command, option) not in OTHERWISE:
            assert any(known), (option, name)


def name_is_known(name: str, function: Callable[..., Any], *, is_flag: bool) -> bool:
    parameters = inspect.signature(function).parameters
    field = re.fullmatch(r"(\w+)[.(](\w+)(=\w+\))?", name)
    if field:
        return field[2] in fields_of(function).get(field[1], ())
    argument, _, value = name.partition("=")
    if argument not in parameters:
        return False
    return not is_flag or value in ("True", "False") or parameters[argument].default in (True, False)


# command -> arguments of which only its function refuses one, and what it says.
WRONG_VALUES: Final = {
    "export": (
        ["--model", "sn_deploy.models.digits:load_pretrained", "--input", "1x1x8x8", "--opset", "3", "-o", "a.onnx"],
        "--opset: opset 3",
    ),
    "diff": (["net.onnx", "net.onnx", "--input", "y=1x1x8x8"], "--input y: is no input"),
    "convert-precision": (
        ["net.onnx", "-o", "a.onnx", "--precision", "fp16", "--keep", "nothing"],
        "--keep nothing: no node",
    ),
    "quantize": (["net.onnx", "-o", "a.onnx", "--precision", "int8", "--keep", "nothing"], "--keep nothing: no node"),
    "specialise": (["net.onnx", "-o", "a.onnx", "--budget", "top1=1%"], "name them: --data imagenet/val --limit 512"),
    "serve triton": (["net.onnx", "-o", "models", "--name", "a b"], "--name: 'a b' is no name"),
    "check": (["net.onnx", "net.onnx"], "name both, with --backend NAME=KIND:FILE"),
}


@pytest.mark.parametrize("command", WRONG_VALUES)
def test_the_command_line_names_options(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """What its functions say within it is about options."""
    monkeypatch.chdir(tmp_path)
    sn_deploy.export(load_pretrained(), torch.zeros(1, 1, 8, 8), "net.onnx")
    arguments, option = WRONG_VALUES[command]
    code, _, err = run_folded(capsys, *command.split(), *arguments)
    assert code == 2
    assert option in err


@pytest.fixture(scope="module")
def net(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("net") / "net.onnx"
    sn_deploy.export(load_pretrained(), torch.zeros(1, 1, 8, 8), path)
    return path


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda net, path: sn_deploy.export(load_pretrained(), torch.zeros(1, 1, 8, 8), path, dynamic="depth"),
            "dynamic: can't read 'depth' (expected batch,",
        ),
        (
            lambda net, path: sn_deploy.export(load_pretrained(), torch.zeros(1, 1, 8, 8), path, opset=3),
            "opset: opset 3 can't be exported",
        ),
        (
            lambda net, path: sn_deploy.export(torch.nn.Linear(2, 2), torch.zeros(1, 2), path),
            "; check model; a model without",
        ),
        (lambda net, path: diff(net, net, inputs={"y": np.zeros(3)}), "inputs y: is no input of the files"),
        (lambda net, path: convert_precision(net, path, precision="fp8"), "precision: 'fp8' is no precision"),
        (lambda net, path: convert_precision(net, path, precision="fp16", keep=["x.*"]), "keep x.*: no node"),
        (
            lambda net, path: convert_precision(net, path, precision="fp16", keep=["Conv"], keep_convolutions=True),
            "keep_convolutions=True: without effect",
        ),
        (lambda net, path: quantize(net, path, precision="int8", method="mine"), "method: unknown method 'mine'"),
        (
            lambda net, path: specialise(net, path, budget=Budget(top1=0.1)),
            "name them: data=DataOptions('imagenet/val', limit=512)",
        ),
        (lambda net, path: quantize(net, path, precision="int8", samples=3), "samples, a int: gives a int"),
        (lambda net, path: calibrate(load_pretrained(), []), "; check source, DataOptions.limit and"),
        (lambda net, path: optimise(net, path, target="gpu"), "target: unknown target 'gpu'"),
        (
            lambda net, path: sn_deploy.build(net, path.with_suffix(".engine"), exclude_lean_runtime=True),
            "exclude_lean_runtime=True: is for version-compatible engines; ask for version_compatible=True, too",
        ),
        (
            lambda net, path: serve_triton(net, path.parent / "m", ServeOptions("a", max_batch=-1)),
            "ServeOptions.max_batch: is -1 (expected",
        ),
        (
            lambda net, path: serve_triton(net, path.parent / "m", ServeOptions("a"), engines=[str(net)]),
            "net.onnx: is no engine",
        ),
        (lambda net, path: DeployOptions(queue_target_us=0), "DeployOptions.queue_target_us: 0us"),
        (lambda net, path: calibrate(torch.nn.Linear(2, 2), torch.zeros(1, 2)), "; check model and its arguments"),
        (lambda net, path: layers_from_file(net, key="model"), "key: is for checkpoints, and "),
        (lambda net, path: Budget(), "budget: limits nothing"),
        (
            lambda net, path: check(net, model=load_pretrained(), data="x.npz"),
            "data x.npz: there is no such file",
        ),
        (lambda net, path: OrtSession(Failing("see --keep-io-types")), "see keep_io_types=True"),
        (lambda net, path: Engine(Failing("with --plugin-library FILE.so")), "with plugin=FILE.so"),
    ],
)
def test_errors_name_arguments(net: Path, tmp_path: Path, call: Callable[..., Any], message: str) -> None:
    with pytest.raises(SnDeployError) as caught:
        call(net, tmp_path / "other.onnx")
    assert message in str(caught.value)
    assert "--" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


CHECK: Final[dict[str, Any]] = {
    "backend": "backends",
    "input": "example_inputs",
    "layer_tolerance": ("layers", "layers=LayerTolerance({}={})"),
    "max_drop": "Limits.drops",
    "metric": "metrics",
    "no_fuse": "fuse_relu=False",
    "opt": ("profiles", "profiles=[{{{!r}: {}}}]"),
    "tolerance": ("Limits.tolerances", "Limits(tolerances={{{!r}: {{{!r}: {}}}}})"),
}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("--data", "data"),
        ("--data a--b/x.npz", "data a--b/x.npz"),
        ("--data, input x", "data, input x"),
        ("give it: --input x=1x3x224x224", "give it: example_inputs={'x': torch.randn(1, 3, 224, 224)}"),
        ("give it: --input input.1=1x3", "give it: example_inputs={'input.1': torch.randn(1, 3)}"),
        ("or --input [NAME=]FILE.npy", "or example_inputs={'NAME': array}"),
        ("--input NAME=1x3, or NAME=FILE.npy", "example_inputs={'NAME': torch.randn(1, 3)}"),
        ("--input x", "example_inputs x"),
        ("give batches, each with its own, or --batch-size 1", "give batches, each with its own, or batch_size=1"),
        ("name it with --task classification:OUTPUT", "name it with task='classification:OUTPUT'"),
        ("accuracies need labels; see --task and --metric", "accuracies need labels; see task and metrics"),
        ("export with --dynamic batch, or leave it out", "export with dynamic='batch', or leave it out"),
        ("give --finalize-batch-average N, with N", "give finalize_batch_average=N, with N"),
        ("name both, with --backend NAME=KIND:FILE", "name both, with backends='NAME=KIND:FILE'"),
        ("with --labels FILE, or none with --labels none", "with labels=FILE, or none with labels='none'"),
        ("give samples with --data, or", "give samples with data=…, or"),
        ("--max-drop", "Limits.drops"),
        ("say it with --max-drop", "say it with Limits(drops=…)"),
        ("--tolerance OUTPUT:rel_l2=0.05", "Limits(tolerances={'OUTPUT': {'rel_l2': 0.05}})"),
        ("--tolerance", "Limits.tolerances"),
        (
            "say what is allowed: --layer-tolerance rel_l2=0.05",
            "say what is allowed: layers=LayerTolerance(rel_l2=0.05)",
        ),
        ("give --opt x=SHAPE", "give profiles=[{'x': SHAPE}]"),
        ("--min, --opt and --max give a range", "profiles give a range"),
        ("--keep 'a b' --keep 'c', or --precision bf16", "keep=['a b', 'c'], or precision='bf16'"),
        ("--no-run", "run=False"),
        ("--no-fuse", "fuse_relu=False"),
        ("without --refit or", "without refit=True or"),
        ("see the message with --traceback", "see the message in the traceback above"),
        ("for example with --checkpoint-key ema.model", "for example with key='ema.model'"),
        ("make it with: sn-deploy export --model A:B", "make it with: sn-deploy export --model A:B"),
        ("of `sn-deploy export` without --inline", "of `sn-deploy export` without inline=True"),
        ("give --threads 1 (pip install --upgrade x); --data", "give threads=1 (pip install --upgrade x); data"),
        ("/tmp/a--b/net.onnx", "/tmp/a--b/net.onnx"),
        ("--backend Relu: no node", "backends Relu: no node"),
    ],
)
def test_options_as_arguments(text: str, expected: str) -> None:
    assert in_callers_words(text) == text
    with naming_arguments(CHECK):
        assert in_callers_words(text) == expected


def test_the_outermost_function_chooses_the_words() -> None:
    @naming_arguments(input="inputs")
    def inner() -> None:
        raise SnDeployError("--input x", where="--input")

    @naming_arguments(input="samples")
    def outer() -> None:
        inner()

    with pytest.raises(SnDeployError, match=r"^samples: samples x$"):
        outer()
    with pytest.raises(SnDeployError, match=r"^inputs: inputs x$"):
        inner()


def test_an_error_stays_the_same_error() -> None:
    inner = CheckFailedError("fails with --threads 1", where="--data", mend="see where with sn-deploy --traceback …")
    with pytest.raises(CheckFailedError) as raised, naming_arguments():
        raise inner from ValueError("the cause")
    assert raised.value is inner
    assert str(inner) == "data: fails with threads=1; see where in the traceback above"
    assert (inner.what, inner.where, inner.expected) == ("fails with threads=1", "data", None)
    assert isinstance(inner.__cause__, ValueError)


def test_other_errors_pass() -> None:
    with pytest.raises(KeyError), naming_arguments():
        raise KeyError("--data")


def test_functions_keep_their_signatures() -> None:
    for functions in FUNCTIONS.values():
        for function in functions:
            assert inspect.signature(function).return_annotation is not inspect.Signature.empty
            assert inspect.unwrap(function).__module__.startswith("sn_deploy")


def test_what_a_damaged_file_is_told(tmp_path: Path) -> None:
    """`check` reads files by what other functions use, too; their words are its own."""
    path = tmp_path / "other.onnx"
    onnx.save(onnx.helper.make_model(onnx.helper.make_graph([], "empty", [], [])), path)
    with pytest.raises(SnDeployError) as caught:
        fuse(path, tmp_path / "fused.onnx")
    assert "--" not in str(caught.value)

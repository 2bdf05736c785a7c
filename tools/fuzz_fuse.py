"""Damaged ONNX models through `fuse`, guided by coverage: graphs are changed as graphs, not as bytes.

    python -m tools.fuzz_fuse [LIBFUZZER'S OPTIONS] CORPUS

A part of tools/soak.py, which gives it the limits. It needs atheris, which `make soak` brings. The corpus begins with
every graph of tests/fuse/zoo.py, layers and decoys; each input is one that was kept, changed by tests/fuse/mutations.py
or joined with another, now and then by bytes alone. `fuse` has to write a valid file, or refuse in its own words and
write none.
"""

from __future__ import annotations

import contextlib
import random
import sys
import tempfile
import warnings
from pathlib import Path
from typing import Final

import atheris

from tools.guided import check_guided, instrumented

with instrumented(["sn_deploy"]):
    from sn_deploy.errors import SnDeployError
    from sn_deploy.fuse import fuse

import onnx
from google.protobuf.message import DecodeError
from onnx import ModelProto

from tests.fuse.mutations import MODELS, MUTATIONS

FOLDER: Final = Path(tempfile.mkdtemp())
BYTES_SHARE: Final = 0.1  # of the inputs, changed by libFuzzer itself
# What protobuf says to a value that has no place in a message.
_NO_PLACE: Final = (IndexError, ValueError, OverflowError, TypeError)


def one_input(data: bytes) -> None:
    """Takes one file; what it raises is a fault."""
    source, target = FOLDER / "model.onnx", FOLDER / "out.onnx"
    source.write_bytes(data)
    target.unlink(missing_ok=True)
    try:
        fuse(source, target, run=False)
    except SnDeployError as error:
        if target.exists():
            raise RuntimeError(f"{target} was written, and refused: {error}") from error
        return
    onnx.checker.check_model(onnx.load(target, load_external_data=False))


def parsed(data: bytes, draw: random.Random) -> ModelProto:
    """The model in the bytes; one of the zoo's where there is none."""
    try:
        model = ModelProto.FromString(data)
    except (DecodeError, ValueError):
        model = ModelProto()
    return model if model.graph.node else draw.choice(MODELS)[1]()[0]


def mutate(data: bytes, max_size: int, seed: int) -> bytes:
    """Another model: some changes to its graph."""
    draw = random.Random(seed)
    if draw.random() < BYTES_SHARE:
        return bytes(atheris.Mutate(data, max_size))
    model = parsed(data, draw)
    for _ in range(draw.choice((1, 1, 1, 2, 4))):
        with contextlib.suppress(*_NO_PLACE):
            draw.choice(MUTATIONS)(model, draw)
    return _fitting(model, data, max_size)


def cross(data: bytes, other: bytes, max_size: int, seed: int) -> bytes:
    """A model with some nodes and weights of another behind its own."""
    draw = random.Random(seed)
    model, donor = parsed(data, draw), parsed(other, draw)
    first = draw.randrange(len(donor.graph.node))
    model.graph.node.extend(list(donor.graph.node)[first : first + draw.randint(1, 20)])
    names = {tensor.name for tensor in model.graph.initializer}
    model.graph.initializer.extend(tensor for tensor in donor.graph.initializer if tensor.name not in names)
    return _fitting(model, data, max_size)


def _fitting(model: ModelProto, data: bytes, max_size: int) -> bytes:
    with contextlib.suppress(*_NO_PLACE):
        made = model.SerializeToString()
        if len(made) <= max_size:
            return bytes(made)
    return bytes(atheris.Mutate(data, max_size))


def write_corpus(folder: Path) -> None:
    """The zoo's graphs, where they aren't there yet."""
    for name, make in MODELS:
        file = folder / name
        if not file.exists():
            file.write_bytes(make()[0].SerializeToString())


def main() -> None:
    """The command."""
    warnings.simplefilter("ignore")
    check_guided(fuse)
    write_corpus(Path(sys.argv[-1]))
    atheris.Setup(sys.argv, one_input, custom_mutator=mutate, custom_crossover=cross)
    atheris.Fuzz()


if __name__ == "__main__":
    main()

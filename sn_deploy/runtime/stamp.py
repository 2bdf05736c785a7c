"""What a file that was made for one machine says of itself, and whether it belongs here.

`sn-deploy optimise` writes graphs that are tied to a processor's block size and to one version of ONNX Runtime. Their
``metadata_props`` say which, and what portable file they were made of. That is read here without parsing the graph, so
that it costs nothing where a file has no stamp.
"""

from __future__ import annotations

import io
import os
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import BinaryIO, Final

import onnx
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

from sn_deploy.errors import SnDeployError
from sn_deploy.hashing import sha256_of_file

# Prefix of the keys in metadata_props; what follows are the fields of `Stamp`.
_PREFIX: Final = "sn_deploy.optimised."

# ModelProto's field numbers; they never change.
_METADATA_PROPS: Final = 14
_LENGTH_DELIMITED: Final = 2

_LONGEST_NAME: Final = 255  # in bytes, of a file


@dataclass(frozen=True)
class Stamp:
    """What an optimised file was made for, and of what.

    Attributes:
        target: what ``--for`` was given: ``ort-cpu``.
        onnxruntime: the version whose internal operators the file uses.
        block_size: channels in a block of its tensors and weights.
        processor: the architecture and the features that were there; the block size follows from them.
        source: name of the portable file that it was made of, which lies beside it.
        source_sha256: of that file's bytes.
    """

    target: str
    onnxruntime: str
    block_size: int
    processor: str
    source: str
    source_sha256: str

    def as_metadata(self) -> dict[str, str]:
        """The entries of metadata_props."""
        return {_PREFIX + key: str(value) for key, value in asdict(self).items()}

    def made_for(self) -> str:
        """For messages."""
        return f"ONNX Runtime {self.onnxruntime} with blocks of {self.block_size} channels ({self.processor})"


@dataclass(frozen=True)
class Here:
    """What is here instead.

    Attributes:
        onnxruntime: its version.
        block_size: None where ONNX Runtime has no blocked convolutions on this processor.
        operators: why SwitchNorm's native operators can't be had; None where they can.
        providers: the execution providers that were asked for, the preferred one first.
    """

    onnxruntime: str
    block_size: int | None
    operators: str | None
    providers: tuple[str, ...]


def read_stamp(model: str | os.PathLike[str] | bytes) -> Stamp | None:
    """The stamp of an ONNX file, or of its bytes; None where it has none, or is no ONNX file.

    Raises:
        SnDeployError: a stamp that is incomplete.
    """
    try:
        with io.BytesIO(model) if isinstance(model, bytes) else Path(model).open("rb") as file:
            entries = dict(_metadata(file))
    except (OSError, DecodeError, ValueError, OverflowError, MemoryError):
        return None  # whoever loads it says what is wrong
    return stamp_from_metadata(entries, where="the model in memory" if isinstance(model, bytes) else str(model))


def stamp_from_metadata(entries: Mapping[str, str], *, where: str) -> Stamp | None:
    """The stamp among the entries of a model's metadata_props.

    Raises:
        SnDeployError: a stamp that is incomplete.
    """
    own = {key[len(_PREFIX) :]: value for key, value in entries.items() if key.startswith(_PREFIX)}
    if not own:
        return None
    try:
        if not _is_name(own["source"]):
            raise ValueError(f"source is {own['source']!r:.80}")
        return Stamp(
            own["target"],
            own["onnxruntime"],
            int(own["block_size"]),
            own["processor"],
            own["source"],
            own["source_sha256"],
        )
    except (KeyError, ValueError) as error:
        raise SnDeployError(
            f"its metadata says that it is optimised, but not for what: {error}",
            where=where,
            mend="make it anew with: sn-deploy optimise",
        ) from error


def _is_name(source: str) -> bool:
    """Whether a file can have it; what leads to it is left out by `portable_source`."""
    name = Path(source).name
    return name not in ("", "..") and "\0" not in name and len(os.fsencode(name)) <= _LONGEST_NAME


def refuse_optimised(
    path: Path,
    what: str = "is optimised already, for {machine}",
    mend: str = "give the portable file that it was made of: {source}",
) -> None:
    """Refuses a file that was made for one machine, where the portable one is needed.

    Args:
        what, mend: of the error, with ``{machine}`` and ``{source}`` for what the file was made for and of.

    Raises:
        SnDeployError: it has a stamp, or one that can't be read.
    """
    stamp = read_stamp(path)
    if stamp is not None:
        own = {"machine": stamp.made_for(), "source": stamp.source}
        raise SnDeployError(what.format(**own), where=str(path), mend=mend.format(**own))


def misfit(stamp: Stamp, here: Here) -> str | None:
    """Why a file with this stamp can't run here; None where it can."""
    if here.onnxruntime != stamp.onnxruntime:
        return f"this is ONNX Runtime {here.onnxruntime}"
    if here.providers[:1] != ("CPUExecutionProvider",):
        return f"it is for the CPU, and {', '.join(here.providers)} was asked for"
    if here.block_size is None:
        return "ONNX Runtime has no blocked convolutions on this processor"
    if here.block_size != stamp.block_size:
        return f"on this processor the blocks have {here.block_size} channels"
    return here.operators


def portable_source(path: Path | None, stamp: Stamp, why: str) -> Path:
    """The file beside ``path`` that it was made of; a model in memory has no path.

    Raises:
        SnDeployError: it isn't there, or is another one by now.
    """
    name = Path(stamp.source).name
    source = Path(name) if path is None else path.with_name(name)
    if path is None:
        problem = f"where its portable source {name} is, a model in memory can't tell"
    elif not source.is_file():
        problem = f"its portable source {name} isn't beside it"
    elif sha256_of_file(source) != stamp.source_sha256:
        problem = f"the {name} beside it is not the file that it was made of"
    else:
        return source
    output = "FILE.onnx" if path is None else path.name
    raise SnDeployError(
        f"it was made for {stamp.made_for()}, but {why}; and {problem}",
        where="the model in memory" if path is None else str(path),
        mend=f"make it anew here: {shlex.join(['sn-deploy', 'optimise', name, '--for', stamp.target, '-o', output])}",
    )


def _metadata(file: BinaryIO) -> Iterator[tuple[str, str]]:
    """The entries of metadata_props. Of protobuf's wire format only a message's outermost fields are read."""
    while (key := _varint(file)) is not None:
        if key & 7 != _LENGTH_DELIMITED:
            _skip(file, key & 7)
            continue
        length = _varint(file)
        if length is None:
            return
        if key >> 3 == _METADATA_PROPS:
            entry = onnx.StringStringEntryProto.FromString(file.read(length))
            if isinstance(entry.key, str) and isinstance(entry.value, str):  # bytes, where it is no UTF-8
                yield entry.key, entry.value
        else:
            file.seek(length, os.SEEK_CUR)


def _varint(file: BinaryIO) -> int | None:
    """The next number; None at the end of the file."""
    value = 0
    for shift in range(0, 70, 7):
        byte = file.read(1)
        if not byte:
            return None
        value |= (byte[0] & 0x7F) << shift
        if byte[0] < 0x80:
            return value
    raise DecodeError("no protobuf")


def _skip(file: BinaryIO, wire_type: int) -> None:
    if wire_type == 0:
        _varint(file)
    elif wire_type in (1, 5):
        file.seek(8 if wire_type == 1 else 4, os.SEEK_CUR)
    else:
        raise DecodeError("no ONNX file")

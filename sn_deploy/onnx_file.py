"""Opening an ONNX file that may come from anybody: it is what it says, and its weights lie beside it and nowhere else.

An ONNX file names the files of its weights. A hostile one names a file of the user's, which would then be read into the
result. So a name may lead to a plain file in the model's own folder or below it and to nothing else, before any library
is given the file; onnx and ONNX Runtime look again when they open it.
"""

from __future__ import annotations

import contextlib
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Final

import onnx
import onnx_ir as ir
from google.protobuf.message import DecodeError, Message  # type: ignore[import-untyped]
from onnx.external_data_helper import load_external_data_for_tensor

from sn_deploy.errors import SnDeployError, first_line
from sn_deploy.input_file import COPY_AGAIN, read_head, refuse_checkpoint
from sn_deploy.onnx_nodes import proto_nodes
from sn_deploy.onnx_sizes import byte_count, check_sizes

_STANDARD_DOMAIN: Final = "ai.onnx"
_EXPECTED: Final = "a plain file in its folder, or below"


def read_proto(path: Path, *, data_may_be_missing: bool = False) -> onnx.ModelProto:
    """The file as it is, but for the name of the standard operators' domain, which is ``""`` and never ``ai.onnx``; and
    without its external data, which is looked for and not opened.

    Args:
        path: of the file.
        data_may_be_missing: for what needs no weights.

    Raises:
        SnDeployError: it can't be read, is no ONNX file, its external data is missing or lies elsewhere.
    """
    head = read_head(path)
    refuse_checkpoint(path, head, expected="an ONNX file")
    if head[4:8] == b"ORTM":
        raise SnDeployError("is in ONNX Runtime's own format", where=str(path), mend="give the ONNX file instead")
    try:
        proto = onnx.load(path, format="protobuf", load_external_data=False)
    except DecodeError as error:
        raise SnDeployError("is cut off, damaged or no ONNX file", where=str(path), mend=COPY_AGAIN) from error
    if not proto.ir_version or not proto.HasField("graph"):
        raise SnDeployError("is no ONNX file", where=str(path), expected="an ONNX model")
    if (bad := _first_that_is_no_text(proto)) is not None:
        raise SnDeployError(f"holds a name that is no UTF-8: {bad!r:.80}", where=str(path), mend=COPY_AGAIN)
    _settle_domain(proto)
    missing = sorted(name for name, file in external_files(proto, path).items() if not file.is_file())
    if missing and not data_may_be_missing:
        raise SnDeployError(
            f"its external data {missing[0]} is missing", where=str(path), mend="copy it beside the file"
        )
    for tensor in tensors_of(proto):
        if tensor.data_location == onnx.TensorProto.EXTERNAL:
            _check_bounds(tensor, path)
    return proto


def input_names(path: Path) -> list[str]:
    """What the file's graph is to be given, in order: its inputs but for weights, which old files list there, too.

    Raises:
        SnDeployError: as `read_proto`, but for external data, which may be missing.
    """
    graph = read_proto(path, data_may_be_missing=True).graph
    weights = {tensor.name for tensor in graph.initializer}
    return [value.name for value in graph.input if value.name not in weights]


def read_model(path: Path) -> ir.Model:
    """The model of an ONNX file; its external data is read when it is needed.

    Raises:
        SnDeployError: as `read_proto`, a tensor's size lies, or it breaks the format.
    """
    return model_of(read_proto(path), path)


def model_of(proto: onnx.ModelProto, path: Path) -> ir.Model:
    """The model of what `read_proto` read. Changes ``proto`` as `check_sizes` and `load_attributes` do.

    Raises:
        SnDeployError: a tensor's size lies, or it breaks the format.
    """
    check_sizes(proto, path)
    load_attributes(proto, path)
    with as_invalid(path):
        model = ir.from_proto(proto)
        ir.external_data.set_base_dir(model.graph, path.parent)
    return model


@contextlib.contextmanager
def as_invalid(path: Path) -> Iterator[None]:
    """Turns what onnx_ir stumbles over in a file that breaks the format into an error of ours."""
    try:
        yield
    except Exception as error:  # SerdeError, ValueError, KeyError
        raise SnDeployError(
            f"is no valid ONNX model ({first_line(error)[:160]})", where=str(path), mend=COPY_AGAIN
        ) from error


@contextlib.contextmanager
def as_unworkable(path: Path, what: str) -> Iterator[None]:
    """Turns what the libraries that read, follow and write graphs stumble over, in one that breaks the format in a way
    that nobody looks for, into an error of ours; our own stay as they are.

    Args:
        what: can't be done.
    """
    try:
        yield
    except SnDeployError:
        raise
    except Exception as error:
        raise SnDeployError(
            f"{what}: {type(error).__name__}: {first_line(error)[:200]}",
            where=str(path),
            expected="a valid ONNX model",
            mend="check it with onnx.checker.check_model; if it is valid, please report this with the file",
        ) from error


def _settle_domain(proto: onnx.ModelProto) -> None:
    """Calls the domain of the standard operators ``""`` throughout: ``ai.onnx`` is its name, too, and libraries look
    for one of the two."""
    for imports in (proto.opset_import, *(function.opset_import for function in proto.functions)):
        if all(entry.domain for entry in imports):
            for entry in imports:
                entry.domain = "" if entry.domain == _STANDARD_DOMAIN else entry.domain
    for holder in (proto.graph, *proto.functions):
        for node in proto_nodes(holder.node):
            if node.domain == _STANDARD_DOMAIN:
                node.domain = ""


def _first_that_is_no_text(message: Message) -> bytes | None:
    """A string of a message, or of one within it, that is no UTF-8. Protobuf passes it on as bytes, and doesn't say so.

    Libraries take names for str, and stumble where they are sorted, printed or written again.
    """
    if isinstance(message, onnx.TensorProto):  # not all fields: each look at its numbers is a copy
        texts: tuple[object, ...] = (message.name, message.doc_string)
        return next((text for text in texts if isinstance(text, bytes)), None)
    for field, value in message.ListFields():
        if field.type == field.TYPE_STRING:
            for text in (value,) if isinstance(value, (str, bytes)) else value:
                if isinstance(text, bytes):
                    return text
        elif field.type == field.TYPE_MESSAGE:
            for inner in (value,) if isinstance(value, Message) else value:
                if (found := _first_that_is_no_text(inner)) is not None:
                    return found
    return None


def external_files(proto: onnx.ModelProto, path: Path) -> dict[str, Path]:
    """The names that the file gives to external data, and the files that they stand for; these may be missing.

    Raises:
        SnDeployError: a name leads out of the folder, or to what is no plain file of its own.
    """
    names = {
        entry.value: None
        for tensor in tensors_of(proto)
        if tensor.data_location == onnx.TensorProto.EXTERNAL
        for entry in tensor.external_data
        if entry.key == "location"
    }
    return {name: _inside(name, path) for name in names}


def size_with_data(proto: onnx.ModelProto, path: Path) -> int:
    """Bytes of the file and of those that hold its external data. Errors as in `external_files`."""
    return sum(file.stat().st_size for file in {path, *external_files(proto, path).values()})


def _check_bounds(tensor: onnx.TensorProto, path: Path) -> None:
    """Refuses a tensor that has less in its file than its shape and type say, or more; a missing file has none to hold
    it against.
    """
    said = {entry.key: entry.value for entry in tensor.external_data}
    where = f"weight {tensor.name!r}"
    try:
        offset, length = (int(said[key]) if key in said else None for key in ("offset", "length"))
    except ValueError:
        raise SnDeployError(f"{where} lies at {said!r:.120}", where=str(path), mend=COPY_AGAIN) from None
    needed = byte_count(tensor)
    if "location" not in said or needed is None:
        what = "lies in no file" if needed is not None else f"is of type {tensor.data_type} and shape {tensor.dims!r}"
        raise SnDeployError(f"{where} {what}", where=str(path), mend=COPY_AGAIN)
    if length not in (None, needed):
        raise SnDeployError(f"{where} has {length} bytes", where=str(path), expected=str(needed), mend=COPY_AGAIN)
    file = path.parent / said["location"]
    there = file.stat().st_size if file.is_file() else None
    if (offset or 0) < 0 or (there is not None and (offset or 0) + needed > there):
        raise SnDeployError(
            f"{where} begins at byte {offset or 0} of {said['location']} and has {needed} bytes",
            where=str(path),
            expected=f"no more than the file's {there}",
            mend=COPY_AGAIN,
        )


def load_external_data(tensor: onnx.TensorProto, path: Path) -> None:
    """Brings what a tensor has in another file, one that `read_proto` has found, into the tensor.

    Raises:
        SnDeployError: there is less than the tensor says, or it can't be read.
    """
    if tensor.data_location != onnx.TensorProto.EXTERNAL:
        return
    try:
        load_external_data_for_tensor(tensor, str(path.parent))
    except (OSError, ValueError, onnx.checker.ValidationError) as error:
        raise SnDeployError(
            f"the external data of {tensor.name!r} can't be read: {first_line(error)[:160]}",
            where=str(path),
            mend=COPY_AGAIN,
        ) from error
    tensor.ClearField("data_location")
    tensor.ClearField("external_data")


def load_attributes(proto: onnx.ModelProto, path: Path) -> None:
    """Brings what nodes hold in another file, as Constant nodes may, into ``proto``: what writes weights anew looks for
    initializers alone. What is missing stays as it is.

    Raises:
        SnDeployError: as `load_external_data`.
    """
    nodes = [*proto.graph.node, *(node for function in proto.functions for node in function.node)]
    for tensor in _tensors_of_attributes(attribute for node in nodes for attribute in node.attribute):
        location = next((entry.value for entry in tensor.external_data if entry.key == "location"), None)
        if location is not None and (path.parent / location).is_file():
            load_external_data(tensor, path)


def _inside(name: str, path: Path) -> Path:
    parts = PurePosixPath(name).parts
    outside = PurePosixPath(name).is_absolute() or PureWindowsPath(name).anchor or ".." in parts or "\0" in name
    if outside or not parts:
        raise _refused(f"lies outside its folder: {name!r}", path)
    file = path.parent
    for part in parts:
        file /= part
        try:
            found = file.lstat()
        except FileNotFoundError:
            break
        except OSError as error:
            raise _refused(f"{name!r} can't be looked at: {error.strerror}", path) from error
        if stat.S_ISLNK(found.st_mode):
            raise _refused(f"{name!r} is a symbolic link", path)
    else:
        if not stat.S_ISREG(found.st_mode):
            raise _refused(f"{name!r} is no file", path)
        if found.st_nlink > 1:
            raise _refused(f"{name!r} is a hard link: the same file has another name", path)
    return path.parent / name


def _refused(what: str, path: Path) -> SnDeployError:
    return SnDeployError(
        f"its external data {what}", where=str(path), expected=_EXPECTED, mend="if you trust it, copy the data there"
    )


def tensors_of(proto: onnx.ModelProto) -> Iterator[onnx.TensorProto]:
    """All of them, wherever the format has a place for one."""
    graphs = [proto.graph]
    for training in proto.training_info:
        graphs += [training.initialization, training.algorithm]
    for graph in graphs:
        yield from _tensors_of_graph(graph)
    for function in proto.functions:
        yield from _tensors_of_attributes(function.attribute_proto)
        for node in function.node:
            yield from _tensors_of_attributes(node.attribute)


def _tensors_of_graph(graph: onnx.GraphProto) -> Iterator[onnx.TensorProto]:
    yield from graph.initializer
    for sparse in graph.sparse_initializer:
        yield from (sparse.values, sparse.indices)
    for node in graph.node:
        yield from _tensors_of_attributes(node.attribute)


def _tensors_of_attributes(attributes: Iterable[onnx.AttributeProto]) -> Iterator[onnx.TensorProto]:
    for attribute in attributes:
        yield from (attribute.t, *attribute.tensors)
        for sparse in (attribute.sparse_tensor, *attribute.sparse_tensors):
            yield from (sparse.values, sparse.indices)
        for graph in (attribute.g, *attribute.graphs):
            yield from _tensors_of_graph(graph)

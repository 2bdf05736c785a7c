"""Writing a model: checked, atomic, with external data where protobuf's 2 GiB don't suffice."""

from __future__ import annotations

import contextlib
import glob
import hashlib
import mmap
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Final

import onnx
import onnx_ir as ir

from sn_deploy.atomic import atomic_output
from sn_deploy.errors import SnDeployError, first_line
from sn_deploy.graph.inference_guard import check_inferable
from sn_deploy.input_file import utf8_path
from sn_deploy.onnx_file import tensors_of
from sn_deploy.output_file import check_onnx_output

# protobuf's limit is 2 GiB for the whole message; the rest of the graph gets what is left above this.
EXTERNAL_DATA_FROM_BYTES: Final = 1_900_000_000

# Tensors below this stay in the file itself: shapes, axes and SwitchNorm's constants are read without the data file.
_SMALLEST_EXTERNAL_BYTES: Final = 16_384


def weight_bytes(model: ir.Model) -> int:
    """Bytes of all initializers, those of subgraphs included."""
    values = (value for graph in model.graphs() for value in graph.initializers.values())
    return sum(value.const_value.nbytes for value in values if value.const_value is not None)


def save(
    model: ir.Model,
    path: str | os.PathLike[str],
    *,
    external_data: bool | None = None,
    prove: Callable[[Path], None] = lambda draft: None,
    source: Path | None = None,
) -> Path | None:
    """Checks the model and writes it: the file at ``path`` is the old one until the new one is whole.

    Weights of ``model`` that lie in a file of another one's are read from there, and are the new one's own.

    External data goes to ``NAME.onnx.HASH.data`` beside the file. The name holds a hash of the content, so that a
    model never finds the data of another export, not even when the process is killed between the two renames.

    Args:
        external_data: whether large tensors go to a file beside it; by default only when they have to.
        prove: called with the whole file, its external data beside it, before it gets its name. What it raises leaves
            everything as it was.
        source: the user's file that the model was made of: where that isn't valid either, it is what is named.

    Returns:
        The path of the external data, or None.

    Raises:
        SnDeployError: the model isn't valid, the path can't be written, or it is no ONNX file's.
    """
    target = Path(path)
    check_onnx_output(target)
    # The checker infers shapes, too.
    check_inferable(model, str(target))
    if external_data is None:
        external_data = weight_bytes(model) >= EXTERNAL_DATA_FROM_BYTES
    if not external_data:
        ir.external_data.load_to_model(model)
        proto = ir.to_proto(model)
        _check(proto, target, source)
        with atomic_output(target) as temporary:
            temporary.write_bytes(proto.SerializeToString())
            prove(temporary)
        _remove_stale_data(target, keep=None)
        return None
    return _save_external(model, target, prove, source)


def _save_external(model: ir.Model, target: Path, prove: Callable[[Path], None], source: Path | None) -> Path:
    with tempfile.TemporaryDirectory(prefix=f".{target.stem[:40]}-", dir=target.parent) as folder:
        # First under a name that is not final: the name needs the hash of what is written.
        draft = Path(folder) / "model.onnx"
        draft_data = "draft.data"
        ir.save(model, draft, external_data=draft_data, size_threshold_bytes=_SMALLEST_EXTERNAL_BYTES)
        written = Path(folder) / draft_data
        if not written.exists():
            raise SnDeployError(
                "no tensor is large enough for external data", where=str(target), mend="leave --external-data out"
            )
        data = target.with_name(f"{target.name}.{_hash(written)}.data")
        proto = onnx.load(draft, load_external_data=False)
        for tensor in tensors_of(proto):
            for entry in tensor.external_data:
                if entry.key == "location" and entry.value == draft_data:
                    entry.value = data.name
        written.rename(Path(folder) / data.name)
        draft.write_bytes(proto.SerializeToString())
        _check(draft, target, source)
        prove(draft)
        try:
            (Path(folder) / data.name).replace(data)
        except OSError as error:
            raise SnDeployError(f"can't be written: {error.strerror}", where=str(data)) from error
        with atomic_output(target) as temporary:
            temporary.write_bytes(draft.read_bytes())
    _remove_stale_data(target, keep=data)
    return data


def _check(model: onnx.ModelProto | Path, target: Path, source: Path | None) -> None:
    """onnx's checker with strict type and shape inference; a Path lets it read models over 2 GiB."""
    fault = _fault_of(model)
    if fault is None:
        return
    own = _fault_of(source) if source is not None else None
    if own is not None:
        raise SnDeployError(
            f"isn't valid ONNX: {own}",
            where=str(source),
            mend="nothing was written; export it again, by another exporter or with another opset",
        )
    raise SnDeployError(
        f"the exported graph isn't valid ONNX, so it wasn't written: {fault}",
        where=str(target),
        mend="please report this with the model's code",
    )


def _fault_of(model: onnx.ModelProto | Path) -> str | None:
    """What onnx's checker says against it, in a line."""
    try:
        onnx.checker.check_model(model if isinstance(model, onnx.ModelProto) else utf8_path(model), full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        return first_line(error)
    return None


def _remove_stale_data(target: Path, keep: Path | None) -> None:
    """Data files of earlier exports to the same path, which no model beside it refers to any more."""
    for stale in target.parent.glob(f"{glob.escape(target.name)}.*.data"):
        digest = stale.name[len(target.name) + 1 : -len(".data")]
        ours = len(digest) == 16 and set(digest) <= set("0123456789abcdef")
        if stale != keep and ours and stale.is_file() and not _is_named(stale, target):
            with contextlib.suppress(OSError):  # the model itself is written by now
                stale.unlink()


def _is_named(data: Path, target: Path) -> bool:
    """Whether another model in the folder names this file: one that was renamed, or copied, keeps its data.

    The name is looked for in all of the file; what can't be read may name it.
    """
    name = os.fsencode(data.name)
    for other in target.parent.glob("*.onnx"):
        if other == target or not other.is_file():
            continue
        try:
            with other.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
                if content.find(name) >= 0:
                    return True
        except ValueError:
            continue  # an empty file, which can't be mapped
        except OSError:
            return True
    return False


def _hash(path: Path) -> str:
    digest = hashlib.blake2b(digest_size=8)
    with path.open("rb") as file:
        while block := file.read(1 << 22):
            digest.update(block)
    return digest.hexdigest()

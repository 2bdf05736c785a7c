"""From a checkpoint file to the object in it, executing nothing: `weights_only=True` or safetensors, no fallback."""

from __future__ import annotations

import itertools
import pickle
import pickletools
import re
import shlex
import zipfile
from pathlib import Path

import safetensors
import safetensors.torch
import torch

from sn_deploy.archive import check_stored, entries, names
from sn_deploy.errors import SnDeployError
from sn_deploy.input_file import COPY_AGAIN, read_head, utf8_path

_ZIP = b"PK\x03\x04"
_PICKLE = b"\x80"  # the PROTO opcode, which every pickle since protocol 2 begins with


def read_file(path: Path) -> object:
    """The object in a checkpoint file, tensors on the CPU and memory-mapped where the format allows it.

    Raises:
        SnDeployError: the file is missing, is no checkpoint, is damaged, or needs pickle's code execution.
    """
    head = read_head(path)
    if path.suffix.lower() == ".safetensors":
        return _read_safetensors(path)
    if head.startswith(_ZIP):
        _check_zip(path)
    elif not head.startswith(_PICKLE):
        raise SnDeployError(
            "is not a checkpoint", where=str(path), expected="a file written by torch.save, or a .safetensors file"
        )
    return _read_pytorch(path, is_zip=head.startswith(_ZIP))


def _read_safetensors(path: Path) -> dict[str, torch.Tensor]:
    try:
        tensors: dict[str, torch.Tensor] = safetensors.torch.load_file(utf8_path(path), device="cpu")
    except (safetensors.SafetensorError, OSError, ValueError) as error:
        raise SnDeployError(f"is not a whole safetensors file: {error}", where=str(path), mend=COPY_AGAIN) from error
    return tensors


def _check_zip(path: Path) -> None:
    """Refuses zip archives that torch.load doesn't read, or reads by running what is in them."""
    inside = names(entries(path, where=str(path)))
    if "constants.pkl" in inside:
        raise SnDeployError(
            "is a TorchScript archive, which is a program and not a state dict",
            where=str(path),
            mend=_mend_with(
                path, "import torch; torch.save(dict(torch.jit.load({source}, 'cpu').state_dict()), {target})"
            ),
        )
    if "data.pkl" not in inside:
        raise SnDeployError(
            "is a zip archive, but not one written by torch.save", where=str(path), mend="unpack it if it holds one"
        )
    check_stored(path, where=str(path))


def _read_pytorch(path: Path, *, is_zip: bool) -> object:
    try:
        # Only the zip format can be mapped, and by a name that Python and C++ read the same; torch refuses mmap for the
        # format before it.
        if is_zip and utf8_path(path) == str(path):
            return torch.load(path, map_location="cpu", weights_only=True, mmap=True)
        with path.open("rb") as file:
            return torch.load(file, map_location="cpu", weights_only=True)
    except SnDeployError:
        raise
    except pickle.UnpicklingError as error:
        raise _unpickling_error(path, str(error), is_zip=is_zip) from error
    except Exception as error:
        # A damaged file breaks the reader anywhere: RuntimeError, EOFError, KeyError, IndexError, struct.error, …
        reason = " ".join(str(error).split())[:120]
        raise SnDeployError(
            f"is cut off or damaged ({type(error).__name__}: {reason})", where=str(path), mend=COPY_AGAIN
        ) from error


def _unpickling_error(path: Path, message: str, *, is_zip: bool) -> SnDeployError:
    found = re.search(r"GLOBAL (\S+)", message)
    if found is None:
        return SnDeployError("is cut off, damaged or not a checkpoint", where=str(path), mend=COPY_AGAIN)
    name = found.group(1)
    if is_zip and name == _class_of_pickle(path):
        what = f"is a whole pickled object ({name}), not a state dict: loading it would run code from the file"
    else:
        what = f"holds an object other than tensors ({name}): loading it would run code from the file"
    return SnDeployError(what, where=str(path), mend=_mend_with(path, _KEEP_TENSORS))


def _class_of_pickle(path: Path) -> str | None:
    """The class whose instance the whole pickle is, read from its opcodes; None where it is a dict."""
    try:
        with zipfile.ZipFile(path) as archive:
            name = next(name for name in archive.namelist() if name.partition("/")[2] == "data.pkl")
            _, (opcode, argument, _) = itertools.islice(pickletools.genops(archive.read(name)), 2)
    except (ValueError, OSError, zipfile.BadZipFile, StopIteration):
        return None
    return str(argument).replace(" ", ".") if opcode.name == "GLOBAL" else None


# Keeps tensors and (nested) dicts of them, and turns modules into their state dicts.
_KEEP_TENSORS = (
    "import torch; keep = lambda x: keep(x.state_dict()) if hasattr(x, 'state_dict') else "
    "{{k: keep(v) for k, v in x.items() if hasattr(v, 'items') or hasattr(v, 'state_dict') or torch.is_tensor(v)}} "
    "if hasattr(x, 'items') else x; "
    "torch.save(keep(torch.load({source}, 'cpu', weights_only=False)), {target})"
)


def _mend_with(path: Path, script: str) -> str:
    """A line for the user's shell that writes a state dict which can be read without running code."""
    target = path.with_name(f"{path.stem}-weights.pth")
    code = script.format(source=repr(str(path)), target=repr(str(target)))
    # The script is written with single quotes; a shell takes it whole between double ones.
    quoted = shlex.quote(code) if set(code) & set('"$`\\!') else f'"{code}"'
    return f"if you trust the file, write its weights alone with: python -c {quoted}"

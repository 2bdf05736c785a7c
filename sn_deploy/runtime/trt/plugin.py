"""The project's TensorRT plugin: found, held against TensorRT's version, and loaded into the registry."""

from __future__ import annotations

import hashlib
import re
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from sn_deploy.errors import SnDeployError
from sn_deploy.runtime.native import SWITCH, find_library
from sn_deploy.runtime.trt.library import MAJORS, MESSAGES, logger, tensorrt, version_of
from sn_deploy.runtime.trt.sidecar import LOADED, Sidecar

_BUILD_IT: Final = "build it with: pip install . -C cmake.define.SN_WITH_TENSORRT=ON (docs/guides/tensorrt-plugin.md)"
# The runtime may not import the graph part of the package: the names in sn_deploy.graph.op.
CREATORS: Final = ("SwitchNorm", "SwitchNormRelu", "SwitchNormAddRelu")
_CREATOR_VERSION: Final = "1"
_ELF_HEADER_BYTES: Final = 64
# The library whose operators are registered: one at most, and for good.
_LOADED: Final[list[Path]] = []


def find_plugin(major: int, named: Path | None = None) -> Path:
    """The plugin library for a major version of TensorRT.

    Args:
        named: a file to take in place of the package's own.

    Raises:
        SnDeployError: there is none, or it is for another version.
    """
    if named is not None:
        _check_major(named, major)
        return named
    found = find_library(_file_name(major))
    if found is not None:
        _check_major(found, major)
        return found
    others = [other for other in MAJORS if other != major and find_library(_file_name(other)) is not None]
    what = f"there is no {_file_name(major)}"
    if others:
        what += f": the plugin here is for TensorRT {others[0]}, and {tensorrt().__version__} is installed"
    elif find_library("libsn_deploy_*.so") is None:
        what += f" (or {SWITCH}=0 turns it off)"
    raise SnDeployError(what, where="TensorRT plugin", mend=_BUILD_IT)


def load_plugin(library: Path) -> Path | None:
    """Registers the three operators; a second call, or operators that came another way, change nothing.

    Returns:
        The library that they are of; None where they came another way.

    Raises:
        SnDeployError: it is for another version of TensorRT, or TensorRT refuses it.
    """
    trt = tensorrt()
    _check_major(library, version_of(trt)[0])
    trt.init_libnvinfer_plugins(logger(), "")
    if is_loaded():
        return loaded_library()
    MESSAGES.clear()
    # Absolute: TensorRT says nothing of a bare file name, and finds nothing.
    if trt.get_plugin_registry().load_library(str(library.resolve())) is None or not is_loaded():
        raise SnDeployError(
            f"TensorRT {trt.__version__} refuses it: {MESSAGES.reason()}",
            where=str(library),
            mend="see what sn-deploy doctor says of it",
        )
    _LOADED.append(library)
    return library


def loaded_library() -> Path | None:
    """What `load_plugin` has registered in this process."""
    return next(iter(_LOADED), None)


def load_plugin_for(sidecar: Sidecar | None, named: Path | None) -> tuple[Path | None, str | None]:
    """Loads the plugin where the engine needs it, and where nothing tells whether it does if it is at hand.

    Args:
        sidecar: of the engine.
        named: a file to take in place of the package's own.

    Returns:
        The library, None where none is needed or it isn't known; and what speaks against it, a sentence.

    Raises:
        SnDeployError: the engine needs it and it isn't there, or the one that is named isn't fit.
    """
    built_with = sidecar.plugin if sidecar is not None and sidecar.plugin["use"] == LOADED else None
    if named is None and sidecar is not None and built_with is None:
        return None, None
    library = loaded_library()
    if named is not None or not is_loaded():
        try:
            library = load_plugin(find_plugin(version_of(tensorrt())[0], named))
        except SnDeployError as error:
            if named is None and built_with is None:
                return None, None
            if built_with is None:
                raise
            raise _with_library(error, built_with) from error
    if library is None:
        return None, None
    if named is not None and not library.samefile(named):
        return library, f"the plugin of this process is {library} already, and {named} isn't loaded"
    return library, None if built_with is None else _other_build(built_with, library)


def _with_library(error: SnDeployError, built_with: Mapping[str, Any]) -> SnDeployError:
    own = f"the engine was built with {built_with.get('library')}: --plugin-library FILE.so"
    mend = own if error.mend is None else f"{own}; or {error.mend}"
    return error.but(mend=mend)


def _other_build(built_with: Mapping[str, Any], library: Path) -> str | None:
    own, found = built_with.get("sha256"), hashlib.sha256(library.read_bytes()).hexdigest()
    if own in (None, found):
        return None
    return (
        f"was built with another {built_with.get('library')} (SHA-256 {str(own)[:12]}…) than {library} "
        f"({found[:12]}…): if it fails or is wrong, build it anew, or give that library: --plugin-library FILE.so"
    )


def is_loaded() -> bool:
    """Whether TensorRT's registry has the operators, from wherever."""
    registry = tensorrt().get_plugin_registry()
    return all(_creator(registry, name) is not None for name in CREATORS)


def majors_of(library: Path) -> list[int]:
    """The major versions of TensorRT that a plugin library is for, from the names that it looks up.

    Raises:
        SnDeployError: it can't be read.
    """
    try:
        content = library.read_bytes()
    except OSError as error:
        raise SnDeployError(f"can't be read: {error.strerror}", where=str(library)) from error
    if _is_cut_off(content):
        raise SnDeployError("is cut off", where=str(library), mend="copy it again")
    return sorted({int(major) for major in re.findall(rb"libnvinfer\.so\.(\d+)", content)})


def _check_major(library: Path, major: int) -> None:
    majors = majors_of(library)
    if major in majors:
        return
    if not majors:
        raise SnDeployError(
            "is no TensorRT plugin of sn-deploy", where=str(library), expected=f"a {_file_name(major)}", mend=_BUILD_IT
        )
    raise SnDeployError(
        f"is for TensorRT {majors[0]}, and {tensorrt().__version__} is installed",
        where=str(library),
        expected=_file_name(major),
        mend=f"use that, or TensorRT {majors[0]}",
    )


def _is_cut_off(content: bytes) -> bool:
    """Whether a 64-bit ELF file ends before its table of sections, which linkers put last: to load it is to crash."""
    if content[:5] != b"\x7fELF\x02" or len(content) < _ELF_HEADER_BYTES:
        return content[:4] == b"\x7fELF"
    (offset,) = struct.unpack_from("<Q", content, 40)
    size, count = struct.unpack_from("<HH", content, 58)
    return bool(len(content) < offset + size * count)


def _creator(registry: Any, name: str) -> Any:
    return registry.get_creator(name, _CREATOR_VERSION, "")


def _file_name(major: int) -> str:
    return f"libsn_deploy_trt{major}.so"

"""The paths of a conversion: the file that is read, the one that is written, and their sizes."""

from __future__ import annotations

import os
from pathlib import Path

from sn_deploy.errors import SnDeployError
from sn_deploy.input_file import read_head, source_path
from sn_deploy.onnx_file import read_proto, size_with_data
from sn_deploy.output_file import check_onnx_output
from sn_deploy.runtime.stamp import refuse_optimised


def check_paths(model: object, output: str | os.PathLike[str]) -> tuple[Path, Path]:
    """The file to read and the one to write; refuses, before any work is done, what can't be either, or is both.

    Raises:
        SnDeployError: see above, or the source was optimised for one machine.
    """
    source = source_path(model)
    check_onnx_output(output)
    path = Path(output)
    read_head(source)
    if path.exists() and path.samefile(source):
        raise SnDeployError(
            "is the file to be converted, which the result is held against", where=str(path), mend="write to another"
        )
    refuse_optimised(source, "is optimised for {machine}", "give the portable file: {source}")
    return source, path


def file_bytes(path: Path) -> int:
    """Of an ONNX file and of the files that hold its external data."""
    return size_with_data(read_proto(path), path)

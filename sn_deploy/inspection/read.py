"""The SN layers of a file that a user names, whatever kind of file it is."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from sn_deploy.errors import SnDeployError
from sn_deploy.input_file import begins_as_onnx, read_head, source_path
from sn_deploy.inspection.layer import LayerWeights
from sn_deploy.printed import Printed
from sn_deploy.python_words import naming_arguments

if TYPE_CHECKING:
    from sn_deploy.console import Console


@naming_arguments()
def layers_from_file(path: str | os.PathLike[str], *, key: str | None = None) -> list[LayerWeights]:
    """The SN layers of an ONNX file, or of a checkpoint.

    Args:
        path: of the file; what is in it counts, where its name doesn't say.
        key: of a checkpoint: dotted path of the state dict in it.

    Raises:
        SnDeployError: it is neither, has no SN layer, or ``key`` is given for an ONNX file; else as `layers_from_onnx`
            and `layers_from_checkpoint`.
    """
    path = source_path(path)
    if not _is_onnx(path):
        from sn_deploy.inspection.checkpoint_file import layers_from_checkpoint

        return Layers(layers_from_checkpoint(path, key))
    if key is not None:
        raise SnDeployError(f"is for checkpoints, and {path} is an ONNX file", where="--checkpoint-key")
    from sn_deploy.inspection.onnx_file import layers_from_onnx

    return Layers(layers_from_onnx(path))


class Layers(Printed, list[LayerWeights]):
    """A list that a notebook shows, and `print` prints, as `sn-deploy inspect` does."""

    def _line(self) -> str:
        from sn_deploy.inspection.show import summary_from_layers

        return summary_from_layers(self)

    def _print(self, console: Console) -> None:
        from sn_deploy.inspection.show import print_layers

        print_layers(console, self)


def _is_onnx(path: Path) -> bool:
    head, suffix = read_head(path), path.suffix.lower()
    return suffix in (".onnx", ".ort") or (begins_as_onnx(head) and suffix != ".safetensors")

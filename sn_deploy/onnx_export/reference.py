"""The model itself, to be run beside the file that is made of it."""

from __future__ import annotations

from collections.abc import Collection

import torch

from sn_deploy.capture.inputs import BoundInputs
from sn_deploy.capture.private_copy import private_copy
from sn_deploy.runtime.tensors import Array
from sn_deploy.runtime.torch import array_from_tensor, output_tensors


class Reference:
    """A model in float32 as it is before its SN layers become operators; its weights are shared, not copied.

    Args:
        model: in evaluation mode, on the CPU.
        layers: its SN layers, whose constants are float32 in every file.
        dtype: of the file's other weights: to this they are rounded, in a copy.
    """

    def __init__(self, model: torch.nn.Module, layers: Collection[str], dtype: torch.dtype) -> None:
        self._model = private_copy(model, shares_parameters=True)
        if dtype == torch.float32:
            return
        of_layers = {id(part) for name in layers for part in self._model.get_submodule(name).modules()}
        for module in self._model.modules():
            if id(module) not in of_layers:
                for tensor in (*module.parameters(recurse=False), *module.buffers(recurse=False)):
                    if tensor.is_floating_point():
                        tensor.data = tensor.data.to(dtype).float()

    def run(self, inputs: BoundInputs) -> list[Array]:
        """The tensors that it gives, in the order of the file's outputs.

        Raises:
            Exception: whatever the model raises.
        """
        with torch.no_grad(), torch.autocast("cpu", enabled=False):
            result = inputs.map(torch.Tensor.clone).call(self._model)  # a model may write to them
        return [array_from_tensor(tensor) for tensor in output_tensors(result, type(self._model).__name__)]

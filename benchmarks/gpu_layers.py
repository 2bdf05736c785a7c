"""The SN layers of ResNet-50 on a device, as the CUDA kernels and as torch take them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch

from sn_deploy.models import resnetv1sn50
from sn_deploy.nn import SwitchNorm2d
from sn_deploy.runtime.cuda import Addresses, CudaKernels, Epilogue, Layout, Problem, Tactic


@dataclass(frozen=True)
class Layer:
    """One layer of a net, or all that are alike.

    Attributes:
        channels, height, width: of its X.
        epilogue: what follows it in the net.
    """

    channels: int
    height: int
    width: int
    epilogue: Epilogue = "none"

    @property
    def name(self) -> str:
        """For tables: "256 x 56 x 56, add relu"."""
        return f"{self.channels} x {self.height} x {self.width}, {self.epilogue}"

    def moved_bytes(self, batch: int, element_bytes: int = 2) -> int:
        """The fewest that have to move: X and a residual read once, Y written once."""
        tensors = 3 if self.epilogue == "add relu" else 2
        return batch * self.channels * self.height * self.width * element_bytes * tensors


def resnet50_layers(size: int = 224) -> list[Layer]:
    """The net's layers in the order in which they run, with images of ``size`` x ``size``."""
    with torch.device("meta"):
        net = resnetv1sn50().eval()
    layers = []

    def record(epilogue: Epilogue) -> Callable[..., None]:
        def hook(module: torch.nn.Module, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
            layers.append(Layer(*inputs[0].shape[1:], epilogue=epilogue))

        return hook

    for name, module in net.named_modules():
        if isinstance(module, SwitchNorm2d):
            last = name.endswith("sn3")
            module.register_forward_hook(record("add relu" if last else "none" if "downsample" in name else "relu"))
    net(torch.empty(1, 3, size, size, device="meta"))
    return layers


def plain(layers: Sequence[Layer]) -> list[Layer]:
    """The same without what follows them."""
    return [replace(layer, epilogue="none") for layer in layers]


class OnDevice:
    """One layer's tensors, several times over: calls that go round them find none of it in the cache.

    Args:
        layer, batch, dtype, layout: of X.
        sets: how many X, Y and residuals.
    """

    def __init__(
        self, layer: Layer, batch: int, device: str, *, dtype: str = "float16", layout: Layout = "linear", sets: int = 1
    ) -> None:
        self.layer, self.layout = layer, layout
        torch_dtype = getattr(torch, dtype)
        memory_format = torch.channels_last if layout == "channels last" else torch.contiguous_format
        shape = (batch, layer.channels, layer.height, layer.width)

        def tensors() -> list[torch.Tensor]:
            made = (torch.randn(shape, device=device).to(torch_dtype) for _ in range(sets))
            return [tensor.contiguous(memory_format=memory_format) for tensor in made]

        self.x = tensors()
        self.y = [torch.full_like(x, float("nan")) for x in self.x]
        self.residual = tensors() if layer.epilogue == "add relu" else []
        self.module = _trained(SwitchNorm2d(layer.channels)).to(device)
        self.parameters = folded(self.module)
        self.problem = Problem(
            *(batch, layer.channels, layer.height * layer.width),
            dtype=dtype,
            layout=layout,
            stored_channels=layer.channels if layout == "channels last" else 0,
            epilogue=layer.epilogue,
            **branch_weights(self.module),
        )

    @property
    def moved_bytes(self) -> int:
        """See `Layer.moved_bytes`."""
        return self.layer.moved_bytes(self.problem.batch, self.x[0].element_size())

    def launcher(
        self, kernels: CudaKernels, tactic: Tactic, workspace: torch.Tensor, stream: Callable[[], int]
    ) -> Callable[[int], None]:
        """A function that launches the kernels on one of the sets."""
        parameters = [tensor.data_ptr() for tensor in self.parameters]
        addresses = [
            Addresses(x.data_ptr(), *parameters, y=y.data_ptr(), residual=residual)
            for x, y, residual in zip(self.x, self.y, self.residual_addresses(), strict=True)
        ]

        def launch(index: int) -> None:
            own = addresses[index % len(addresses)]
            # Taken here, so that the workspace lives as long as what launches on it.
            place = {"workspace": workspace.data_ptr(), "workspace_bytes": workspace.nbytes}
            kernels.launch(self.problem, own, tactic, stream=stream(), **place)

        return launch

    def residual_addresses(self) -> list[int]:
        """Of each set; 0 where nothing is added."""
        return [tensor.data_ptr() for tensor in self.residual] or [0] * len(self.x)

    def torch_module(self) -> WithEpilogue:
        """The layer and what follows it, in torch's terms."""
        return WithEpilogue(self.module, self.layer.epilogue)

    def torch_call(self, module: Callable[..., torch.Tensor]) -> Callable[[int], torch.Tensor]:
        """A function that runs ``module(x, residual)``, see `WithEpilogue`, on one of the sets."""
        residuals = self.residual or [None] * len(self.x)

        def call(index: int) -> torch.Tensor:
            own = index % len(self.x)
            with torch.no_grad():
                return module(self.x[own], residuals[own])

        return call


class WithEpilogue(torch.nn.Module):
    """An SN layer and what follows it, in torch's terms."""

    def __init__(self, norm: SwitchNorm2d, epilogue: Epilogue) -> None:
        super().__init__()
        self.norm, self.epilogue = norm, epilogue

    def forward(self, x: torch.Tensor, residual: torch.Tensor | None) -> torch.Tensor:
        """relu(norm(x) + residual), as far as the epilogue goes."""
        y = self.norm(x)
        if residual is not None:
            y = y + residual
        return y if self.epilogue == "none" else torch.relu(y)


def _trained(module: SwitchNorm2d) -> SwitchNorm2d:
    """Looks trained: no parameter or statistic at what it began with."""
    generator = torch.Generator().manual_seed(module.num_features)
    with torch.no_grad():
        for tensor in module.state_dict().values():
            tensor.copy_(torch.rand(tensor.shape, generator=generator) + 0.5)
    return module.eval()


def branch_weights(module: SwitchNorm2d) -> dict[str, float]:
    """mean_in, mean_ln, var_in and var_ln of the operator, by name."""
    mean, var = (weight.detach().softmax(0).tolist() for weight in (module.mean_weight, module.var_weight))
    return {"mean_in": mean[0], "mean_ln": mean[1], "var_in": var[0], "var_ln": var[1]}


def folded(module: SwitchNorm2d) -> list[torch.Tensor]:
    """scale, bias, mean_offset and var_offset of the operator."""
    mean_bn, var_bn = (weight.softmax(0)[2] for weight in (module.mean_weight, module.var_weight))
    offsets = (mean_bn * module.running_mean, var_bn * module.running_var + module.eps)
    return [tensor.detach().reshape(-1).contiguous() for tensor in (module.weight, module.bias, *offsets)]

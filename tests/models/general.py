"""Models that are no plain chain of SN layers, and what gives them the look of training."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from sn_deploy.nn import SwitchNorm2d
from tests.randomise import randomise_

Sample = dict[str, np.ndarray]


def trained(model: nn.Module, seed: int = 0) -> nn.Module:
    """With the look of training, in BatchNorm, InstanceNorm and GroupNorm layers, too."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for module in model.modules():
            for name, tensor in (*module.named_parameters(recurse=False), *module.named_buffers(recurse=False)):
                if tensor.is_floating_point():
                    noise = torch.randn(tensor.shape, generator=generator)
                    if name == "running_var":
                        tensor.copy_(0.5 + noise.abs())
                    elif tensor.ndim < 2:
                        tensor.copy_(0.3 * noise + (1 if name == "weight" else 0))
                    else:
                        tensor.copy_(noise / tensor[0].numel() ** 0.5)
    return randomise_(model, seed + 1).eval()


def images(*shapes: tuple[int, ...], seed: int = 0) -> list[Sample]:
    rng = np.random.default_rng(seed)
    return [{"x": rng.normal(0.2, 1.3, shape).astype(np.float32)} for shape in shapes]


class Mixed(nn.Module):
    """SN between BatchNorm, InstanceNorm and GroupNorm."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, bias=False), nn.BatchNorm2d(8), nn.ReLU())
        self.body = nn.Sequential(nn.Conv2d(8, 8, 3, bias=False), SwitchNorm2d(8), nn.ReLU())
        self.style = nn.Sequential(nn.Conv2d(8, 8, 3), nn.InstanceNorm2d(8, affine=True), nn.ReLU())
        self.group = nn.Sequential(nn.Conv2d(8, 8, 3), nn.GroupNorm(4, 8), nn.ReLU())
        self.last = nn.Sequential(nn.Conv2d(8, 4, 1), SwitchNorm2d(4, using_bn=False))

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.group(self.style(self.body(self.stem(x)))))


class Shared(nn.Module):
    """One layer called twice, under two names, and once more through a list: weights shared over a pyramid's levels."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 3, 3, padding=1), SwitchNorm2d(3)
        self.tower = nn.ModuleList([self.norm, nn.ReLU()])

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        coarse = F.avg_pool2d(x, 2)
        outputs = [self.norm(self.conv(level)) for level in (x, coarse)]
        for layer in self.tower:
            outputs[1] = layer(outputs[1])
        return outputs[0], outputs[1]


class Container(nn.Module):
    """A user's own container, which keeps its modules by a rule of its own and calls them by index."""

    def __init__(self, *layers: nn.Module) -> None:
        super().__init__()
        for index, layer in enumerate(layers):
            self.add_module(f"step-{index}", layer)

    def __getitem__(self, index: int) -> nn.Module:
        return list(self._modules.values())[index]

    def forward(self, x: Tensor) -> Tensor:
        for index in range(len(self._modules)):
            x = self[index](x)
        return x


class Subclassed(SwitchNorm2d):
    """A user's subclass, with a name and an argument of its own, that only logs."""

    def __init__(self, width: int, tag: str) -> None:
        super().__init__(width, eps=1e-3)
        self.tag = tag

    def forward(self, x: Tensor) -> Tensor:
        assert x.dim() == 4, self.tag
        return super().forward(x)


def nested() -> nn.Module:
    inner = Container(nn.Conv2d(3, 6, 3), Subclassed(6, "a"), nn.ReLU())
    choice = nn.ModuleDict({"yes": nn.Sequential(nn.Conv2d(6, 6, 1), nn.Sequential(SwitchNorm2d(6)))})
    return Container(inner, choice["yes"], Container(nn.Sequential(nn.ReLU(), nn.Conv2d(6, 2, 1), SwitchNorm2d(2))))


class Two(nn.Module):
    """Two inputs of different kinds, outputs in a dict, and a vector of numbers between them."""

    def __init__(self) -> None:
        super().__init__()
        self.image, self.norm = nn.Conv2d(3, 4, 3), SwitchNorm2d(4)
        self.embed, self.join = nn.Embedding(7, 4), SwitchNorm2d(4)

    def forward(self, x: Tensor, kind: Tensor) -> dict[str, Tensor]:
        y = self.norm(self.image(x)).relu()
        z = self.join(y * self.embed(kind)[:, :, None, None])
        return {"features": y, "joined": z, "score": z.mean((1, 2, 3))}


class Selected(nn.Module):
    """Data-dependent shapes: of the positions whose score is high, as many as there are are taken out at the end."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 6, 3, padding=1), SwitchNorm2d(6)

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm(self.conv(x))
        flat = y.movedim(1, -1).reshape(-1, 6)
        return flat[torch.nonzero(flat[:, 0] > 0.5)[:, 0]]

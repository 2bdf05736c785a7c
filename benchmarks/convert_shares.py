"""What `sn_deploy.nn.convert` changes in a net's outputs, by the share of IN and LN that it starts with.

    python benchmarks/convert_shares.py --output benchmarks/results/convert_shares.json

torchvision's ResNet-18 and ResNet-50 with random weights and the statistics of eight images, as those of docs/models.md
have them. Both nets are run in float64, so that what is seen is the shares' own. ``rel_l2`` is that of the logits of
four other images at 224, ``max_abs`` their largest difference. No times.
"""

from __future__ import annotations

import argparse
import copy
from pathlib import Path
from typing import Any, Final

import torch
import torchvision
from interleaved import command_line, machine, write_results

from sn_deploy.atomic import check_writable
from sn_deploy.compare.parity import compare
from sn_deploy.nn import convert
from sn_deploy.nn.base import SwitchNorm
from sn_deploy.nn.conversion import DEFAULT_SHARE

SHARES: Final = (DEFAULT_SHARE, 1e-7, 1e-5, 1e-3, 0.01, 0.1)
NETS: Final = ("resnet18", "resnet50")


def with_statistics(name: str) -> torch.nn.Module:
    """A net of torchvision whose recorded statistics are those of data."""
    torch.manual_seed(0)
    model = getattr(torchvision.models, name)(weights=None)
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = None  # the average over all that was seen
    with torch.no_grad():
        model.train()(images(8, seed=1))
    return model.double().eval()


def images(count: int, seed: int) -> torch.Tensor:
    """Random ones (N, 3, 224, 224), float32."""
    return torch.randn(count, 3, 224, 224, generator=torch.Generator().manual_seed(seed))


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, help="JSON file of the results")
    arguments = parser.parse_args()
    if arguments.output is not None:
        check_writable(arguments.output)
    results: dict[str, Any] = {
        "command": command_line(),
        "machine": machine(["torch", "torchvision", "numpy"], torch.get_num_threads()),
        "nets": {},
    }
    x = images(4, seed=2).double()
    for name in NETS:
        model = with_statistics(name)
        with torch.no_grad():
            expected = model(x).numpy()
        rows = {}
        for share in SHARES:
            converted = convert(copy.deepcopy(model), other_share=share)
            layers = sum(isinstance(module, SwitchNorm) for module in converted.modules())
            with torch.no_grad():
                found = compare(expected, converted(x).numpy())
            rows[f"{share:g}"] = {"rel_l2": float(f"{found.rel_l2:.4g}"), "max_abs": float(f"{found.max_abs:.4g}")}
            print(f"{name}, {layers} layers, {share:g}: {rows[f'{share:g}']}", flush=True)
        results["nets"][name] = {"layers": layers, "logit_rms": float((expected**2).mean() ** 0.5), "shares": rows}
        write_results(results, arguments.output)


if __name__ == "__main__":
    main()

"""Trains the demo's network on handwritten digits and writes its weights into the package.

    python tools/train_demo.py [--seed 20190506] [--epochs 30] [--output FILE]

One thread, deterministic algorithms and one seed for everything: on one machine with one version of torch, two runs
write the same file bit for bit. Other processors round convolutions differently, and end with other bits.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from safetensors.torch import save_file

from sn_deploy.atomic import atomic_output, check_writable
from sn_deploy.check.digits_data import DigitsSplit, load_digits_split
from sn_deploy.errors import SnDeployError
from sn_deploy.models.digits import METADATA_KEY, WEIGHTS, DigitsNet
from sn_deploy.nn import SwitchNorm

SEED = 20190506
EPOCHS = 30
BATCH = 32
LEARNING_RATE = 2e-3
# The mix weights see a gradient that is averaged over a whole layer: at the rate of the rest, 30 short epochs would
# leave them near uniform.
MIX_LEARNING_RATE = 2e-2
WEIGHT_DECAY = 1e-2


def main() -> None:
    """Trains, reports and writes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--epochs", type=int, default=EPOCHS)
    parser.add_argument("--output", type=Path, default=WEIGHTS)
    arguments = parser.parse_args()
    check_writable(arguments.output)
    start = time.perf_counter()
    data = load_digits_split()
    model = train(data, arguments.seed, arguments.epochs)
    correct = count_correct(model, data.test_images, data.test_labels)
    write(arguments.output, model, arguments.seed, arguments.epochs, correct, len(data.test_labels))
    print(mix_table(model))
    print(
        f"held-out accuracy {correct / len(data.test_labels):.2%} ({correct} of {len(data.test_labels)}), "
        f"{time.perf_counter() - start:.0f} s, {sum(p.numel() for p in model.parameters())} parameters: "
        f"{arguments.output}"
    )


@contextlib.contextmanager
def reproducible(seed: int) -> Iterator[None]:
    """One thread, deterministic algorithms and a seed for torch; all as before afterwards."""
    threads, deterministic = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        torch.set_num_threads(1)
        torch.use_deterministic_algorithms(True)
        try:
            yield
        finally:
            torch.set_num_threads(threads)
            torch.use_deterministic_algorithms(deterministic)


def train(data: DigitsSplit, seed: int, epochs: int) -> DigitsNet:
    """AdamW with a cosine schedule; each image is moved by up to one pixel. Returns the network in eval mode."""
    images, labels = torch.from_numpy(data.train_images), torch.from_numpy(data.train_labels)
    with reproducible(seed):
        model = DigitsNet()
        optimizer = torch.optim.AdamW(parameter_groups(model), lr=LEARNING_RATE)
        batches = len(labels) // BATCH  # the incomplete one is left out: its statistics are noisier
        schedule = torch.optim.lr_scheduler.LambdaLR(
            optimizer, lambda step: 0.5 * (1 + math.cos(math.pi * step / (epochs * batches)))
        )
        for _ in range(epochs):
            for chosen in torch.randperm(len(labels))[: batches * BATCH].view(batches, BATCH):
                loss = F.cross_entropy(model(shifted(images[chosen])), labels[chosen], label_smoothing=0.05)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                schedule.step()
    return model.eval()


def parameter_groups(model: DigitsNet) -> list[dict[str, Any]]:
    """Matrices and kernels decay; gains, biases and mix weights don't, and mix weights learn faster."""
    groups: dict[str, dict[str, Any]] = {
        "kernels": {"params": [], "weight_decay": WEIGHT_DECAY},
        "vectors": {"params": [], "weight_decay": 0.0},
        "mix": {"params": [], "weight_decay": 0.0, "lr": MIX_LEARNING_RATE},
    }
    for module in model.modules():
        for name, parameter in module.named_parameters(recurse=False):
            mix = name in ("mean_weight", "var_weight")
            vector = name == "bias" or isinstance(module, SwitchNorm)
            groups["mix" if mix else "vectors" if vector else "kernels"]["params"].append(parameter)
    return list(groups.values())


def shifted(images: torch.Tensor) -> torch.Tensor:
    """Each image (N, 1, 8, 8) moved by -1, 0 or 1 pixel in both directions, with background moved in."""
    padded = F.pad(images, (1, 1, 1, 1))
    moves = torch.randint(0, 3, (len(images), 2)).tolist()
    return torch.stack([image[:, y : y + 8, x : x + 8] for image, (y, x) in zip(padded, moves, strict=True)])


@torch.no_grad()
def count_correct(model: DigitsNet, images: np.ndarray, labels: np.ndarray) -> int:
    """How many images the model classifies rightly."""
    return int((model(torch.from_numpy(images)).argmax(1).numpy() == labels).sum())


def mix_table(model: DigitsNet) -> str:
    """The shares of IN, LN and BN, for the mean and for the variance, by layer."""
    lines = [f"{'layer':6} {'mean: IN':>9} {'LN':>6} {'BN':>6}   {'var: IN':>8} {'LN':>6} {'BN':>6}"]
    for name, layer in model.named_modules():
        if isinstance(layer, SwitchNorm):
            mean, var = (
                [f"{share:6.3f}" for share in logits.softmax(0).tolist()] + [f"{'-':>6}"] * (3 - len(logits))
                for logits in (layer.mean_weight, layer.var_weight)
            )
            lines.append(f"{name:6}    {' '.join(mean)}     {' '.join(var)}")
    return "\n".join(lines)


def write(path: Path, model: DigitsNet, seed: int, epochs: int, correct: int, held_out: int) -> None:
    """Writes the weights and the record of their training, or nothing."""
    record = {
        "accuracy": round(correct / held_out, 6),
        "correct": correct,
        "held_out": held_out,
        "seed": seed,
        "epochs": epochs,
        "torch": torch.__version__.split("+")[0],
    }
    with atomic_output(path) as temporary:
        save_file(model.state_dict(), temporary, metadata={METADATA_KEY: json.dumps(record)})


if __name__ == "__main__":
    try:
        main()
    except SnDeployError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)

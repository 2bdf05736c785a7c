"""Row 1, ImageNet: the authors' ResNets v1 and v2."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, Literal

import numpy as np
import torch

from sn_deploy import models as own_models
from tests.randomise import randomise_
from tools.rows.measure import measure, relative_l2, torch_outputs
from tools.rows.precision import precisions
from tools.rows.row import Figures, Place, Row, authors_code

REPOSITORY = "Switchable-Normalization"
SAMPLES = 32


def authors_model(place: Place, function: str, **options: Any) -> torch.nn.Module:
    """One of the authors' ResNets, with the look of a trained one."""
    with authors_code(place.repositories / REPOSITORY / "imagenet"):
        import models  # type: ignore[import-not-found]

        torch.manual_seed(0)
        model = getattr(models, function)(**options)
    return randomise_(model, seed=0).eval()


def batches(count: int, *shape: int, sizes: tuple[int, ...] = (8,), seed: int = 0) -> list[dict[str, np.ndarray]]:
    """``count`` samples of ``shape`` in batches of ``sizes`` in turn, and one alone: under the name x."""
    x = np.random.default_rng(seed).standard_normal((count, *shape), dtype=np.float32)
    made, start, turn = [], 0, 0
    while start < count - 1:
        stop = min(start + sizes[turn % len(sizes)], count - 1)
        made.append({"x": x[start:stop]})
        start, turn = stop, turn + 1
    return [*made, {"x": x[start:]}]


def _run(
    function: str, layers: int, own: Callable[..., torch.nn.Module], options: dict[str, Any], place: Place
) -> Figures:
    samples = batches(place.samples(SAMPLES), 3, 224, 224)
    model = authors_model(place, function, **options)
    # torch's newer exporter, which is slow, for some of the rows alone.
    exporter: Literal["dynamo", "torchscript"] = "dynamo" if function.endswith("50") and not options else "torchscript"
    figures = measure(model, samples, place, dynamic="batch", own=own(**options), layers=layers, exporter=exporter)
    # For the README, of the two ResNet-50 as published.
    more = precisions(model, samples[0]["x"], place) if function.endswith("50") and not options else {}
    return {**figures, **more}


def _summed(function: str, layers: int, batch_count: int, place: Place) -> Figures:
    """Batch averages: sums as training leaves them, refused until they are divided."""
    from sn_deploy.errors import SnDeployError
    from sn_deploy.onnx_export import export
    from sn_deploy.recognise import finalize_batch_average_

    samples = batches(place.samples(SAMPLES), 3, 224, 224)
    model = authors_model(place, function, using_moving_average=False)
    with torch.no_grad():
        for module in model.modules():
            if hasattr(module, "running_var"):
                square = module.running_mean**2 + module.running_var
                module.running_mean.mul_(batch_count)
                module.running_var.copy_(batch_count * square)
    example = torch.from_numpy(samples[0]["x"][:2])
    try:
        export(model, example, place.scratch / "sums.onnx")
    except SnDeployError as error:
        refusal = str(error)
    else:
        raise SystemExit("sums over batches were taken for averages")
    finalize_batch_average_(model, batch_count)
    own = getattr(own_models, function)(using_moving_average=False)
    figures = measure(model, samples, place, dynamic="batch", own=own, layers=layers)
    return {**figures, "note": f"sums over {batch_count} batches: refused, then divided", "refusal": refusal}


def _any_size(place: Place) -> Figures:
    """The authors' weights in our own model, whose last pooling takes what is left; theirs is 7x7."""
    authors = authors_model(place, "resnetv1sn50")
    model = own_models.resnetv1sn50().eval()
    model.load_state_dict(authors.state_dict())
    generator = np.random.default_rng(0)
    sizes = ((2, 224, 224), (1, 256, 192), (1, 320, 288))
    samples = [{"x": generator.standard_normal((n, 3, h, w), dtype=np.float32)} for n, h, w in sizes]
    figures = measure(model, samples, place, dynamic=("batch", "spatial"), layers=53)
    expected = torch_outputs(authors.double(), samples[:1])
    figures["own"] = relative_l2(expected, torch_outputs(model.double(), samples[:1]))
    return {**figures, "note": "the authors' weights in `sn_deploy.models`; theirs pools 7x7, so takes 224 alone"}


def _row(name: str, function: str, layers: int, **options: Any) -> Row:
    own = getattr(own_models, function)
    return Row(1, "ImageNet", name, (REPOSITORY,), partial(_run, function, layers, own, options))


def _summed_row(name: str, function: str, layers: int) -> Row:
    return Row(1, "ImageNet", f"{name}, batch average", (REPOSITORY,), partial(_summed, function, layers, 100))


ROWS = (
    _row("ResNet-50 v1", "resnetv1sn50", 53),
    _row("ResNet-50 v2", "resnetv2sn50", 50),
    _row("ResNet-50 v1 (8,1), no BN branch", "resnetv1sn50", 53, using_bn=False),
    _row("ResNet-50 v1, last_gamma off", "resnetv1sn50", 53, last_gamma=False),
    _row("ResNet-101 v1", "resnetv1sn101", 104),
    _row("ResNet-101 v2", "resnetv2sn101", 101),
    _summed_row("ResNet-50 v1", "resnetv1sn50", 53),
    _summed_row("ResNet-101 v2", "resnetv2sn101", 101),
    Row(1, "ImageNet", "ResNet-50 v1, our own model, at any size", (REPOSITORY,), _any_size),
)

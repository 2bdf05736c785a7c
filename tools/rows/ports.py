"""Rows 7 to 11: 1-D layers, ports, population normalization, converted models, and nets that are no plain chain.

The nets are the tests' own: of these kinds the papers published layers and no models. Row 8's nets of TensorFlow are in
`tools.rows.tf_ports`.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import onnx
import torch
from torch import nn

from sn_deploy.errors import SnDeployError
from sn_deploy.inspection.onnx_file import layers_from_onnx
from sn_deploy.nn import ChannelsLast, SwitchNorm2d, convert
from sn_deploy.nn.conversion import DEFAULT_SHARE
from sn_deploy.onnx_export import export
from sn_deploy.recognise import register
from tests.models.general import Mixed, Selected, Shared, Two, images, nested, trained
from tests.models.one_dimensional import sequences, vectors
from tests.randomise import randomise_
from tests.recognise import registered
from tools.rows.imagenet import REPOSITORY, batches
from tools.rows.measure import measure, relative_l2, torch_outputs
from tools.rows.row import Figures, Place, Row, authors_code

KERAS: dict[str, Any] = {"eps": 1e-3, "momentum": 0.99, "ddof": 0}


def _net(make: Callable[[], nn.Module], shapes: tuple[tuple[int, ...], ...], place: Place, **options: Any) -> Figures:
    torch.manual_seed(0)
    return measure(trained(make()), images(*shapes), place, **options)


def _vectors(place: Place) -> Figures:
    """The tests' net with the authors' own SwitchNorm1d in the place of ours, loaded with ours' state."""
    with authors_code(place.repositories / REPOSITORY):
        from devkit.ops.switchable_norm import SwitchNorm1d  # type: ignore[import-not-found]

    torch.manual_seed(0)
    model = vectors()
    for index, layer in enumerate(model):
        if hasattr(layer, "mean_weight"):
            model[index] = SwitchNorm1d(layer.num_features)
    samples = [{"x": x} for x in np.split(np.random.default_rng(0).normal(size=(64, 12)).astype(np.float32), [1, 24])]
    return measure(randomise_(model, 1).eval(), samples[::-1], place, dynamic="batch", own=vectors(), layers=2)


def _keras_like() -> nn.Module:
    """Channels last between transposes, biased variances, eps 1e-3, weights in the order BN, IN, LN."""
    layers: list[nn.Module] = []
    for channels, out in ((3, 16), (16, 16), (16, 8)):
        norm = ChannelsLast(SwitchNorm2d(out, **KERAS, order=("bn", "in", "ln")))
        layers += [ChannelsLast(nn.Conv2d(channels, out, 3, padding=1)), norm, nn.ReLU()]
    return nn.Sequential(*layers)


def _ports(place: Place) -> Figures:
    torch.manual_seed(0)
    samples = images((2, 20, 17, 3), (1, 12, 33, 3))
    dynamic = {"input": {0: "batch", 1: "height", 2: "width"}}
    return measure(trained(_keras_like()), samples, place, dynamic=dynamic, agreement="none", layers=3)


def _population() -> nn.Module:
    """BatchNorm behind a convolution, and SN that chose BN up to rounding: population normalization twice."""
    layers = (nn.Conv2d(3, 8, 3, bias=False), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 6, 3), SwitchNorm2d(6))
    return nn.Sequential(*layers)


def _pn(place: Place) -> Figures:
    torch.manual_seed(0)
    model = trained(_population())
    with torch.no_grad():
        for weights in (model[4].mean_weight, model[4].var_weight):
            weights.copy_(torch.tensor([0.0, 0.0, 16.0]))
    shapes = ((2, 3, 14, 12), (1, 3, 9, 21))
    figures = measure(model, images(*shapes), place, dynamic=("batch", "spatial"), agreement="none", layers=1)
    (layer,) = layers_from_onnx(place.scratch / "exported.onnx")
    shown = (layer.gamma, layer.population_mean, layer.population_var)
    exact = (model[4].weight, model[4].running_mean, model[4].running_var)
    for summary, tensor in zip(shown, exact, strict=True):
        if summary is None or abs(summary.median - np.median(tensor.detach().numpy())) > 1e-4:
            raise SystemExit(f"inspect shows {summary} for {tensor}")
    kinds = {node.op_type for node in onnx.load(place.scratch / "exported.onnx").graph.node}
    if "BatchNormalization" in kinds:
        raise SystemExit("BatchNorm isn't folded into its convolution")
    texts = [
        f"{name} {summary.median:.3g} ({summary.smallest:.3g} to {summary.largest:.3g})"
        for name, summary in zip(("gamma", "population mean", "variance"), shown, strict=True)
        if summary is not None
    ]
    return {
        **figures,
        "note": f"the plain BatchNorm is in its convolution; `sn-deploy inspect` shows {', '.join(texts)}",
    }


def _converted(share: float, place: Place) -> Figures:
    """torchvision's ResNet-50 with the statistics of eight images, converted; and its distance from before."""
    import torchvision

    torch.manual_seed(0)
    samples = [*batches(place.samples(24), 3, 224, 224), *images((1, 3, 256, 192))]
    before = _with_statistics(torchvision.models.resnet50(num_classes=100), images((8, 3, 224, 224), seed=1)[0]["x"])
    after = convert(copy.deepcopy(before), other_share=share)
    # Untrained, it rounds by 1.6e-5 itself.
    figures = measure(
        after,
        samples,
        place,
        dynamic=("batch", "spatial"),
        layers=53,
        check=("--max-rel-l2", "1e-4"),
    )
    return {**figures, "note": _distance_text(before, after, samples)}


def _with_statistics(model: nn.Module, x: np.ndarray) -> nn.Module:
    """The model in evaluation mode, its BatchNorm layers with the statistics of ``x``."""
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.momentum = None
    with torch.no_grad():
        model.train()(torch.from_numpy(x))
    return model.eval()


def _distance_text(before: nn.Module, after: nn.Module, samples: list[Any]) -> str:
    before, after = (copy.deepcopy(model).double() for model in (before, after))
    distance = relative_l2(torch_outputs(before, samples), torch_outputs(after, samples))
    return f"relative L2 to the BatchNorm model before, both in float64: {distance:.1e}"


def _registered(place: Place) -> Figures:
    """A layer that keeps its constants in a way of its own, and the reader that a user registers for it."""
    register(registered.read)
    samples = images((2, 3, 9, 8), (3, 3, 12, 7))
    figures = measure(registered.net(), samples, place, dynamic=("batch", "spatial"), agreement="none", layers=2)
    try:
        export(registered.net(fault=1e-6), torch.zeros(1, 3, 9, 8), place.scratch / "never.onnx")
    except SnDeployError as error:
        return {**figures, "note": f"one that computes something else than its reader says is refused: {error}"}
    raise SystemExit("a wrong reading was believed")


def _two(place: Place) -> Figures:
    torch.manual_seed(0)
    samples = [
        {**sample, "kind": np.arange(len(sample["x"]), dtype=np.int64) % 7}
        for sample in images((3, 3, 9, 8), (5, 3, 7, 9))
    ]
    return measure(trained(Two()), samples, place, dynamic=("batch", "spatial"), agreement="none", layers=2)


_ANY: dict[str, Any] = {"dynamic": ("batch", "spatial"), "agreement": "none"}
_GENERAL = "Generality"

ROWS = (
    Row(7, "1-D", "authors' SwitchNorm1d on (N, C)", (REPOSITORY,), _vectors),
    Row(
        7,
        "1-D",
        "SwitchNormSequence on (N, C, L)",
        (),
        partial(_net, sequences, ((2, 4, 21), (1, 4, 33), (3, 4, 10)), **_ANY, layers=3),
    ),
    Row(8, "Ports to Keras and TensorFlow", "options of sn_deploy.nn, (N, H, W, C)", (), _ports),
    Row(9, "Population normalization", "SN that chose BN, beside BatchNorm", (), _pn),
    Row(10, "Convert", "torchvision's ResNet-50", ("python:torchvision",), partial(_converted, DEFAULT_SHARE)),
    Row(10, "Convert", "the same, other_share=0.01", ("python:torchvision",), partial(_converted, 0.01)),
    Row(
        11,
        _GENERAL,
        "SN with BN, IN and GN",
        (),
        partial(_net, Mixed, ((2, 3, 14, 12), (1, 3, 20, 15)), **_ANY, layers=2),
    ),
    Row(
        11,
        _GENERAL,
        "one layer called three times",
        (),
        partial(_net, Shared, ((2, 3, 12, 16), (1, 3, 20, 8)), **_ANY, layers=3, exporter="dynamo"),
    ),
    Row(
        11,
        _GENERAL,
        "own containers and a subclass",
        (),
        partial(_net, nested, ((2, 3, 9, 8), (3, 3, 12, 7)), **_ANY, layers=3),
    ),
    Row(11, _GENERAL, "two inputs, three outputs", (), _two),
    Row(
        11,
        _GENERAL,
        "an output whose size depends on the data",
        (),
        partial(_net, Selected, ((2, 3, 9, 8), (3, 3, 5, 5)), **_ANY, layers=1, exporter="torchscript"),
    ),
    Row(11, _GENERAL, "a variant of a user's, registered", (), _registered),
)

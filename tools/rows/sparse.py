"""Row 6, sparse SN: the authors' ResNet-50 v1 with SSN, at the end of training and before it."""

from __future__ import annotations

from functools import partial
from unittest import mock

import torch

from sn_deploy import models as own_models
from sn_deploy.recognise import recognise
from tests.randomise import randomise_
from tools.rows.imagenet import batches
from tools.rows.measure import measure
from tools.rows.row import Figures, Place, Row, authors_code

REPOSITORY = "Sparse_SwitchNorm"
SAMPLES = 16


def authors_model(place: Place, radius: float) -> torch.nn.Module:
    """The authors' ResNet-50 with SSN, at a radius of its training.

    Its constructor allocates CUDA tensors, which forward overwrites before it reads them: there they are made on the
    CPU. (A user takes `sn_deploy.models.resnetv1ssn50`, or gives the authors' model `SparseSwitchNorm2d`.)
    """
    with (
        authors_code(place.repositories / REPOSITORY),
        mock.patch.object(torch.cuda, "FloatTensor", torch.FloatTensor),
    ):
        import models  # type: ignore[import-not-found]

        torch.manual_seed(0)
        model = models.resnetv1ssn50()
    randomise_(model, seed=0).eval()
    for module in model.modules():
        if hasattr(module, "set_rad"):
            module.set_rad(radius)
    return model


def _run(radius: float, place: Place) -> Figures:
    model = authors_model(place, radius)
    samples = batches(place.samples(SAMPLES), 3, 224, 224)
    with torch.no_grad():
        model(torch.from_numpy(samples[0]["x"][:1]))  # the layers that have chosen find it out
    own = own_models.resnetv1ssn50()
    figures = measure(model, samples, place, dynamic="batch", own=own, layers=53, exporter="torchscript")
    folded = recognise(model).layers.values()
    mean = sum(sorted((layer.mean_in, layer.mean_ln, layer.mean_bn)) == [0, 0, 1] for layer in folded)
    var = sum(sorted((layer.var_in, layer.var_ln, layer.var_bn)) == [0, 0, 1] for layer in folded)
    return {**figures, "note": f"weights that are exactly one-hot: of {mean} means and {var} variances of 53"}


def _row(name: str, radius: float) -> Row:
    return Row(6, "Sparse SN (SSN)", name, (REPOSITORY,), partial(_run, radius))


ROWS = (
    _row("ResNet-50 v1 with SSN, trained to the end", 0.82),
    _row("ResNet-50 v1 with SSN, midway", 0.4),
)

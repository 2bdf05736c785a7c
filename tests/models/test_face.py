"""The published face nets: the state's names and shapes, and the whole way with embeddings compared by cosine."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

import sn_deploy.models as models
from tests.models.states import sn_shapes, state_shapes
from tests.models.whole_way import through_everything
from tests.randomise import randomise_

DEPTHS = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 14, 3), 100: (3, 13, 30, 3)}


def published_shapes(layers: int, use_se: bool) -> dict[str, tuple[int, ...]]:
    """Names and shapes of a published checkpoint, spelled out from its naming rule."""
    shapes: dict[str, tuple[int, ...]] = {}

    def conv(name: str, outputs: int, inputs: int, size: int) -> None:
        shapes[f"{name}.weight"] = (outputs, inputs, size, size)

    def sn(name: str, channels: int) -> None:
        shapes.update(sn_shapes(name, channels))

    conv("conv1", 64, 3, 3)
    sn("norm1", 64)
    shapes["prelu.weight"] = (1,)
    inputs = 64
    for stage, depth in enumerate(DEPTHS[layers], 1):
        planes = 32 * 2**stage
        for block in range(depth):
            name = f"layer{stage}.{block}"
            sn(f"{name}.norm1", inputs)
            conv(f"{name}.conv1", planes, inputs, 3)
            sn(f"{name}.norm2", planes)
            conv(f"{name}.conv2", planes, planes, 3)
            sn(f"{name}.norm3", planes)
            shapes[f"{name}.prelu.weight"] = (1,)
            if block == 0:
                conv(f"{name}.downsample.0", planes, inputs, 1)
                sn(f"{name}.downsample.1", planes)
            if use_se:
                conv(f"{name}.se.fc1", planes // 16, planes, 1)
                shapes[f"{name}.se.pelu.weight"] = (1,)
                conv(f"{name}.se.fc2", planes, planes // 16, 1)
            inputs = planes
    sn("output_layer.0", 512)
    shapes.update({"output_layer.3.weight": (512, 512 * 49), "output_layer.3.bias": (512,)})
    shapes.update({f"output_layer.4.{key}": (512,) for key in ("weight", "bias", "running_mean", "running_var")})
    shapes["output_layer.4.num_batches_tracked"] = ()
    return shapes


@pytest.mark.parametrize("layers", DEPTHS)
@pytest.mark.parametrize("use_se", [False, True])
def test_the_state_is_that_of_the_published_checkpoints(layers: int, use_se: bool) -> None:
    with torch.device("meta"):
        model = getattr(models, f"faceresnetsn{layers}")(use_se=use_se)
    shapes = state_shapes(model)
    assert shapes == published_shapes(layers, use_se)


def test_embeddings_keep_their_direction(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = models.FaceResNetSN((1,), use_se=True, widths=(16,), embedding=16, image_size=14)
    x = np.random.default_rng(0).standard_normal((4, 3, 14, 14)).astype(np.float32)
    expected, found = through_everything(
        randomise_(model, seed=3).eval(), [{"x": x[:3]}, {"x": x[3:]}], tmp_path, "batch", layers=6
    )
    embeddings = np.concatenate([batch[0] for batch in expected])
    np.testing.assert_allclose(np.linalg.norm(embeddings, axis=1), 1, rtol=1e-9)
    # Faces that all look alike would prove nothing.
    assert (embeddings @ embeddings.T - np.eye(4)).max() < 0.9
    for outputs in found.values():
        assert (embeddings * np.concatenate([batch[0] for batch in outputs])).sum(1).min() > 1 - 1e-6

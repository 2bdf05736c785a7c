"""Video: SN of (N, C, frames, height, width) in an I3D net, in every runtime that is here."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from sn_deploy.graph.op import DOMAIN
from sn_deploy.models import I3DResNetSN, i3dsn50
from sn_deploy.onnx_export import export
from tests.models.states import sn_shapes, state_shapes
from tests.models.whole_way import through_everything
from tests.randomise import randomise_
from tests.tolerances import TOLERANCES
from tools.rows.measure import relative_l2, run_check
from tools.rows.precision import openvino_outputs
from tools.rows.row import Place

# Convolutions that look at neighbouring frames: the first ones of these blocks, in each stage.
INFLATED = ({0, 1, 2}, {0, 2}, {0, 2, 4}, {1})
DEPTHS = (3, 4, 6, 3)


@pytest.mark.parametrize("non_local", [False, True])
def test_the_state_is_that_of_the_public_net_with_the_published_layer(non_local: bool) -> None:
    with torch.device("meta"):
        found = state_shapes(i3dsn50(non_local=non_local))
    expected: dict[str, tuple[int, ...]] = {"conv1.weight": (64, 3, 5, 7, 7), **sn_shapes("bn1", 64, axes=3)}
    inputs = 64
    for stage, depth in enumerate(DEPTHS):
        planes = 64 * 2**stage
        for block in range(depth):
            name, outputs = f"layer{stage + 1}.{block}", 4 * planes
            frames = 3 if block in INFLATED[stage] else 1
            expected[f"{name}.conv1.weight"] = (planes, inputs, frames, 1, 1)
            expected[f"{name}.conv2.weight"] = (planes, planes, 1, 3, 3)
            expected[f"{name}.conv3.weight"] = (outputs, planes, 1, 1, 1)
            for i, channels in enumerate((planes, planes, outputs), 1):
                expected.update(sn_shapes(f"{name}.bn{i}", channels, axes=3))
            if block == 0:
                expected[f"{name}.downsample.0.weight"] = (outputs, inputs, 1, 1, 1)
                expected.update(sn_shapes(f"{name}.downsample.1", outputs, axes=3))
            if non_local and stage in (1, 2) and block % 2:
                for part, (o, c) in {
                    "theta": (outputs // 2, outputs),
                    "phi": (outputs // 2, outputs),
                    "g": (outputs // 2, outputs),
                    "out": (outputs, outputs // 2),
                }.items():
                    expected.update({f"{name}.nl.{part}.weight": (o, c, 1, 1, 1), f"{name}.nl.{part}.bias": (o,)})
                expected.update(sn_shapes(f"{name}.nl.bn", outputs, axes=3))
            inputs = outputs
    expected.update({"fc.weight": (400, 2048), "fc.bias": (400,)})
    assert found == expected


def test_clips_of_any_length_and_size(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = I3DResNetSN(depths=(1, 2, 1, 1), num_classes=5, non_local=True, planes=(4, 4, 4, 4))
    randomise_(model, 3).eval()
    generator = np.random.default_rng(0)
    sizes = ((2, 16, 48, 40), (1, 24, 56, 64), (3, 16, 40, 40))
    samples = [{"x": generator.standard_normal((n, 3, *clip), dtype=np.float32)} for n, *clip in sizes]
    expected, _ = through_everything(model, samples, tmp_path, ("batch", "spatial"), layers=21)

    nodes = onnx.load(tmp_path / "exported.onnx").graph.node
    forms = Counter(node.op_type for node in nodes if node.domain == DOMAIN)
    assert forms == {"SwitchNormRelu": 11, "SwitchNormAddRelu": 5, "SwitchNorm": 5}
    export(model, torch.from_numpy(samples[0]["x"]), tmp_path / "inline.onnx", inline=True)
    pytest.importorskip("openvino")
    found = openvino_outputs(tmp_path / "inline.onnx", samples[:1])
    assert found is not None
    assert relative_l2(expected[:1], found) <= TOLERANCES["float32"].rel_l2
    assert run_check(model, tmp_path / "exported.onnx", samples[0], Place(tmp_path, tmp_path), ()) == "passed"

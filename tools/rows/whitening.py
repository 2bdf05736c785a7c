"""Row 12, Switchable Whitening: refused by what it does; in standard operators on demand."""

from __future__ import annotations

import copy
from functools import partial

import numpy as np
import onnx
import torch

from sn_deploy.errors import CheckFailedError, SnDeployError
from sn_deploy.fuse import fuse
from sn_deploy.graph.export import export
from tools.rows.imagenet import batches
from tools.rows.measure import agree, export_by_torch, onnxruntime_outputs, relative_l2, torch_outputs
from tools.rows.row import Figures, Place, Row, authors_code

REPOSITORY = "Switchable-Whitening"
SAMPLES = 8


@torch.no_grad()
def authors_model(place: Place, sw_type: int) -> torch.nn.Module:
    """The authors' ResNet-50 with SW, its weights and covariances as after training."""
    with authors_code(place.repositories / REPOSITORY):
        from models.backbones import resnet  # type: ignore[import-not-found]

        torch.manual_seed(0)
        model = resnet.resnet50(sw_cfg={"type": "SW", "sw_type": sw_type, "num_pergroup": 16})
    for module in model.modules():
        if hasattr(module, "running_cov"):
            module.sw_mean_weight.normal_()
            module.sw_var_weight.normal_()
            module.running_mean.normal_(std=0.5)
            root = torch.randn_like(module.running_cov) / 4
            module.running_cov.copy_(root @ root.mT + 0.5 * torch.eye(root.shape[-1]))
    return model.eval()


def _run(sw_type: int, place: Place) -> Figures:
    model = authors_model(place, sw_type)
    samples = batches(place.samples(SAMPLES), 3, 224, 224)
    path = place.scratch / "exported.onnx"
    example = torch.from_numpy(samples[0]["x"][:1])
    try:
        export(model, example, path, dynamic="batch")
    except SnDeployError as error:
        refusal = str(error)
    else:
        raise SystemExit("Switchable Whitening was exported as Switchable Normalization")
    # Not with --keep-unrecognised: torch's newer exporter can't capture the authors' forward, which resizes a view.
    export_by_torch(model, {"x": example}, path, "batch", "torchscript")
    try:
        fuse(path, place.scratch / "fused.onnx")
    except CheckFailedError as error:
        unfused = error.what
    else:
        raise SystemExit("Switchable Whitening was fused as Switchable Normalization")
    expected = torch_outputs(copy.deepcopy(model).double(), samples)
    found = onnxruntime_outputs(path, samples, native=False)
    return {
        "shapes": [["×".join(map(str, np.shape(value))) for value in sample.values()] for sample in samples],
        "nodes_standard": sum(1 for _ in onnx.load(path).graph.node),
        "torch": relative_l2(expected, torch_outputs(model, samples)),
        "ort": relative_l2(expected, found),
        "agreement_kind": "top1",
        "agreement": agree(expected, found, "top1"),
        "check": "refused",
        "refusal": refusal,
        "fuse_refusal": unfused,
        "note": f"refused: {refusal}; the figures are of torch's older exporter, standard operators alone; of that "
        f"file fuse says that it {unfused}",
    }


def _row(sw_type: int, branches: str) -> Row:
    name = f"ResNet-50 with SW, sw_type {sw_type}: {branches}"
    return Row(12, "Switchable Whitening", name, (REPOSITORY,), partial(_run, sw_type))


ROWS = (
    _row(2, "BW, IW"),
    _row(3, "BW, IW, LN"),
    _row(5, "BW, IW, BN, IN, LN"),
)

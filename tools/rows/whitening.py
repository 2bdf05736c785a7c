"""Row 12, Switchable Whitening: refused by what it does."""

from __future__ import annotations

from functools import partial

import torch

from sn_deploy.errors import SnDeployError
from sn_deploy.onnx_export import export
from tools.rows.measure import export_by_torch
from tools.rows.row import Figures, Place, Row, authors_code

REPOSITORY = "Switchable-Whitening"


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
    path = place.scratch / "exported.onnx"
    example = torch.randn(2, 3, 224, 224)
    try:
        export(model, example, path, dynamic="batch")
    except SnDeployError as error:
        refusal = str(error)
    else:
        raise SystemExit("Switchable Whitening was exported as Switchable Normalization")
    # No figures beside the refusal: neither of torch's exporters takes the authors' forward.
    reasons = {}
    for exporter in ("dynamo", "torchscript"):
        try:
            export_by_torch(model, {"x": example}, path, "batch", exporter)
        except Exception as error:  # noqa: BLE001 - what it says is the figure
            reasons[exporter] = str(error).splitlines()[0][:300]
    if len(reasons) < 2:
        raise SystemExit("torch exports it: give figures here")
    return {
        "shapes": [["×".join(map(str, example.shape))]],
        "check": "refused",
        "refusal": refusal,
        "exporters": reasons,
        "note": f"refused: {refusal}; and neither of torch's exporters takes the authors' forward",
    }


def _row(sw_type: int, branches: str) -> Row:
    name = f"ResNet-50 with SW, sw_type {sw_type}: {branches}"
    return Row(12, "Switchable Whitening", name, (REPOSITORY,), partial(_run, sw_type))


ROWS = (
    _row(2, "BW, IW"),
    _row(3, "BW, IW, LN"),
    _row(5, "BW, IW, BN, IN, LN"),
)

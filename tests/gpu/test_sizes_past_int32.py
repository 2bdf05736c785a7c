"""Tensors of more than 2^31 elements, where an index in 32 bits would wrap. The oracle runs on the GPU, in float64."""

from __future__ import annotations

import pytest
import torch

from sn_deploy.runtime.cuda import Addresses, Layout, Problem
from tests.gpu.device import Device

WEIGHTS = {"mean_in": 0.5, "mean_ln": 0.25, "var_in": 0.25, "var_ln": 0.5}
TOLERANCE = 2.0**-10  # a rounding of Y to float16, of numbers below 8, and the statistics'


def statistics(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and variance of each row of (rows, HW), in float64 without a copy of the whole in it."""
    means, variances = [], []
    for row in x:
        values = row.double()
        means.append(values.mean())
        variances.append(values.var(correction=1))
    return torch.stack(means), torch.stack(variances)


def largest_error(x: torch.Tensor, y: torch.Tensor, parameters: list[torch.Tensor]) -> float:
    """Of (C, HW)."""
    scale, bias, mean_offset, var_offset = (values.double() for values in parameters)
    mean_in, var_in = statistics(x)
    mean_ln = mean_in.mean()
    var_ln = var_in.mean() + mean_in.var(correction=0)
    mean = WEIGHTS["mean_in"] * mean_in + WEIGHTS["mean_ln"] * mean_ln + mean_offset
    var = WEIGHTS["var_in"] * var_in + WEIGHTS["var_ln"] * var_ln + var_offset
    largest = 0.0
    for c in range(x.shape[0]):
        exact = (x[c].double() - mean[c]) / var[c].sqrt() * scale[c] + bias[c]
        error = (y[c].double() - exact).abs() / (1 + exact.abs())
        largest = max(largest, float(error.nan_to_num(nan=float("inf")).max()))
    return largest


@pytest.mark.gpu
@pytest.mark.parametrize("spatial", [2**26 + 8, 2**26 + 5], ids=["vectors", "single elements"])
@pytest.mark.parametrize("layout", ["linear", "channels last"])
def test_one_sample(gpu: Device, layout: Layout, spatial: int) -> None:
    channels = 32
    free, _ = torch.cuda.mem_get_info()
    need = 4 * channels * spatial * 2 + 4 * spatial * 8
    if free < need:
        pytest.skip(f"needs {need / 2**30:.0f} GiB of GPU memory; {free / 2**30:.0f} are free")
    generator = torch.Generator("cuda").manual_seed(4)
    own = {"device": "cuda", "generator": generator}
    x = torch.randn(channels, spatial, dtype=torch.float16, **own)
    x += torch.randn(channels, 1, dtype=torch.float16, **own)
    parameters = [torch.rand(channels, **own) + 0.5 for _ in range(4)]
    problem = Problem(
        *(1, channels, spatial),
        dtype="float16",
        layout=layout,
        stored_channels=channels if layout == "channels last" else 0,
        **WEIGHTS,
    )
    stored = x.t().contiguous() if layout == "channels last" else x
    for tactic in gpu.kernels.tactics(problem):
        y = torch.full_like(stored, float("nan"))
        size = gpu.kernels.workspace_bytes(problem, tactic)
        workspace = torch.empty(size, dtype=torch.uint8, device="cuda")
        pointers = [values.data_ptr() for values in (stored, *parameters)]
        arguments = {"workspace": workspace.data_ptr(), "workspace_bytes": size, "stream": gpu.stream()}
        gpu.kernels.launch(problem, Addresses(*pointers, y=y.data_ptr()), tactic, **arguments)
        error = largest_error(x, y.t() if layout == "channels last" else y, parameters)
        assert error <= TOLERANCE, f"{tactic.name}: {error:.3g}"
        del y, workspace

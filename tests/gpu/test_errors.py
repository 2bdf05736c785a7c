"""What the CUDA kernels' interface refuses, from Python: a reason, and nothing launched."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sn_deploy.errors import SnDeployError
from sn_deploy.runtime.cuda import Addresses, CudaKernels, Problem, Tactic, TacticError
from tests.gpu.device import Device, Form, Prepared
from tests.gpu.test_agreement import chosen_case

TWO_KERNELS = Tactic(4)


@pytest.fixture
def prepared(device: Device) -> Prepared:
    return Prepared(device, chosen_case((1, 8, 4, 4), "float16"), Form("SwitchNormAddRelu"), TWO_KERNELS)


def refused(prepared: Prepared, reason: str, *, kind: type[SnDeployError] = SnDeployError, **changes: Any) -> None:
    """Launches with changed arguments, and asserts what it says and that Y is as it was."""
    arguments = {
        "problem": prepared.problem,
        "addresses": prepared.addresses,
        "tactic": prepared.tactic,
        "workspace": prepared.workspace,
        "workspace_bytes": prepared.workspace_bytes,
        "stream": prepared.device.stream(),
        **changes,
    }
    before = prepared.y_on_device().cpu().numpy().tobytes()
    with pytest.raises(kind, match=reason):
        prepared.device.kernels.launch(**arguments)
    assert prepared.y_on_device().cpu().numpy().tobytes() == before


BAD_PROBLEMS: list[tuple[dict[str, Any], str]] = [
    ({"channels": 0}, "no channels"),
    ({"spatial": 0}, "empty spatial extent"),
    ({"spatial": 1}, "too few values"),
    ({"batch": -1}, "negative extent"),
    ({"ddof": 2}, "ddof must be 0 or 1"),
    ({"mean_in": float("nan")}, "must be finite"),
    ({"var_ln": float("inf")}, "must be finite"),
    ({"batch": 2**40, "channels": 2**20, "spatial": 2**10}, "overflow 64 bits"),
    ({"dtype": "float64"}, "dtype is 'float64'"),
    ({"layout": "blocked"}, "layout is 'blocked'"),
    ({"epilogue": "gelu"}, "epilogue is 'gelu'"),
]


@pytest.mark.parametrize(("change", "reason"), BAD_PROBLEMS, ids=lambda value: str(value))
def test_bad_problems(prepared: Prepared, change: dict[str, Any], reason: str) -> None:
    problem = dataclasses.replace(prepared.problem, **change)
    refused(prepared, reason, problem=problem)
    kernels = prepared.device.kernels
    for ask in (kernels.tactics, kernels.choose, kernels.workspace_bytes):
        with pytest.raises(SnDeployError, match=reason):
            ask(problem)


@pytest.mark.parametrize("name", ["x", "scale", "bias", "mean_offset", "var_offset", "y", "residual"])
def test_addresses(prepared: Prepared, name: str) -> None:
    address = getattr(prepared.addresses, name)

    def changed(to: int) -> Addresses:
        return dataclasses.replace(prepared.addresses, **{name: to})

    refused(prepared, "a pointer to a tensor is null", addresses=changed(0))
    refused(prepared, "no multiple of its element size", addresses=changed(address + 1))


def test_workspaces(prepared: Prepared) -> None:
    assert prepared.workspace_bytes > 0
    for change in (
        {"workspace": 0},
        {"workspace_bytes": prepared.workspace_bytes - 1},
        {"workspace": prepared.workspace + 64},
    ):
        refused(prepared, "the workspace is missing or too small", **change)


@pytest.mark.parametrize("code", [0, -1, 5, 258, 2 + 256 * 3, 2 + 256 * 128, 3])
def test_tactics_that_do_not_exist(prepared: Prepared, code: int) -> None:
    refused(prepared, "this tactic can't run", tactic=Tactic(code) if code != 258 else Tactic(257), kind=TacticError)


def test_channels_last_needs_room_for_its_channels(prepared: Prepared) -> None:
    problem = dataclasses.replace(prepared.problem, layout="channels last", stored_channels=7)
    refused(prepared, "this tactic can't run", problem=problem, kind=TacticError)


def test_an_empty_batch_needs_no_memory(device: Device) -> None:
    problem = Problem(0, 8, 16)
    device.kernels.launch(problem, Addresses(0, 0, 0, 0, 0, 0), device.kernels.choose(problem))


def refusal(make: Callable[[], object]) -> str:
    with pytest.raises(SnDeployError) as caught:
        make()
    return str(caught.value)


def test_a_library_that_is_none(tmp_path: Path) -> None:
    (tmp_path / "empty.so").touch()
    assert "it can't be loaded" in refusal(lambda: CudaKernels(tmp_path / "empty.so"))
    assert "it can't be loaded" in refusal(lambda: CudaKernels(tmp_path / "absent.so"))


def test_names_of_tactics() -> None:
    names = {Tactic(code).name for code in (1, 2 + 256 * 8, 3 + 256 * 32, 4)}
    assert names == {"one block", "cluster of 8", "cooperative, 32 blocks", "two kernels"}

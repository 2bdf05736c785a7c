"""The same bits every time: again, in any batch, on any stream, beside other work, and replayed from a CUDA graph."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from sn_deploy.graph.op import SWITCH_NORM_ADD_RELU
from tests.cases import Case
from tests.gpu.device import Device, Form, Prepared
from tests.gpu.test_agreement import QUEUES, chosen_case, tactics_and_queues

SHAPES = [(4, 64, 28, 28), (1, 256, 56, 56), (2, 100, 7, 7), (8, 16, 112, 112)]
FORMS = [Form(SWITCH_NORM_ADD_RELU), Form(SWITCH_NORM_ADD_RELU, "channels last", padded_to=8)]


def bits(prepared: Prepared) -> bytes:
    return prepared.y().tobytes()


@pytest.mark.gpu
@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.layout)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_a_thousand_runs(gpu: Device, shape: tuple[int, ...], form: Form) -> None:
    case = chosen_case(shape, "float16")
    for tactic in tactics_and_queues(gpu, case, form):
        prepared = Prepared(gpu, case, form, tactic)
        prepared.launch()
        first = prepared.y_on_device().clone()
        differing = torch.zeros((), dtype=torch.int64, device=gpu.torch_device)
        for _ in range(999):
            prepared.y_on_device().fill_(0xFF)
            prepared.launch()
            differing += (prepared.y_on_device() != first).any()
        assert int(differing) == 0, f"{int(differing)} of 999 runs differ: {tactic.name}"


def test_a_sample_is_the_same_in_any_batch(device: Device) -> None:
    shape = (5, 64, 28, 28) if device.is_gpu else (3, 12, 5, 8)
    case = chosen_case(shape, "float16")
    alone = Case(case.folded, case.x[:1])
    for form in (dataclasses.replace(form, op_type="SwitchNorm") for form in FORMS):
        for tactic in tactics_and_queues(device, alone, form):
            whole = device.run(case, form, tactic)
            assert device.run(alone, form, tactic).tobytes() == whole[:1].tobytes(), tactic.name


@pytest.mark.gpu
@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.layout)
def test_streams_at_the_same_time(gpu: Device, form: Form) -> None:
    case = chosen_case((2, 128, 28, 28), "float16")
    for tactic in tactics_and_queues(gpu, case, form):
        streams = [torch.cuda.Stream() for _ in range(8)]
        prepared = [Prepared(gpu, case, form, tactic) for _ in streams]
        expected = gpu.run(case, form, tactic).tobytes()
        torch.cuda.synchronize()
        for _ in range(20):
            for stream, own in zip(streams, prepared, strict=True):
                with torch.cuda.stream(stream):
                    own.launch()
        torch.cuda.synchronize()
        assert all(bits(own) == expected for own in prepared), tactic.name


@pytest.mark.gpu
@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.layout)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_a_cuda_graph_replays_the_layer(gpu: Device, shape: tuple[int, ...], form: Form) -> None:
    case = chosen_case(shape, "float16")
    for tactic in tactics_and_queues(gpu, case, form):
        prepared = Prepared(gpu, case, form, tactic)
        expected = prepared.run().tobytes()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            prepared.launch()
        for _ in range(20):
            prepared.y_on_device().fill_(0xFF)
            graph.replay()
        torch.cuda.synchronize()
        assert bits(prepared) == expected, tactic.name
        # The graph reads the memory, not what was in it.
        prepared.x_on_device().view(torch.float16).neg_()
        prepared.launch()
        launched = bits(prepared)
        prepared.y_on_device().fill_(0xFF)
        graph.replay()
        torch.cuda.synchronize()
        assert bits(prepared) == launched != expected, tactic.name


# Of rows that are no whole vectors, and of such as queues take.
@pytest.mark.gpu
@pytest.mark.parametrize("shape", [(2, 96, 30, 30), (2, 96, 28, 28)], ids=str)
def test_a_graph_of_many_layers(gpu: Device, shape: tuple[int, ...]) -> None:
    # One workspace after the other in one graph, as in an engine: each node must leave it fit for the next.
    case = chosen_case(shape, "float16")
    form = FORMS[0]
    tactics = tactics_and_queues(gpu, case, form) * 3
    prepared = [Prepared(gpu, case, form, tactic) for tactic in tactics]
    expected = [own.run().tobytes() for own in prepared]
    shared = max(prepared, key=lambda own: own.workspace_bytes)
    for own in prepared:
        own.use_workspace_of(shared)
        own.y_on_device().fill_(0xFF)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for own in prepared:
            own.launch()
    for _ in range(5):
        graph.replay()
    torch.cuda.synchronize()
    assert [bits(own) for own in prepared] == expected


@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.layout)
@pytest.mark.parametrize("side", [30, 28])
def test_layers_that_begin_before_the_one_before_them_ends(device: Device, side: int, form: Form) -> None:
    # A launch may begin early. Each layer reads what the one before it wrote, and writes over what that one read; all
    # share a workspace. Waiting for each must give the same bits as waiting for the last.
    case = chosen_case((2, 96, side, side) if device.is_gpu else (2, 16, 6, 6 if side == 30 else 4), "float16")
    tactics = tactics_and_queues(device, case, form)
    assert (QUEUES[0] in tactics) == (side == 28 or form.layout != "linear")
    layers = [Prepared(device, case, form, tactic) for tactic in tactics * 3]
    first, widest = layers[0], max(layers, key=lambda layer: layer.workspace_bytes)
    begin = first.x_on_device().clone()
    for place, layer in enumerate(layers):
        layer.use_tensors_of(first, swapped=place % 2 == 1)
        layer.use_workspace_of(widest)
        layer.launch()
        if device.is_gpu:
            torch.cuda.synchronize()
    expected = [first.x_on_device().clone(), first.y_on_device().clone()]
    assert not torch.equal(expected[0], begin)
    assert torch.isfinite(expected[0].view(torch.float16)).all()
    if not device.is_gpu:
        return
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for layer in layers:
            layer.launch()
    differing = torch.zeros((), dtype=torch.int64, device=device.torch_device)
    for _ in range(1000):
        first.x_on_device().copy_(begin)
        graph.replay()
        differing += (first.x_on_device() != expected[0]).any() | (first.y_on_device() != expected[1]).any()
    assert int(differing) == 0, f"{int(differing)} of 1000 runs differ"

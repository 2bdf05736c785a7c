"""A real Triton loads what `sn-deploy serve` writes, and `sn-deploy check` proves what it serves.

Triton is NVIDIA's program with its own scheduler, front ends and statistics; onnxruntime_backend.py stands in for its
ONNX Runtime backend, and runs ONNX Runtime, too.
"""

from __future__ import annotations

import contextlib
import json
import threading
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from sn_deploy.check.document import json_schema
from sn_deploy.errors import SnDeployError
from sn_deploy.models.digits import WEIGHTS
from sn_deploy.runtime.native import ort_library
from sn_deploy.runtime.ort import OrtSession
from sn_deploy.runtime.triton import TritonModel, parse_address
from sn_deploy.serve import ServeOptions, serve_triton
from tests.check.small_net import write_net
from tests.cli.command import exit_code
from tests.serve.server import Triton
from tests.tolerances import TOLERANCES

MODEL = ("--model", "sn_deploy.models.digits:digits", "--checkpoint", str(WEIGHTS))
REQUESTS = 64


def write_score(path: Path) -> Path:
    """x, y (N,) -> larger (N,)."""
    x, y, larger = (helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N"]) for name in ("x", "y", "larger"))
    graph = helper.make_graph([helper.make_node("Max", ["x", "y"], ["larger"])], "score", [x, y], [larger])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


@pytest.fixture(scope="module")
def server(triton_root: Path, digits: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Triton]:
    """A server of: digits (the native operators, two versions), half, fixed (no batching), score (no axis but N)."""
    scratch = tmp_path_factory.mktemp("triton")
    repository = scratch / "repository"
    labels = scratch / "labels.txt"
    labels.write_text("".join(f"digit {index}\n" for index in range(10)))
    options = ServeOptions(
        "digits",
        max_batch=16,
        preferred_batch=(8,),
        max_queue_delay_us=20_000,
        device="cpu",
        labels={"": labels},
        serve_versions=2,
        server_path=str(repository),
    )
    serve_triton(digits / "digits.onnx", repository, options)
    serve_triton(digits / "digits.onnx", repository, options)
    serve_triton(write_net(scratch / "half.onnx", dtype="float16"), repository, ServeOptions("half"))
    serve_triton(write_net(scratch / "fixed.onnx", batch=2), repository, ServeOptions("fixed", instances=2))
    serve_triton(write_score(scratch / "score.onnx"), repository, ServeOptions("score"))
    with Triton(triton_root, repository, scratch) as started:
        yield started


def statistics(server: Triton, model: str, version: int = 2) -> dict[str, Any]:
    with urllib.request.urlopen(f"http://127.0.0.1:{server.http}/v2/models/{model}/stats", timeout=10) as answer:
        found = json.loads(answer.read())["model_stats"]
    return dict(next(row for row in found if int(row["version"]) == version))


def statistics_of(server: Triton, model: str, inferences: int, version: int = 2) -> dict[str, Any]:
    """The statistics once they count so many inferences: Triton answers first and counts then."""
    deadline = time.monotonic() + 10
    while (found := statistics(server, model, version))["inference_count"] < inferences and time.monotonic() < deadline:
        time.sleep(0.02)
    return found


def addresses(server: Triton, model: str) -> list[str]:
    return [f"http://127.0.0.1:{server.http}/{model}", f"grpc://127.0.0.1:{server.grpc}/{model}"]


def test_it_loads_the_config_unchanged_with_all_that_was_asked_for(server: Triton) -> None:
    with urllib.request.urlopen(f"http://127.0.0.1:{server.http}/v2/models/digits/config", timeout=10) as answer:
        config = json.loads(answer.read())
    assert config["max_batch_size"] == 16
    assert config["dynamic_batching"]["preferred_batch_size"] == [8]
    assert config["dynamic_batching"]["max_queue_delay_microseconds"] == 20_000
    assert config["instance_group"][0]["kind"] == "KIND_CPU"
    assert config["output"][0]["label_filename"] == "linear.labels.txt"
    assert config["version_policy"] == {"latest": {"num_versions": 2}}
    # Warm-up ran before it was ready.
    assert statistics(server, "digits")["execution_count"] >= 3
    if ort_library() is not None:
        assert config["model_operations"]["op_library_filename"][0].endswith("/digits/libsn_deploy_ort.so")


@pytest.mark.parametrize("protocol", [0, 1], ids=["http", "grpc"])
def test_what_is_served_is_the_model_to_the_bit(server: Triton, digits: Path, protocol: int) -> None:
    images = np.load(digits / "digits.npz")["x"][:16]
    with OrtSession(digits / "digits.onnx", threads=1) as session:
        expected = session.run({"x": images})
    model = TritonModel(addresses(server, "digits")[protocol])
    try:
        assert (model.version, model.max_batch) == (2, 16)
        assert [str(info) for info in model.inputs] == ["x: float32 (N, 1, 8, 8)"]
        served = model.run({"x": images})
        assert list(served) == list(expected)
        for name, value in expected.items():
            assert value.any()
            np.testing.assert_array_equal(served[name], value)
    finally:
        model.close()


def test_check_proves_it_against_pytorch_by_both_protocols(
    server: Triton, digits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    served = [part for address in addresses(server, "digits") for part in ("--triton", address)]
    limits = ["--min-top1-agreement", "0.999", "--min", "top1_accuracy:0.99"]
    timing = ["--calls", "20", "--concurrency", "1,4", "--latency-batch", "4", "--threads", "1"]
    arguments = [*MODEL, *served, "--data", str(digits / "digits.npz"), "--batch-size", "16", *limits, *timing]
    assert (
        exit_code("check", str(digits / "digits.onnx"), *arguments, "--json", "check.json", "--html", "report.html")
        == 0
    )
    document = json.loads(Path("check.json").read_text())
    jsonschema.validate(document, json_schema())
    kinds = {row["name"]: row["kind"] for row in document["backends"]}
    assert kinds["triton-http-digits"] == kinds["triton-grpc-digits"] == "triton"
    settings = next(row for row in document["backends"] if row["name"] == "triton-grpc-digits")["settings"]
    file = next(row for row in document["backends"] if row["name"] == "ort")
    assert settings["files_sha256"] == {"model.onnx": file["sha256"]}
    assert settings["model_version"] == 2
    for name in ("triton-http-digits", "triton-grpc-digits"):
        (row,) = document["parity"][name]
        assert row["elements"] == 445 * 10
        assert row["rel_l2"] < row["tolerance"]["rel_l2"]
    load = {(row["backend"], row["concurrency"]): row for row in document["latency"]["load"]}
    assert {backend for backend, _ in load} == set(kinds)
    assert load["triton-grpc-digits", 4]["calls"] == 80
    assert "Throughput under load" in Path("report.html").read_text()
    assert "callers" in capsys.readouterr().out


def test_another_model_than_the_served_one_fails_the_check(server: Triton, tmp_path: Path, digits: Path) -> None:
    """The planted fault: the file is of random weights."""
    import torch

    from sn_deploy.models.digits import digits as random_digits

    torch.manual_seed(1)
    torch.save(random_digits().state_dict(), tmp_path / "other.pth")
    other = ["--model", "sn_deploy.models.digits:digits", "--checkpoint", str(tmp_path / "other.pth")]
    served = ["--triton", addresses(server, "digits")[0], "--data", str(digits / "digits.npz")]
    assert exit_code("check", *other, *served, "--no-latency", "--limit", "32") == 1
    assert exit_code("check", *MODEL, *served, "--no-latency", "--limit", "32") == 0


@contextlib.contextmanager
def callers(count: int) -> Iterator[list[threading.Thread]]:
    threads: list[threading.Thread] = []
    yield threads
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)


def test_requests_are_put_together_and_nobody_sees_it(server: Triton, digits: Path) -> None:
    images = np.load(digits / "digits.npz")["x"][:REQUESTS]
    with OrtSession(digits / "digits.onnx", threads=1) as session:
        alone = [session.run({"x": image[None]})["linear"] for image in images]
    answers: dict[int, np.ndarray[Any, Any]] = {}
    model = TritonModel(addresses(server, "digits")[1])
    before = statistics(server, "digits")

    def ask(start: int) -> None:
        for index in range(start, REQUESTS, 16):
            answers[index] = model.run({"x": images[index][None]})["linear"]

    with callers(16) as threads:
        threads += [threading.Thread(target=ask, args=(start,)) for start in range(16)]
    model.close()
    after = statistics_of(server, "digits", before["inference_count"] + REQUESTS)
    inferences = after["inference_count"] - before["inference_count"]
    executions = after["execution_count"] - before["execution_count"]
    assert inferences == REQUESTS
    assert 0 < executions < inferences
    assert sorted(answers) == list(range(REQUESTS))
    for index, expected in enumerate(alone):
        error = np.linalg.norm(answers[index] - expected) / np.linalg.norm(expected)
        assert error < TOLERANCES["float32"].rel_l2


@pytest.mark.parametrize("protocol", [0, 1], ids=["http", "grpc"])
def test_what_has_no_axis_beside_the_batch_is_served_as_it_is(server: Triton, protocol: int) -> None:
    model = TritonModel(addresses(server, "score")[protocol])
    try:
        assert [info.shape for info in (*model.inputs, *model.outputs)] == [("N",)] * 3
        one, other = np.array([1, 5, 3], np.float32), np.array([2, 4, 6], np.float32)
        np.testing.assert_array_equal(model.run({"x": one, "y": other})["larger"], [2, 5, 6])
    finally:
        model.close()


def test_without_batching_every_request_runs_for_itself(server: Triton) -> None:
    model = TritonModel(addresses(server, "fixed")[0])
    before = statistics(server, "fixed", 1)
    values = np.random.default_rng(0).standard_normal((2, 3, 8, 8)).astype(np.float32)
    first = model.run({"image": values})["logits"]
    assert model.max_batch is None
    np.testing.assert_array_equal(model.run({"image": values})["logits"], first)
    model.close()
    after = statistics_of(server, "fixed", before["inference_count"] + 2 * len(values), 1)
    assert after["execution_count"] - before["execution_count"] == 2


def test_half_precision_is_checked_by_its_own_tolerance(
    server: Triton, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_net(tmp_path / "net.onnx")
    served = ["--triton", addresses(server, "half")[1], "--json", "check.json"]
    timing = ["--memory", "--calls", "3", "--latency-batch", "1"]
    assert exit_code("check", "net.onnx", "--reference", "ort", *served, *timing) == 0
    document = json.loads(Path("check.json").read_text())
    # A server's memory is none of this process's.
    assert [row["backend"] for row in document["latency"]["results"] if row["memory_mib"] is None] == ["triton"]
    (row,) = document["parity"]["triton"]
    assert (row["dtype"], row["tolerance"]["rel_l2"]) == ("float16", 16 * 2**-11)
    assert row["rel_l2"] > 1e-5


def test_a_version_of_its_own(server: Triton) -> None:
    model = TritonModel(f"grpc://127.0.0.1:{server.grpc}/digits/1")
    before = statistics(server, "digits", 1)["inference_count"]
    model.run({"x": np.zeros((1, 1, 8, 8), np.float32)})
    model.close()
    assert statistics_of(server, "digits", before + 1, 1)["inference_count"] == before + 1


def test_the_metrics_that_the_autoscaler_asks_for_are_there(server: Triton) -> None:
    with urllib.request.urlopen(f"http://127.0.0.1:{server.metrics}/metrics", timeout=10) as answer:
        text = answer.read().decode()
    for name in ("nv_inference_queue_duration_us", "nv_inference_request_success"):
        assert f'{name}{{model="digits",version="2"' in text


def test_what_can_go_wrong_is_said(server: Triton, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_net(tmp_path / "net.onnx")
    file = str(tmp_path / "net.onnx")
    for address, more, words in (
        (f"grpc://127.0.0.1:{server.grpc}/gone", [], "Triton says: Request for unknown model: 'gone' is not found"),
        (f"http://127.0.0.1:{server.http}/half/7", [], "Triton says: "),
        (f"http://127.0.0.1:{server.grpc}/half", [], f"http://127.0.0.1:{server.grpc}/half: "),
        ("http://127.0.0.1:1/half", [], "http://127.0.0.1:1/half: no answer: "),
        ("grpc://127.0.0.1:1/half", [], "grpc://127.0.0.1:1/half: Triton says: failed to connect"),
        (addresses(server, "digits")[0], [], "triton beside ort"),
        (addresses(server, "half")[0], ["--batch-size", "9"], "a batch of 9 (expected at most 8, its max_batch_size)"),
        ("grpc://127.0.0.1/half", [], "is no address of a served model (expected grpc://HOST:PORT/MODEL"),
        (addresses(server, "half")[0], ["--concurrency", "0"], "--concurrency 0: can't be read"),
    ):
        assert exit_code("check", file, "--triton", address, *more, "--limit", "9", "--no-latency") == 2
        assert words in capsys.readouterr().err


def test_a_request_that_isnt_the_models_isnt_sent(server: Triton) -> None:
    model = TritonModel(addresses(server, "digits")[0])
    for value, words in (
        (np.zeros((1, 1, 8, 8)), "input x has dtype float64"),
        (np.zeros((1, 3, 8, 8), np.float32), r"input x has shape \(1, 3, 8, 8\)"),
        (np.zeros((17, 1, 8, 8), np.float32), "a batch of 17"),
    ):
        with pytest.raises(SnDeployError, match=words):
            model.run({"x": value})
    model.close()


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("grpc://localhost:8001/net", ("grpc", False, "localhost:8001", "net", None)),
        ("https://serving.example:443/a.b_c/12", ("http", True, "serving.example:443", "a.b_c", 12)),
        ("grpcs://[::1]:8001/net/", ("grpc", True, "[::1]:8001", "net", None)),
    ],
)
def test_addresses(text: str, address: tuple[str, bool, str, str, int | None]) -> None:
    found = parse_address(text)
    assert (found.protocol, found.secure, found.server, found.model, found.version) == address

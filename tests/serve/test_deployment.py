"""What deploys a version: read by the parsers, and held against the schemas, that it is for."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sn_deploy.serve import DeployOptions, ServeOptions, serve_triton
from sn_deploy.serve.deployment import dns_name
from tests.serve.conftest import need

pytestmark = [need("tritonclient"), need("yaml"), need("kubernetes_validate")]
# Nobody will see trouble in a file that the newest Kubernetes takes and one that is still supported doesn't.
KUBERNETES = ("1.31", "1.37")


@pytest.fixture
def files(net: Path, tmp_path: Path) -> Path:
    deploy = DeployOptions(image="registry.example/nets/digits:v1", replicas=3, max_replicas=9, queue_target_us=2_000)
    options = ServeOptions("Digits_Net", max_batch=16, device="cpu", labels={})
    serve_triton(net, tmp_path / "repository", options, deploy)
    return tmp_path / "repository"


def documents(path: Path) -> list[dict[str, Any]]:
    import yaml

    return list(yaml.safe_load_all(path.read_text()))


def by_kind(path: Path) -> dict[str, dict[str, Any]]:
    return {document["kind"]: document for document in documents(path)}


@pytest.mark.parametrize("version", KUBERNETES)
def test_kubernetes_takes_the_manifest(files: Path, version: str) -> None:
    import kubernetes_validate

    found = documents(files / "Digits_Net-1.kubernetes.yaml")
    for document in found:
        kubernetes_validate.validate(document, version, strict=True)
    kinds = {document["kind"] for document in found}
    assert kinds == {"Deployment", "Service", "PodDisruptionBudget", "HorizontalPodAutoscaler"}
    # The schema does find faults.
    found[0]["spec"]["replicas"] = "three"
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(found[0], version, strict=True)
    del found[0]["spec"]["replicas"]
    found[0]["spec"]["template"]["spec"]["containers"][0]["readynessProbe"] = {}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(found[0], version, strict=True)


def test_the_parts_of_the_manifest_belong_together(files: Path) -> None:
    parts = by_kind(files / "Digits_Net-1.kubernetes.yaml")
    deployment, service, scaler = parts["Deployment"], parts["Service"], parts["HorizontalPodAutoscaler"]
    template = deployment["spec"]["template"]
    assert deployment["metadata"]["name"] == "digits-net"
    labels = template["metadata"]["labels"]
    assert labels == deployment["spec"]["selector"]["matchLabels"] == service["spec"]["selector"]
    assert labels == parts["PodDisruptionBudget"]["spec"]["selector"]["matchLabels"]
    (container,) = template["spec"]["containers"]
    assert container["image"] == "registry.example/nets/digits:v1"
    assert container["args"] == ["tritonserver", "--model-repository=/models"]
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    assert ports == {"http": 8000, "grpc": 8001, "metrics": 8002}
    assert {port["targetPort"] for port in service["spec"]["ports"]} == set(ports)
    assert container["readinessProbe"]["httpGet"] == {"path": "/v2/models/Digits_Net/ready", "port": "http"}
    assert {"startupProbe", "livenessProbe", "lifecycle"} < set(container)
    assert deployment["spec"]["replicas"] == scaler["spec"]["minReplicas"] == 3
    assert scaler["spec"]["maxReplicas"] == 9
    assert scaler["spec"]["scaleTargetRef"] == {"apiVersion": "apps/v1", "kind": "Deployment", "name": "digits-net"}
    (metric,) = scaler["spec"]["metrics"]
    assert metric["pods"]["target"] == {"type": "AverageValue", "averageValue": "2000"}


def test_two_replicas_when_nothing_is_said(net: Path, tmp_path: Path) -> None:
    serve_triton(net, tmp_path / "repository", ServeOptions("net"))
    parts = by_kind(tmp_path / "repository" / "net-1.kubernetes.yaml")
    assert parts["Deployment"]["spec"]["replicas"] == 2
    assert parts["HorizontalPodAutoscaler"]["spec"]["minReplicas"] == 2
    assert parts["Deployment"]["spec"]["template"]["spec"]["containers"][0]["image"] == "net:1"


def test_the_autoscalers_metric_is_what_the_adapters_rule_makes(files: Path) -> None:
    (rules,) = documents(files / "Digits_Net-1.prometheus-adapter.yaml")
    (rule,) = rules["rules"]["custom"]
    scaler = by_kind(files / "Digits_Net-1.kubernetes.yaml")["HorizontalPodAutoscaler"]
    assert rule["name"]["as"] == scaler["spec"]["metrics"][0]["pods"]["metric"]["name"]
    assert re.findall(r"nv_\w+", rule["metricsQuery"]) == [
        "nv_inference_queue_duration_us",
        "nv_inference_request_success",
    ]
    assert rule["metricsQuery"].count("(") == rule["metricsQuery"].count(")")


def test_the_inference_service(files: Path) -> None:
    (service,) = documents(files / "Digits_Net-1.kserve.yaml")
    assert (service["apiVersion"], service["kind"]) == ("serving.kserve.io/v1beta1", "InferenceService")
    predictor = service["spec"]["predictor"]
    assert (predictor["minReplicas"], predictor["maxReplicas"], predictor["scaleTarget"]) == (3, 9, 16)
    (container,) = predictor["containers"]
    assert container["name"] == "kserve-container"
    assert container["image"] == "registry.example/nets/digits:v1"


def _copies(dockerfile: str) -> Iterator[tuple[str, str]]:
    for line in dockerfile.splitlines():
        if line.startswith("COPY "):
            source, target = json.loads(line.removeprefix("COPY "))
            yield source, target


def test_the_image_holds_this_version_and_what_it_needs(files: Path, net: Path) -> None:
    serve_triton(net, files, ServeOptions("Digits_Net", max_batch=16, device="cpu"))
    for version in (1, 2):
        dockerfile = (files / f"Digits_Net-{version}.Dockerfile").read_text()
        copies = dict(_copies(dockerfile))
        assert all((files / source).exists() for source in copies)
        assert copies["Digits_Net/config.pbtxt"] == "/models/Digits_Net/"
        assert copies[f"Digits_Net/{version}"] == f"/models/Digits_Net/{version}"
        assert f"Digits_Net/{3 - version}" not in copies
        libraries = {path.name for path in (files / "Digits_Net").glob("*.so")}
        assert {f"Digits_Net/{name}" for name in libraries} < set(copies)
        (command,) = [line for line in dockerfile.splitlines() if line.startswith("CMD ")]
        assert json.loads(command.removeprefix("CMD ")) == ["tritonserver", "--model-repository=/models"]
        assert dockerfile.index("ARG TRITON=") < dockerfile.index("FROM ${TRITON}")


@pytest.mark.parametrize(
    ("name", "dns"),
    [("resnet50sn", "resnet50sn"), ("My_Net.v2", "my-net-v2"), ("50net", "model-50net"), ("x" * 63, "x" * 63)],
)
def test_names_for_kubernetes(name: str, dns: str) -> None:
    assert dns_name(name) == dns


def test_names_that_yaml_takes_for_something_else(net: Path, tmp_path: Path) -> None:
    serve_triton(net, tmp_path, ServeOptions("on", warmup=False))
    for document in documents(tmp_path / "on-1.kubernetes.yaml") + documents(tmp_path / "on-1.kserve.yaml"):
        assert document["metadata"]["name"] == "on"
    parts = by_kind(tmp_path / "on-1.kubernetes.yaml")
    assert parts["Service"]["spec"]["selector"] == {"app.kubernetes.io/name": "on"}

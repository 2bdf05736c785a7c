"""The document and its schema: one can't change without the other."""

from __future__ import annotations

import dataclasses
from typing import Any

import jsonschema
import pytest

from sn_deploy.check import result
from sn_deploy.check.document import json_schema


def test_the_schema_is_one() -> None:
    jsonschema.Draft202012Validator.check_schema(json_schema())


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        (None, result.CheckResult),
        ("backend", result.BackendInfo),
        ("parity", result.OutputParity),
        ("metric", result.TaskMetric),
        ("assertion", result.Assertion),
        ("layer_error", result.LayerError),
        ("layer_report", result.LayerReport),
        ("backend_latency", result.BackendLatency),
        ("layer_time", result.LayerTime),
        ("load_result", result.LoadResult),
        ("latency", result.LatencyReport),
    ],
)
def test_every_field_is_in_the_schema_and_none_else(name: str | None, kind: type[Any]) -> None:
    part = json_schema() if name is None else json_schema()["$defs"][name]
    fields = {field.name for field in dataclasses.fields(kind)} | ({"passed"} if name is None else set())
    assert set(part["properties"]) == fields
    assert set(part["required"]) == fields
    assert part["additionalProperties"] is False

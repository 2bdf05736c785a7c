"""The plugin library in the registry of a real TensorRT, loaded in every way there is, and its creators from Python."""

from __future__ import annotations

from typing import Any

from tests.tensorrt.conftest import Release

NAMES = ["SwitchNorm", "SwitchNormRelu", "SwitchNormAddRelu"]
FIELDS: dict[str, Any] = {"mean_in": 0.5, "mean_ln": 0.25, "var_in": 0.125, "var_ln": 0.75, "ddof": 1}


def test_load_library_registers_all_three(release: Release) -> None:
    result = release.probe(["names"], ["load"], ["names"], *(["create", name, FIELDS] for name in NAMES))
    assert result["version"].startswith(f"{release.major}.")
    assert result["answers"] == [[], True, NAMES, *NAMES]
    assert result["stderr"] == ""


def test_a_plain_dlopen_registers_all_three(release: Release) -> None:
    result = release.probe(["dlopen"], ["names"], *(["create", name, FIELDS] for name in NAMES))
    assert result["answers"] == [True, NAMES, *NAMES]


def test_load_library_after_a_plain_dlopen(release: Release) -> None:
    result = release.probe(["dlopen"], ["load"], ["names"], ["create", "SwitchNorm", FIELDS])
    assert result["answers"] == [True, True, NAMES, "SwitchNorm"]


def test_a_library_that_is_unloaded_leaves_nothing_and_can_come_back(release: Release) -> None:
    result = release.probe(["load"], ["unload"], ["names"], ["load"], ["names"], ["create", "SwitchNorm", FIELDS])
    assert result["answers"] == [True, True, [], True, NAMES, "SwitchNorm"]


# TensorRT would take it, and end the process at the first call whose place has changed.
def test_the_library_of_another_major_version_is_refused(release: Release) -> None:
    other = 21 - release.major
    library = release.plugin.with_name(f"libsn_deploy_trt{other}.so")
    result = release.probe(["load"], ["names"], plugin=library)
    assert result["answers"] == [False, []]
    wanted = f"this plugin is for TensorRT {other}, not {release.major}: load libsn_deploy_trt{release.major}.so"
    assert wanted in result["stderr"]


# What is changed in good fields, and the reason that the creator then gives. None takes a field away.
BAD_FIELDS: list[tuple[dict[str, Any], str]] = [
    ({"mean_in": float("nan")}, "field mean_in is nan; expected a finite number"),
    ({"var_ln": ["float64", [0.75]]}, "field var_ln has type 2; expected kFLOAT32 (1)"),
    ({"var_ln": ["float32", [0.75, 0.5]]}, "field var_ln has 2 values; expected 1"),
    ({"ddof": 2}, "field ddof is 2; expected 0 (biased variance) or 1 (unbiased)"),
    ({"eps": 1e-5}, "unknown field eps; expected mean_in, mean_ln, var_in, var_ln and ddof"),
    ({"mean_ln": None}, "field mean_ln is missing"),
]


def test_bad_fields_are_refused_with_a_reason(release: Release) -> None:
    steps = []
    for change, _ in BAD_FIELDS:
        fields = {name: value for name, value in {**FIELDS, **change}.items() if value is not None}
        steps.append(["create", "SwitchNorm", fields])
    result = release.probe(["load"], *steps)
    assert result["answers"] == [True, *[None] * len(BAD_FIELDS)]
    assert result["stderr"].splitlines() == [f"SwitchNorm: {reason}" for _, reason in BAD_FIELDS]

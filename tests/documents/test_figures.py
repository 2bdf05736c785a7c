"""Figures in documents are those of the results that are committed, rounded."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.documents.test_documents import ROOT
from tools import fuse_zoo
from tools.rows.table import error_text as error

RESULTS = ROOT / "benchmarks/results"


def result(name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((RESULTS / name).read_text(encoding="utf-8"))
    return found


def text(document: str) -> str:
    """On one line."""
    return " ".join((ROOT / document).read_text(encoding="utf-8").split())


def cells(document: str, first: str) -> list[str]:
    """Of the table row that begins so, the other cells."""
    lines = (ROOT / document).read_text(encoding="utf-8").splitlines()
    (row,) = [line for line in lines if line.startswith(f"| {first} |")]
    return [cell.strip() for cell in row.strip("|").split("|")[1:]]


def percent(value: float) -> str:
    """As ``99.78 %``."""
    return f"{100 * value:.2f}".rstrip("0").rstrip(".") + " %"


def test_tables_of_cpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    before = set(sys.modules)
    try:
        import cpu_tables

        measured = result("cpu_net.json")["cells"]
        for page, made in ((cpu_tables.PAGE, cpu_tables.all_tables), (cpu_tables.README, cpu_tables.short_table)):
            shown = page.read_text(encoding="utf-8").partition(cpu_tables.BEGIN)[2].partition(cpu_tables.END)[0]
            assert shown.strip() == made(measured).strip()
    finally:
        for name in set(sys.modules) - before:  # as benchmarks name their modules, others may
            if str(getattr(sys.modules[name], "__file__", "")).startswith(str(ROOT / "benchmarks")):
                del sys.modules[name]


def test_the_goals_on_cpus_and_the_guide_to_optimise() -> None:
    measured = result("cpu_net.json")["cells"]
    portable, blocked = "custom op, fused, sn-deploy export", "custom op on blocks, sn-deploy optimise"
    for cell in measured.values():
        for clock in ("processor", "wall"):
            assert cell[clock][portable]["ratio"] <= 1.30
            assert cell[clock][blocked]["ratio"] <= 1.10
    one = measured["batch 1, 2 threads"]["processor"]
    said = f"takes {one[blocked]['ratio']:.2f} times the net without norms, where the portable file with the native "
    assert f"{said}operators takes {one[portable]['ratio']:.2f}" in text("docs/guides/optimise.md")


def test_files_of_other_exporters() -> None:
    page = (ROOT / "docs/fuse-exporters.md").read_text(encoding="utf-8")
    rows = json.loads((RESULTS / "fuse_zoo.json").read_text(encoding="utf-8"))
    assert fuse_zoo.page(rows).strip() in page
    (shown,) = [row for row in rows if (row["model"], row["way"]) == ("resnetv1sn50", "TorchScript 13")]
    assert f"{shown['nodes']} nodes, was {shown['nodes_before']}" in text("docs/guides/fuse.md")


@pytest.mark.parametrize(("column", "net"), [(0, "resnet18"), (1, "resnet50")])
def test_shares_of_convert(column: int, net: str) -> None:
    measured = result("convert_shares.json")["nets"][net]
    for share, row in measured["shares"].items():
        first = share.replace("e-0", "e-")
        expected = f"{error(row['rel_l2'])}, {error(row['max_abs'])}"
        assert cells("docs/guides/convert.md", first)[column] == expected
    assert f"{measured['layers']} layers" in text("docs/guides/convert.md")


def test_accuracy_of_precisions() -> None:
    nets = result("precision_accuracy.json")["nets"]
    columns = ("fp16", "bf16", "int8, percentile", "fp8")
    for version in ("v1", "v2"):
        rows = nets[f"resnet50 {version}"]["random"]
        shown = cells("docs/performance.md", f"ResNet-50 {version}: relative L2")
        assert shown == [error(rows[column]["rel_l2"]) for column in columns]
        assert {rows[column]["top1_agreement"] for column in columns} == {1.0}
        costs = [error(rows[f"int8, {method}"]["rel_l2"]) for method in ("minmax", "percentile", "entropy")]
        assert f"{costs[0]}, {costs[1]} and {costs[2]}" in text("docs/guides/precision.md")
    of_all = nets["digits"]["1000 of all"]
    shown = cells("docs/performance.md", "demo: the same class")
    assert shown == [percent(of_all[column]["top1_agreement"]) for column in columns]
    held_out = nets["digits"]["held out"]
    columns = ("int8, SN in fp32", "int8, percentile", "fp8")
    for title, key, form in (
        ("accuracy", "top1_accuracy", percent),
        ("the same class as float32", "top1_agreement", percent),
        ("relative L2 to float32", "rel_l2", error),
    ):
        assert cells("docs/guides/precision.md", title)[1:] == [form(held_out[one][key]) for one in columns]
    assert cells("docs/guides/precision.md", "accuracy")[0] == percent(held_out["fp32"]["top1_accuracy"])


def test_costs_of_proofs() -> None:
    measured = result("command_costs.json")
    layers, whole = (measured["resnet50_at_224"][name] for name in ("check --layers", "fuse, the whole file's run"))
    times = f"{layers['ratio']:.1f} times the processor time of a check without"
    memory = f"{layers['with']['peak_gib']:.1f} GiB at the peak in place of {layers['without']['peak_gib']:.1f}"
    assert f"{times}, and {memory}" in text("docs/guides/check.md")
    guide = text("docs/guides/fuse.md")
    assert f"takes {whole['ratio']:.2f} times the processor time with it" in guide
    assert f"some {round(measured['fuse_bytes_a_number'], -1):.0f} bytes of memory" in guide


def test_what_a_check_costs() -> None:
    kinds = result("check_overhead.json")["resnet50_at_224_batch_8"]
    whole = [100 * row["whole"] for row in kinds.values()]
    comparing = max(100 * row["comparing"] for row in kinds.values())
    guide = text("docs/guides/check.md")
    assert f"{min(whole):.1f} % to {max(whole):.1f} % of what two backends take" in guide
    assert f"comparing {comparing:.1f} %" in guide
    assert f"JPEGs takes {100 * kinds['jpeg 500x375']['data_alone']:.1f} % of their time" in guide
    measured = result("latency_overhead.json")
    ratio = f"{measured['within']:.2f}, 95 % interval {measured['within_low']:.2f} to {measured['within_high']:.2f}"
    guide = text("docs/guides/report.md")
    assert f"({ratio})" in guide
    assert f"takes {100 * max(measured['whole']):.1f} % of ResNet-18's time at most" in guide
    assert f"and {100 * sorted(measured['between'])[1]:.0f} % of that of the demo's network" in guide


def test_rounding_that_tolerances_rest_on() -> None:
    rows = json.loads((ROOT / "docs/models.json").read_text(encoding="utf-8"))
    resnets = [row for row in rows if row["number"] == 1 and "ResNet-50" in row["name"]]
    for type_, keys in (("float32", ("ort", "openvino", "torch")), ("float16", ("ort_fp16", "torch_fp16"))):
        values = [row[key] for row in resnets for key in keys if row.get(key)]
        assert f"cost {error(min(values))} to {error(max(values))} in" in cells("docs/guides/check.md", type_)[1]


def test_sparse_nets() -> None:
    nets = result("sparse_net.json")["sparse_resnet50_at_224"]
    function, native = nets["ort, batch 1"], nets["ort-native, batch 1"]
    guide = text("docs/guides/specialise.md")
    one, other = function["specialised"], native["specialised"]
    assert f"is after it to {error(function['rel_l2'])} what it was" in guide
    assert f"takes {one['ratio']:.2f} (95 % interval {one['ratio_low']:.2f} to {one['ratio_high']:.2f})" in guide
    assert f"{other['ratio']:.2f} ({other['ratio_low']:.2f} to {other['ratio_high']:.2f})" in guide
    before = "SwitchNorm everywhere"
    assert f"it took {function[before]['ratio']:.2f} and {native[before]['ratio']:.2f}" in guide


def test_serving() -> None:
    rows = {(row["net"], row["runner"], row["callers"]): row for row in result("serving.json")["rows"]}
    lines = (ROOT / "docs/guides/serving.md").read_text(encoding="utf-8").splitlines()
    table = [line.strip("| ").split(" | ") for line in lines if line.startswith("| ")]
    shown = [row for row in table if "in process" in row[0] or row[0] in ("Triton, gRPC", "Triton, HTTP")]
    order = [(net, runner) for net in ("resnet50", "digits") for runner in ("session", "triton, gRPC", "triton, HTTP")]
    assert len(shown) == len(order)
    for (net, runner), row in zip(order, shown, strict=True):
        for callers, cell in zip((1, 8), row[1:], strict=True):
            measured = rows[net, runner, callers]
            value, _, ratio = cell.partition(": ")
            assert float(value.replace(",", "")) == pytest.approx(measured["samples_per_s"], rel=0.01)
            if ratio:
                interval = f"({measured['ratio_low']:.2f} to {measured['ratio_high']:.2f})"
                assert ratio == f"{measured['ratio']:.2f} {interval}"


def test_gpus() -> None:
    static = result("gpu/gpu_results.json")["gpu_engines"]["nets"]["resnet50 v1"]["fp16"]["static"]
    ratios = [row["ratio_to_floor"]["plugin"] for row in static.values()]
    assert f"takes {min(ratios):.1f} to {max(ratios):.1f} times the net with batch norms" in text("README.md")
    first = result("gpu/gpu_results_first_kernels.json")["gpu_engines"]["nets"]["resnet50 v1"]["fp16"]["static"]
    one, eight, many = (first[batch]["ratio_to_floor"]["plugin"] for batch in ("1", "8", "32"))
    assert f"took {one:.2f}, {eight:.2f} and {many:.2f} times the floor" in text("docs/performance.md")


def test_long_runs() -> None:
    """Each large number of a part's row is in its line of the result."""
    parts = result("soak.json")["parts"]
    for part in parts:
        if part == "damaged-files":
            fused, refused = map(int, re.findall(r"(\d+) fused, (\d+) refused", parts[part]["reason"])[0])
            assert f"{fused + refused:,} in the part `damaged-files`" in text("docs/guides/fuse.md")
            continue
        shown = cells("docs/reliability.md", f"`{part}`")[-1].replace(",", "")
        known = re.findall(r"\d+(?:\.\d+)?", parts[part]["reason"])
        if part == "agreement":
            known += ["300"]  # what is drawn in float16
        if part == "kills":  # of all commands together
            every = parts[part]["reason"]
            known += [str(sum(map(int, re.findall(rf"{which} (\d+)", every)))) for which in ("old", "new")]
        large = [number for number in re.findall(r"\d+(?:\.\d+)?", shown) if float(number) >= 100]
        assert [number for number in large if number not in known] == [], part


def test_the_readmes_forms() -> None:
    rows = json.loads((ROOT / "docs/models.json").read_text(encoding="utf-8"))
    names = ("SwitchNorm", "SwitchNormRelu", "SwitchNormAddRelu")
    shown = cells("README.md", "of them `SwitchNorm`, `SwitchNormRelu`, `SwitchNormAddRelu`")
    for cell, version in zip(shown, ("v1", "v2"), strict=True):
        (forms,) = [row["forms"] for row in rows if row["name"] == f"ResNet-50 {version}"]
        assert cell == ", ".join(str(forms.get(name, 0)) for name in names)


def test_the_demos_figures(tmp_path: Path) -> None:
    """What README.md and the guides show of the demo's net, but for times."""
    from rich.console import Console

    from sn_deploy.cli import demo
    from tests.documents.test_guides import _lines

    with (tmp_path / "printed").open("w+") as file:
        demo.run(Console(file=file, width=80), tmp_path / "digits.onnx", calls=10)
        file.seek(0)
        printed = _lines(file.read())
    block = (ROOT / "README.md").read_text(encoding="utf-8").partition("```text\n")[2].partition("```")[0]
    shown = [line for line in _lines(block) if not line.startswith(("median", "90th", "largest", "─"))]
    joined = " ".join(printed)
    assert [line for line in shown if line not in joined] == []


def test_forms_of_layers_that_chose_a_branch() -> None:
    layers = result("specialised_forms.json")["layers_with_relu"]
    lines = (ROOT / "docs/decisions/0012-specialise.md").read_text(encoding="utf-8").splitlines()
    tables = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("| ")]
    head, *rows = [row for row in tables if len(row) == 6]
    assert len(rows) == 15
    for branches, form, *cells in rows:
        mean, variance = branches.split(", ")
        measured = [layers[f"mean {mean}, variance {variance}, 1×{size}"][form.replace("`", "'")] for size in head[2:]]
        assert cells == [f"{one['ratio']:.2f}" for one in measured]

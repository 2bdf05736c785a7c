"""tools/gpu_report.py: the page's tables are what it makes, and say what a file has and nothing else."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tools import gpu_report

FIGURES_OF_A_GPU = Path(__file__).parents[1] / "benchmarks/results/gpu/gpu_results.json"


def figures(ratio: float = 1.2, beside: int = 0, error: float = 4e-4, agreement: float = 0.999) -> dict[str, Any]:
    """As benchmarks/gpu_engines.py writes them, of two cells."""
    plugin = {
        "reformats_beside_plugins": ["copy"] * beside,
        "plugins": 53,
        "relative_l2": error,
        "top1_agreement": agreement,
    }
    us = {
        key: {"median_us": value} for key, value in {"plugin": 1200.0, "floor": 1000.0, "function body": 1700.0}.items()
    }
    body = us.pop("function body")
    row = {
        "engines": {"plugin": plugin},
        "us": us,
        "ratio_to_floor": {"plugin": ratio, "floor": 1.0},
        "slow": {"us": {**us, "function body": body}},
    }
    demo = {**row, "engines": {"plugin": {**plugin, "images": 1000}}}
    nets = {"resnet50 v1": {"fp16": {"static": {"32": row}}}, "digits": {"fp16": {"dynamic": {"128": demo}}}}
    machine = {"gpu_name": "NVIDIA H200", "tensorrt": "11.2", "torch": "2.15"}
    return {"gpu_engines": {"nets": nets, "machine": machine}}


def row_of(block: str, start: str) -> str:
    return next(line for line in block.splitlines() if line.startswith(f"| {start}"))


def test_the_page_is_what_the_tool_makes() -> None:
    measured = json.loads(FIGURES_OF_A_GPU.read_text()) if FIGURES_OF_A_GPU.exists() else {}
    page = gpu_report.PAGE.read_text()
    assert gpu_report.written(page, gpu_report.page(measured)) == page


def test_without_figures_nothing_is_claimed() -> None:
    block = gpu_report.page({})
    goals = [line for line in block.splitlines() if "at least" in line or "at most" in line or "under" in line]
    assert len(goals) == 13
    assert all("| not measured |" in line for line in goals)
    assert "met" not in block.replace("method", "")
    assert block.count("\nnot measured\n") == len(gpu_report.NETS) * len(gpu_report.PRECISIONS)


def test_goals_are_met_or_missed() -> None:
    block = gpu_report.page(figures())
    assert row_of(block, "resnet50 v1, fp16, batch 32: engine").endswith("| at most 1.40 | 1.200 | met |")
    assert row_of(block, "resnet50 v1, fp16, batch 32: what SN").endswith("| at least 3 | 3.50 | met |")
    assert row_of(block, "resnet50 v1, fp16, batch 1: engine").endswith("| not measured |  |")
    assert row_of(block, "demo, fp16").endswith("| 99.90% | met |")
    missed = gpu_report.page(figures(ratio=1.5, beside=2, error=6e-3, agreement=0.99))
    for start in ("resnet50 v1, fp16, batch 32: engine", "ResNet-50, fp16: reformats", "demo, fp16"):
        assert row_of(missed, start).endswith("| missed |")
    assert row_of(missed, "resnet50 v1, fp16: relative L2").endswith("| 6.0e-03 | missed |")
    assert "| static | 32 | 1200 | 1000 | 1700 | – | – | – | 1.500 | 2 | 6.0e-03 |" in missed


def test_goals_of_one_gpu_are_not_met_by_another() -> None:
    known = figures()
    known["gpu_engines"]["machine"]["gpu_name"] = "NVIDIA H100 80GB HBM3"
    block = gpu_report.page(known)
    assert row_of(block, "resnet50 v1, fp16, batch 32: engine").endswith(
        "| 1.200 | on another GPU (NVIDIA H100 80GB HBM3) |"
    )
    assert "| met |" not in block
    assert "| missed |" not in block


def test_an_engine_that_was_left_out_leaves_the_others() -> None:
    known = figures()
    row = known["gpu_engines"]["nets"]["resnet50 v1"]["fp16"]["static"]["32"]
    for part in (row, row["slow"]):
        del part["us"]["plugin"]
    row["engines"], row["ratio_to_floor"] = {}, {"floor": 1.0}
    block = gpu_report.page(known)
    assert row_of(block, "resnet50 v1, fp16, batch 32: engine").endswith("| not measured |  |")
    assert "| static | 32 | – | 1000 | 1700 | – | – | – | – | – | – |" in block


def test_a_cell_that_was_left_out_is_not_measured() -> None:
    known = figures()
    known["gpu_engines"]["nets"]["resnet50 v1"]["fp16"]["static"]["32"] = {"left_out": "out of memory"}
    assert row_of(gpu_report.page(known), "resnet50 v1, fp16, batch 32: engine").endswith("| not measured |  |")


def test_a_rehearsal_is_never_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    known = figures()
    known["gpu_engines"]["machine"]["rehearsal"] = True
    (tmp_path / "results.json").write_text(json.dumps(known))
    page = tmp_path / "page.md"
    page.write_text(f"a\n{gpu_report.BEGIN}\n{gpu_report.END}\nb\n")
    arguments = [str(tmp_path / "results.json"), "--page", str(page)]
    assert gpu_report.main([*arguments, "--write"]) == 2
    assert "rehearsal" in capsys.readouterr().err
    assert gpu_report.main(arguments) == 0
    assert capsys.readouterr().out.startswith("A rehearsal: the times mean nothing.")
    known["gpu_engines"]["machine"]["rehearsal"] = False
    (tmp_path / "results.json").write_text(json.dumps(known))
    assert gpu_report.main([*arguments, "--write"]) == 0
    assert page.read_text().startswith(f"a\n{gpu_report.BEGIN}\n\nMachine: NVIDIA H200; TensorRT 11.2, torch 2.15.")
    assert page.read_text().endswith(f"{gpu_report.END}\nb\n")


@pytest.mark.parametrize("content", ["cut off {", "[1]", '{"gpu_engines": 3}'])
def test_a_file_that_is_something_else(tmp_path: Path, capsys: pytest.CaptureFixture[str], content: str) -> None:
    (tmp_path / "results.json").write_text(content)
    assert gpu_report.main([str(tmp_path / "results.json")]) == 2
    assert "results.json" in capsys.readouterr().err
    assert gpu_report.main([str(tmp_path / "none.json")]) == 2


def test_a_page_without_marks(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "page.md").write_text("nothing")
    assert gpu_report.main(["--write", "--page", str(tmp_path / "page.md")]) == 2
    assert "there is no" in capsys.readouterr().err

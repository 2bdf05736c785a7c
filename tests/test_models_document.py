"""docs/models.md shows what docs/models.json holds: the tables are made, not written."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from tools.rows import ROWS
from tools.rows.table import BEGIN, END, markdown, write_into
from tools.zoo import made_so

DOCS = Path(__file__).parents[1] / "docs"


@pytest.fixture(scope="module")
def results() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads((DOCS / "models.json").read_text())
    return found


def test_the_document_is_up_to_date(results: list[dict[str, Any]]) -> None:
    text = (DOCS / "models.md").read_text()
    assert text.partition(BEGIN)[2].partition(END)[0].strip() == markdown(results).strip()


# A row of README.md's table -> what it is of in the results.
README_ROWS = {
    "nodes, torch's own export": "nodes_standard",
    "nodes, sn-deploy": "nodes",
    "ONNX Runtime, float32": "ort",
    "PyTorch's own float32": "torch",
    "OpenVINO on the inlined file, float32": "openvino",
    "ONNX Runtime, fp16": "ort_fp16",
    "PyTorch's own fp16": "torch_fp16",
    "top-1 agreement of ONNX Runtime with PyTorch in float64": "agreement",
    "largest change of a logit when its image runs alone and in a batch": "batch_dependence",
}


@pytest.mark.parametrize(("column", "name"), [(1, "ResNet-50 v1"), (2, "ResNet-50 v2")])
def test_the_readme_has_the_same_figures(results: list[dict[str, Any]], column: int, name: str) -> None:
    text = (DOCS.parent / "README.md").read_text()
    rows = [line.strip("| ").split(" | ") for line in text.splitlines() if line.startswith("| ")]
    shown = {row[0]: row[column] for row in rows if row[0] in README_ROWS}
    assert list(shown) == list(README_ROWS)
    (result,) = (one for one in results if one["name"] == name)
    for row, key in README_ROWS.items():
        value = float(shown[row].removesuffix(" %")) / (100 if shown[row].endswith("%") else 1)
        assert value == float(f"{result[key]:.1e}") if key not in ("nodes", "nodes_standard") else value == result[key]


def test_every_row_has_figures_and_nothing_else_has(results: list[dict[str, Any]]) -> None:
    names = [row.name for row in ROWS]
    assert len(set(names)) == len(names)
    assert [result["name"] for result in results] == names


def test_every_check_passed_and_every_layer_was_found(results: list[dict[str, Any]]) -> None:
    for result in results:
        assert result["check"] in ("passed", "refused"), result["name"]
        if "fuse_found" in result:
            assert result["fuse_found"] == result["switch_norm"], result["name"]
            assert not result["fuse_near_misses"], result["name"]


def test_a_document_without_the_marks_is_refused(tmp_path: Path) -> None:
    document = tmp_path / "models.md"
    document.write_text(f"# Models\n\n{BEGIN}\n")
    with pytest.raises(SystemExit, match="has no"):
        write_into(document, [])
    document.write_text(f"# Models\n\n{BEGIN}\nold\n{END}\nrest\n")
    row = {"number": 1, "task": "T", "name": "n", "ort": 3.14e-7, "fuse_found": 2, "fused": 0.0, "note": "so"}
    made = {"versions": {"torch": "2"}, "commits": {"A": "123"}, "effort": 0.5, "revision": "abc", "seconds": 120}
    write_into(document, [{**row, **made}])
    text = document.read_text()
    assert "old" not in text
    assert text.endswith(f"{END}\nrest\n")
    assert "| n | – | – | – | – | 3.1e-7 | – | 2 found, 0 |" in text
    assert "- n: so." in text
    assert "--effort 0.5 " in text
    assert "at revision abc: 1 rows, 2 minutes." in text
    assert "Versions: torch 2.\n\nRepositories: A at 123." in text


def test_a_run_goes_on_with_rows_of_the_same_origin_alone() -> None:
    wanted = {"effort": 0.5, "revision": "abc", "versions": {"torch": "2"}, "commits": {"A": "123"}}
    made = {**wanted, "name": "n", "versions": {"torch": "2", "tensorflow": "3"}}
    assert made_so(made, wanted)
    assert not made_so(None, wanted)
    for change in ({"effort": 1.0}, {"revision": "abd"}, {"versions": {"torch": "2.1"}}, {"commits": {"A": "124"}}):
        assert not made_so({**made, **change}, wanted), change
    assert not made_so({"name": "n"}, wanted)


def test_the_tests_that_it_names_exist() -> None:
    section = (DOCS / "models.md").read_text().partition("## Rows and tests")[2].partition("\n## ")[0]
    named = set(re.findall(r"`(tests/[\w/.]+)`", section))
    assert len(named) > 12
    assert all((DOCS.parent / name).exists() for name in named), named
    for number in {row.number for row in ROWS}:
        assert f"\n| {number}. " in section

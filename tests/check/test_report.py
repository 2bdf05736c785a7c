"""The report of a real check: what it says, that it is whole in itself, and that no text in it becomes markup."""

from __future__ import annotations

import copy
import itertools
import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pytest

from sn_deploy.check.report.document import checked_document, clean
from sn_deploy.check.report.html import html_from_document, write_html
from sn_deploy.check.report.pictures.canvas import svg_for_page
from sn_deploy.check.report.pictures.latency import density, ratio_picture
from sn_deploy.check.report.sections.importance import importance_section
from sn_deploy.check.report.sections.latency import latency_section, layer_time_section
from sn_deploy.check.report.sections.layers import layers_section
from sn_deploy.check.report.sections.outputs import outputs_section
from sn_deploy.check.report.sections.task import task_section
from sn_deploy.errors import SnDeployError
from tests.check.page import Page
from tests.check.real_document import real_document
from tests.check.report_documents import (
    NASTY,
    bare_document,
    crowd,
    equal_where_finite,
    exact,
    failed_document,
    many_layers,
    not_finite,
    poisoned,
    steady,
)

SECTIONS = ["limits", "outputs", "task", "layers", "latency", "layer-times", "importance", "setup"]


@pytest.fixture(scope="module")
def html() -> str:
    return html_from_document(real_document())


@pytest.fixture(scope="module")
def page(html: str) -> Page:
    return Page(html)


def sections(page: Page) -> list[str]:
    return [attributes["id"] for tag, attributes in page.elements if tag == "section"]


def test_a_reader_who_was_not_there_learns_what_was_compared_and_what_came_of_it(page: Page) -> None:
    assert "Passed" in page.text
    assert re.search(
        r"ort and ort-native were compared with torch on 128 samples: arrays from \S+digits\.npz", page.text
    )
    assert re.search(r"All \d+ limits hold", page.text)
    assert re.search(r"ort-native (is|takes) [\d.]+ times as (fast|long) as torch \(95% interval", page.text)
    assert sections(page) == SECTIONS
    # Each picture has a text of its own for who can't see it, twice: for wide and for narrow pages.
    labels = [picture["aria-label"] for picture in page.pictures()]
    assert len(labels) == 2 * 6
    assert labels[::2] == labels[1::2]
    assert len(set(labels)) == 6
    assert all(picture["role"] == "img" for picture in page.pictures())
    assert [tag for tag, _ in page.elements].count("figcaption") == 6


def test_tables_hold_the_documents_numbers(page: Page) -> None:
    document = real_document()
    head, *rows = page.tables["Latencies"]
    assert head[:4] == ["Backend", "Batch", "Median", "90% below"]
    for row, result in zip(rows, document["latency"]["results"], strict=True):
        assert row[:2] == [result["backend"], str(result["batch"])]
        value, unit = row[2].split()
        assert float(value) * {"µs": 1e-3, "ms": 1.0, "s": 1e3}[unit] == pytest.approx(result["median_ms"], rel=0.01)
        assert float(row[7].replace(",", "")) == pytest.approx(result["throughput"], rel=0.01)
    parity = document["parity"]["ort"][0]
    row = next(row for row in page.tables["Differences from torch"] if row[0] == "ort: linear")
    assert row[1] == "passed"
    assert float(row[2]) == pytest.approx(parity["rel_l2"], rel=0.06)
    assert float(row[5].split()[0]) == pytest.approx(parity["worst_rel_l2"], rel=0.06)
    layers = document["layers"][0]["layers"]
    for row, layer in zip(page.tables["SN layers of ort"][1:], layers, strict=True):
        assert row[0] == layer["layer"]
        assert float(row[4]) == pytest.approx(layer["rel_l2"], rel=0.06)
    for row, weights in zip(page.tables["Weights of IN, LN and BN"][1:], document["importance"], strict=True):
        assert [float(cell) for cell in row[2:5]] == pytest.approx(list(weights["mean"].values()), abs=5e-4)
    assert len(page.tables["Each limit"]) == 1 + len(document["assertions"])
    accuracy = next(row for row in page.tables["Each figure of each backend"] if row[:2] == ["Top-1 accuracy", "ort"])
    assert accuracy[4:6] == ["no difference", "1"]


def test_a_failure_is_said_first(page: Page) -> None:
    failed = Page(html_from_document(failed_document()))
    assert "Failed" in failed.text
    assert "Failed" not in page.text
    assert "In ort, sn3 is the first layer out of its tolerance and is at fault." in failed.text
    assert "the fault is in sn3 (layer 3 of 4). On the very input that it got, its output is off by 0.05" in failed.text
    assert failed.tables["Each limit"][1] == ["ort: linear: rel_l2 0.05 <= 1e-05", "failed"]
    assert "2 numbers that should be finite" in failed.text
    assert failed.tables["Layers of ort that stay in float32"][1:] == [["sn3", "1"], ["sn4", "2"]]
    assert "The mixed file was written to mixed.onnx." in failed.text
    document = failed_document() | {"latency": None, "importance": []}
    document["layers"][0] |= {"culprit_part": "before"}
    before = Page(html_from_document(document))
    assert "The fault is before it and after the layers that lead to it, such as sn2" in before.text


def test_what_is_missing_is_left_out() -> None:
    document = checked_document(bare_document())
    assert outputs_section(document | {"parity": {}}) is None
    assert task_section(document | {"metrics": []}) is None
    assert importance_section(document | {"importance": [{"name": "sn1"}, 3]}) is None
    huge = dict.fromkeys(("mean", "var"), dict.fromkeys(("IN", "LN", "BN"), 1e308))  # whose sum is no number
    assert importance_section(document | {"importance": [huge, huge]}) is None
    for section in (layers_section, latency_section, layer_time_section):
        assert section(document, {"torch": 0}) is None
    assert sections(Page(html_from_document(document))) == ["limits", "outputs", "task", "setup"]
    assert "No limit was set" in Page(html_from_document(document | {"assertions": []})).text


def test_the_page_is_whole_in_itself_and_runs_nothing(html: str, page: Page) -> None:
    assert not page.tags() & {"script", "link", "img", "iframe", "object", "embed", "base", "form", "image"}
    for tag, attributes in page.elements:
        assert not [name for name in attributes if name.startswith("on") or name in ("src", "srcset", "action")], tag
        assert all("://" not in value for name, value in attributes.items() if not name.startswith("xmlns"))
    assert not re.search(r"@import|url\((?!#)", html)
    (policy,) = [
        attributes["content"]
        for _, attributes in page.elements
        if attributes.get("http-equiv") == "Content-Security-Policy"
    ]
    assert policy == "default-src 'none'; style-src 'unsafe-inline'"


def test_every_reference_has_its_one_target(page: Page) -> None:
    assert [name for name, count in page.ids().items() if count > 1] == []
    assert page.references() <= set(page.ids())
    assert len(page.references()) > 50


def test_tables_are_named_and_their_heads_say_of_what(page: Page) -> None:
    regions = [attributes for _, attributes in page.elements if attributes.get("role") == "region"]
    assert len(regions) == len(page.tables)
    assert all(region["tabindex"] == "0" and region["aria-labelledby"] in page.ids() for region in regions)
    assert all(attributes.get("scope") in ("col", "row") for tag, attributes in page.elements if tag == "th")
    headings = [tag for tag, _ in page.elements if re.fullmatch(r"h[1-6]", tag)]
    assert headings[0] == "h1"
    assert headings.count("h1") == 1
    assert all(int(after[1]) - int(before[1]) <= 1 for before, after in itertools.pairwise(headings))


def test_no_text_becomes_markup(page: Page) -> None:
    document = poisoned(real_document())
    assert document["backends"][0]["name"].endswith(NASTY)
    poison = Page(html_from_document(document))
    assert poison.tags() == page.tags()
    assert len(poison.pictures()) == len(page.pictures())
    for _, attributes in poison.elements:
        assert not [name for name in attributes if name.startswith("on") or name == "src"]
    shown = "<script>alert(1)</script><img src=x onerror=alert(1)>\"'>&lt;{{ 7*7 }}{% raw %}$x_1^$ ]]> -->"
    assert poison.text.count(shown) > 50
    assert "\u202e" not in poison.text
    assert "\x00" not in poison.text


def test_characters_that_cannot_be_seen_or_written_are_shown_as_such(tmp_path: Path) -> None:
    assert clean("a\x1b[31mb\ud800\u202ec\tz") == "a\ufffd[31mb\ufffd\ufffdc\tz"
    document = bare_document()
    document["backends"][1]["file"] = "caf\udce9.onnx"  # bytes in a file name that are no UTF-8
    write_html(document, tmp_path / "report.html")
    assert "caf\ufffd.onnx" in (tmp_path / "report.html").read_text(encoding="utf-8")
    document["command"] = "sn-deploy check $(x)"
    assert "sn-deploy check $(x)" in Page(html_from_document(document)).text


def test_the_same_document_gives_the_same_page_whatever_matplotlibs_style_is(html: str) -> None:
    before = dict(mpl.rcParams)
    with mpl.rc_context({"font.size": 40, "axes.facecolor": "red", "text.usetex": True}):
        assert html_from_document(real_document()) == html
    assert dict(mpl.rcParams) == before


@pytest.mark.parametrize(
    ("document", "says"),
    [
        (lambda: many_layers(1), "the one layer, "),
        (lambda: many_layers(152), "all 152 layers are within"),
        (lambda: exact(real_document()), "All outputs equal those of torch, bit for bit."),
        (lambda: equal_where_finite(real_document()), "What is finite in both equals torch's. 6 numbers that should"),
        (lambda: equal_where_finite(real_document(), 0), "There was no finite number to compare. 6 numbers"),
        (lambda: not_finite(real_document()), "isn't even finite"),
        (lambda: steady(real_document()), "1,000 times as fast as torch"),
        (lambda: crowd(real_document()), "finetuned-on-a-long-name-7.onnx"),
    ],
)
def test_documents_at_the_edge_have_a_page_too(document: Callable[[], dict[str, Any]], says: str) -> None:
    page = Page(html_from_document(document()))
    assert says in page.text
    assert "nan" not in page.text.lower().replace("nan, inf", "").split()


def test_a_part_says_that_it_is_one() -> None:
    document = bare_document() | {"shard": "2/8"}
    assert "This is part 2/8 of a check: its limits say little alone." in Page(html_from_document(document)).text


def test_the_density_is_high_where_the_calls_are() -> None:
    times = np.concatenate([np.random.default_rng(0).normal(5, 0.2, 800), np.random.default_rng(1).normal(8, 0.2, 200)])
    grid = np.linspace(0, 10, 501)
    hill = density(times, grid)
    assert hill.max() == 1
    assert grid[hill.argmax()] == pytest.approx(5, abs=0.1)
    assert hill[np.searchsorted(grid, 8)] == pytest.approx(0.25, abs=0.05)
    assert hill[np.searchsorted(grid, 6.5)] < 0.05
    assert density(np.full(10, 3.0), grid).argmax() == np.searchsorted(grid, 3)
    assert density(np.array([1e9, 1e9]), grid).max() == 0  # far outside of the picture


def marks(svg: str) -> list[float]:
    """x of each point of the ratios' picture."""
    groups = [group for group in ElementTree.fromstring(svg).iter() if "-point-" in group.get("id", "")]
    return [float(next(use for use in group.iter() if use.tag.endswith("use")).get("x", "")) for group in groups]


def test_points_stand_where_their_ratios_are() -> None:
    def row(ratio: float) -> dict[str, Any]:
        return {"backend": "b", "batch": 1, "ratio": ratio, "ratio_low": ratio * 0.9, "ratio_high": ratio * 1.1}

    ratios = [0.5, 1.0, 2.0, 1.5]
    drawn = ratio_picture([row(ratio) for ratio in ratios], "base", {"b": 1}, "")
    for svg in (drawn.wide, drawn.narrow):
        x = np.array(marks(svg))
        step = x[1] - x[0]  # a factor of two, on a logarithmic scale
        assert step > 20
        assert x - x[1] == pytest.approx(step * np.log2(ratios), abs=0.02)


@pytest.mark.parametrize(("figure", "value"), [("ratio", 0.0), ("ratio_high", 1e308), ("median_ms", 0.0)])
def test_figures_that_no_clock_gives_are_left_out(figure: str, value: float) -> None:
    # A picture of a ratio of 1e308 would have had a mark at each 50.
    document = real_document()
    document["latency"]["results"][1][figure] = value
    html_from_document(document)


@pytest.mark.parametrize(
    "style",
    [
        "font-size: 8.5px; font-weight: 700; font-family: 'DejaVu Sans', sans-serif; text-anchor: end",
        "font: 700 8.5px 'DejaVu Sans', sans-serif; text-anchor: end",
    ],
)
def test_text_is_set_in_the_pages_own_font(style: str) -> None:
    svg = f'<svg xmlns="http://www.w3.org/2000/svg"><text style="{style}" x="1">a</text></svg>'
    page = Page(svg_for_page(svg, "a-", ""))
    assert page.elements[1][1]["style"] == "font-size: 8.5px; font-weight: 700; text-anchor: end"


def test_a_colour_that_does_not_change_with_the_page_is_refused() -> None:
    svg = '<svg xmlns="http://www.w3.org/2000/svg"><path style="fill: #123456" d="M 0 0"/></svg>'
    with pytest.raises(KeyError, match="#123456"):
        svg_for_page(svg, "a-", "")


def changed(path: str, value: Any) -> dict[str, Any]:
    """The document with one value replaced; with None, taken away."""
    document = bare_document() | {"latency": real_document()["latency"]}
    *parents, last = path.split(".")
    place: Any = document
    for name in parents:
        place = place[int(name) if name.isdigit() else name]
    if value is None:
        del place[last]
    else:
        place[last] = value
    return document


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        ("schema", None, "is not the document of a check"),
        ("schema", 2, r"is of schema 2 \(expected 1\)"),
        ("samples", "many", r'samples is "many" \(expected a whole number\)'),
        ("samples", True, r"samples is true"),
        ("latency.results.1.median_ms", "1", r'latency\.results\[1\]\.median_ms is "1" \(expected a number\)'),
        ("latency.results", {}, r"latency\.results is {} \(expected a list\)"),
        ("assertions.0.passed", 1, r"assertions\[0\]\.passed is 1 \(expected true or false\)"),
        ("parity", [], r"parity is \[\] \(expected an object\)"),
        ("machine", None, "machine is missing"),
        ("importance", [{"mean": {"BN": 10**400}}], r"importance\[0\]\.mean\.BN is 1000*… \(expected a number\)"),
        ("backends.0.name", {"a": "x" * 99}, r"backends\[0\]\.name is .{40} \(expected a string\)"),
    ],
)
def test_what_is_no_document_is_refused_with_its_place(path: str, value: Any, words: str, tmp_path: Path) -> None:
    (tmp_path / "report.html").write_text("old")
    with pytest.raises(SnDeployError, match=words):
        write_html(changed(path, value), tmp_path / "report.html")
    with pytest.raises(SnDeployError, match="is not the document of a check"):
        write_html([], tmp_path / "report.html")  # type: ignore[arg-type]
    assert [file.read_text() for file in tmp_path.iterdir()] == ["old"]


def test_the_layer_that_is_named_has_to_be_there() -> None:
    document = real_document()
    document["layers"][0]["culprit"] = "gone"
    with pytest.raises(SnDeployError, match=r'layers\[0\]\.culprit is "gone" \(expected one of its layers\)'):
        checked_document(document)


def test_a_document_is_filled_up_and_not_changed() -> None:
    document = real_document()
    before = copy.deepcopy(document)
    del document["shard"], document["latency"]["layer_times"]
    checked = checked_document(document | {"later": 1})
    assert checked["shard"] is None
    assert checked["latency"]["layer_times"] == []
    assert "later" not in checked
    document["shard"], document["latency"]["layer_times"] = before["shard"], before["latency"]["layer_times"]
    assert document == before
    # The verdict is that of the limits, whatever the document says.
    failed = failed_document() | {"passed": True}
    assert not checked_document(failed)["passed"]


@pytest.mark.parametrize(("low", "high"), [(0.01, 1.2), (0.5, 9.0), (1e-4, 1e4)])
def test_a_wide_axis_of_ratios_has_room_for_its_numbers(low: float, high: float) -> None:
    from matplotlib.figure import Figure

    from sn_deploy.check.report.pictures.latency import _ratio_axis

    axes = Figure().add_subplot()
    _ratio_axis(axes, [{"ratio": 1.0, "ratio_low": low, "ratio_high": high}])
    ticks = list(axes.get_xticks())
    assert 1 in ticks
    assert 2 <= len(ticks) <= 7

"""The report in a real browser, on a phone and on a desktop: all there, nothing over anything else, nothing loaded."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from sn_deploy.check.report.html import write_html
from tests.check.browser import CHROMIUM, DRIVER, Browser, Scheme, chromium
from tests.check.real_document import real_document
from tests.check.report_documents import crowd, failed_document, many_layers, poisoned

pytestmark = pytest.mark.skipif(
    not (CHROMIUM and DRIVER), reason="no Chromium with its driver: apt-get install chromium chromium-driver"
)

PHONE, DESKTOP = 360, 1280


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as opened:
        yield opened


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("pages")
    documents = {
        "passed": real_document(),
        "failed": failed_document(),
        "crowd": crowd(many_layers(104)),
        "poisoned": poisoned(real_document()),
    }
    for name, document in documents.items():
        write_html(document, folder / f"{name}.html")
    return {name: folder / f"{name}.html" for name in documents}


def too_wide(browser: Browser) -> list[str]:
    """What makes the page scroll sideways, or is cut at its edge. Tables may, within their own boxes."""
    found = browser.ask(
        """
        return [...document.body.querySelectorAll("*")]
          .filter(element => visible(element) && !element.closest(".scroll table, svg *, .skip"))
          .filter(element => box(element).right > innerWidth + 0.5 || box(element).left < -0.5).map(name);
        """
    )
    sideways = browser.ask("return document.documentElement.scrollWidth - document.documentElement.clientWidth")
    return [*found, *(["the page"] if sideways else [])]


def collisions(browser: Browser) -> list[str]:
    """Blocks that lie over each other, and cells whose text is cut."""
    blocks = browser.ask(
        """
        const blocks = [...document.querySelectorAll(
          "header > *, section, section > *, .table > *, figure > *, .tiles > *")].filter(visible);
        const inside = (one, other) => one.contains(other) || other.contains(one);
        return blocks.flatMap((one, index) => blocks.slice(index + 1).filter(other => !inside(one, other)
          && overlap(box(one), box(other)) > 0.5).map(other => name(one) + " / " + name(other)));
        """
    )
    cells = browser.ask(
        """
        return [...document.querySelectorAll("th, td")]
          .filter(cell => visible(cell) && cell.scrollWidth > cell.clientWidth + 1).map(name);
        """
    )
    return [*blocks, *cells]


@pytest.mark.parametrize("width", [PHONE, DESKTOP])
@pytest.mark.parametrize("name", ["passed", "failed", "crowd", "poisoned"])
def test_nothing_is_wider_than_the_page(browser: Browser, pages: dict[str, Path], name: str, width: int) -> None:
    browser.open(pages[name], width)
    assert browser.ask("return innerWidth") == width
    assert too_wide(browser) == []
    assert browser.console() == []


@pytest.mark.parametrize("width", [PHONE, DESKTOP])
@pytest.mark.parametrize("name", ["passed", "crowd"])
def test_tables_and_pictures_are_there_and_none_lies_over_another(
    browser: Browser, pages: dict[str, Path], name: str, width: int
) -> None:
    browser.open(pages[name], width)
    shown = "narrow" if width == PHONE else "wide"
    assert browser.ask("return pictures().map(picture => picture.parentElement.className)") == [shown] * 6
    assert browser.ask("return pictures().every(picture => box(picture).width > 300 && box(picture).height > 80)")
    assert browser.ask("return [...document.querySelectorAll('table')].filter(visible).length") >= 9
    assert collisions(browser) == []


def test_what_is_measured_would_be_found(browser: Browser, pages: dict[str, Path], tmp_path: Path) -> None:
    html = pages["passed"].read_text(encoding="utf-8")

    def opened_with(old: str, new: str) -> None:
        assert old in html
        (tmp_path / "planted.html").write_text(html.replace(old, new), encoding="utf-8")
        browser.open(tmp_path / "planted.html", PHONE)

    opened_with(".scroll {", ".scrolled {")
    assert "the page" in too_wide(browser)
    opened_with("figure {", "figcaption { margin-top: -2rem !important; } figure {")
    assert collisions(browser) != []
    opened_with("td {", "td { overflow: hidden; max-width: 2rem !important; min-width: 0 !important; } td {")
    assert collisions(browser) != []
    opened_with("<main", "<script>alert(1)</script><main")
    assert "Content Security Policy" in " ".join(browser.console())
    opened_with("<main", "<img src='other.png' alt=''><main")
    assert "Content Security Policy" in " ".join(browser.console())


@pytest.mark.parametrize("width", [PHONE, DESKTOP])
@pytest.mark.parametrize("name", ["passed", "failed", "crowd"])
def test_the_words_in_pictures_can_be_read(browser: Browser, pages: dict[str, Path], name: str, width: int) -> None:
    browser.open(pages[name], width)
    assert browser.ask("return pictures().flatMap(picture => overlapping(texts(picture), 1))") == []
    assert (
        browser.ask(
            """
        return pictures().flatMap(picture => texts(picture).filter(text => box(text).left < box(picture).left - 2
          || box(text).right > box(picture).right + 2 || box(text).top < box(picture).top - 2
          || box(text).bottom > box(picture).bottom + 2).map(name));
        """
        )
        == []
    )
    sizes = browser.ask(
        """
        return pictures().flatMap(picture => texts(picture).map(text =>
          parseFloat(getComputedStyle(text).fontSize) * picture.getScreenCTM().a));
        """
    )
    assert min(sizes) >= 9
    assert max(sizes) <= 16


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("name", ["passed", "failed"])
def test_all_text_stands_out_from_what_is_behind_it(
    browser: Browser, pages: dict[str, Path], name: str, scheme: Scheme
) -> None:
    browser.open(pages[name], DESKTOP, scheme=scheme)
    dark = browser.ask("return luminance(background(document.body)) < 0.1")
    assert dark == (scheme == "dark")
    faint = browser.ask("return withText().filter(e => contrast(e) < 4.5).map(e => name(e) + ' ' + contrast(e))")
    assert faint == []
    # Lines and bars need less, but a colour that stays while the page turns dark would vanish.
    lines = browser.ask(
        """
        const strokes = pictures().flatMap(p => [...p.querySelectorAll("path, use")]).filter(visible)
          .map(e => getComputedStyle(e).stroke).filter(c => c !== "none");
        const paper = luminance(background(document.body));
        const ratio = c => { const ink = luminance(channels(c).rgb);
          return (Math.max(ink, paper) + 0.05) / (Math.min(ink, paper) + 0.05); };
        return [...new Set(strokes)].map(c => [c, ratio(c)]);
        """
    )
    assert len(lines) > 5
    rule = browser.ask("return getComputedStyle(document.querySelector('section')).borderTopColor")
    paper = browser.ask("return getComputedStyle(document.body).backgroundColor")
    assert [line for line in lines if line[1] < 3 and line[0] not in (rule, paper)] == []


@pytest.mark.parametrize("name", ["passed", "poisoned"])
def test_nothing_is_loaded_and_nothing_runs(browser: Browser, pages: dict[str, Path], name: str) -> None:
    browser.open(pages[name], DESKTOP)
    assert browser.requests() == [pages[name].as_uri()]
    assert browser.console() == []
    assert browser.ask("return [document.scripts.length, document.images.length]") == [0, 0]


def test_the_verdict_and_the_way_around_the_page(browser: Browser, pages: dict[str, Path]) -> None:
    browser.open(pages["failed"], PHONE)
    assert browser.ask("return document.title").startswith("Failed: ort and ort-native beside torch")
    # What it is about is on the first screen of a phone.
    assert browser.ask("return box(document.querySelector('.verdict')).bottom") < 400
    assert browser.ask("return box(document.querySelector('.failures')).top") < 800
    targets = browser.ask("return [...document.querySelectorAll('nav a')].map(a => a.hash)")
    assert browser.ask("return [...document.querySelectorAll('main > section')].map(s => '#' + s.id)") == targets
    # The links are large enough for a finger, or apart from each other.
    assert browser.ask("return [...document.querySelectorAll('nav a')].every(a => box(a).height >= 24)")


def test_on_paper_nothing_is_hidden_in_a_box(browser: Browser, pages: dict[str, Path]) -> None:
    browser.open(pages["crowd"], 1000, scheme="dark", media="print")
    assert browser.ask("return luminance(background(document.body))") > 0.9
    assert browser.ask("return visible(document.querySelector('nav'))") is False
    hidden = browser.ask(
        """
        return [...document.querySelectorAll(".scroll")]
          .filter(element => getComputedStyle(element).overflow !== "visible").map(name);
        """
    )
    assert hidden == []
    pdf = browser.pdf()
    assert pdf.startswith(b"%PDF")
    assert 5 <= len(re.findall(rb"/Type\s*/Page\b", pdf)) <= 60

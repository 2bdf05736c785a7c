"""The document as one HTML file: no script, nothing from a network, pictures as SVG inside."""

from __future__ import annotations

import os
from collections.abc import Mapping
from importlib import resources
from typing import Any

from sn_deploy.atomic import atomic_output
from sn_deploy.check.report.document import checked_document
from sn_deploy.check.report.page import Section
from sn_deploy.check.report.sections.bisect import bisect_section
from sn_deploy.check.report.sections.importance import importance_section
from sn_deploy.check.report.sections.latency import latency_section, layer_time_section
from sn_deploy.check.report.sections.layers import layers_section
from sn_deploy.check.report.sections.outcome import outcome_section
from sn_deploy.check.report.sections.outputs import outputs_section
from sn_deploy.check.report.sections.setup import setup_section
from sn_deploy.check.report.sections.task import task_section
from sn_deploy.check.report.summary import failures, lead_sentences, tiles, title_from_document
from sn_deploy.output_file import check_text_name
from sn_deploy.python_words import naming_arguments
from sn_deploy.text import moment


@naming_arguments()
def write_html(document: Mapping[str, Any], path: str | os.PathLike[str]) -> None:
    """Writes the page.

    Args:
        document: what `sn_deploy.check.result.as_json` gives.
        path: the HTML file; whole or, if anything fails, as it was.

    Raises:
        SnDeployError: it isn't such a document, or the file can't be written.
    """
    text = html_from_document(document)
    check_text_name(path)
    with atomic_output(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def html_from_document(document: Mapping[str, Any]) -> str:
    """The page as text.

    Raises:
        SnDeployError: it isn't a check's document.
    """
    from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape

    from sn_deploy.check.report.markup import prose

    checked = checked_document(document)
    environment = Environment(
        loader=PackageLoader(__package__),
        autoescape=select_autoescape(default=True, default_for_string=True),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["prose"] = prose
    first, more = failures(checked)
    return environment.get_template("report.html.jinja").render(
        title=title_from_document(checked),
        passed=checked["passed"],
        asserted=bool(checked["assertions"]),
        created=moment(checked["created"]),
        files=list(dict.fromkeys(info["file"] for info in checked["backends"] if info["file"])),
        version=checked["version"],
        shard=checked["shard"],
        lead=list(lead_sentences(checked)),
        failures=first,
        more_failures=more,
        tiles=list(tiles(checked)),
        sections=_sections(checked),
        style=(resources.files(__package__) / "templates" / "report.css").read_text(encoding="utf-8"),
    )


def _sections(document: Mapping[str, Any]) -> list[Section]:
    """In the order in which a reader asks: does it hold, how far off, where, how fast, what was run."""
    places = {info["name"]: place for place, info in enumerate(document["backends"])}
    sections = [
        outcome_section(document),
        outputs_section(document),
        task_section(document),
        layers_section(document, places),
        bisect_section(document),
        latency_section(document, places),
        layer_time_section(document, places),
        importance_section(document),
        setup_section(document),
    ]
    return [section for section in sections if section is not None]

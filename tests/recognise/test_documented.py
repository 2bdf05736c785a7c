"""What is refused, and why, stands in docs/models.md in the words of the refusal."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.recognise.deviants import REFUSED

DOCUMENT = Path(__file__).parents[2] / "docs" / "models.md"


@pytest.mark.parametrize("cause", dict.fromkeys(REFUSED.values()))
def test_each_cause_is_a_row_of_the_table(cause: str) -> None:
    rows = [line for line in DOCUMENT.read_text().splitlines() if line.startswith("| ")]
    assert any(f"| {cause} |" in row for row in rows)


def test_there_are_more_than_ten() -> None:
    assert len(REFUSED) > 10

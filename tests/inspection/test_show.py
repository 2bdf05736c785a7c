"""The table at the width of a terminal."""

from __future__ import annotations

import io
import re

import pytest
from rich.console import Console

from sn_deploy.inspection.layer import LayerWeights
from sn_deploy.inspection.show import summary_from_layers, table_from_layers

NAME = "backbone.stage3.23.bottleneck.norm2"
FUSED = [
    LayerWeights(NAME, "SN2d", 64, ("N", 64, 56, 56), (0.9, 0.05, 0.05), (0.2, 0.2, 0.6), ("residual", "ReLU")),
    LayerWeights("sn", "SN2d", 64, ("N", 64, 56, 56), (0.9, 0.05, 0.05), (0.2, 0.2, 0.6), ("ReLU",)),
    LayerWeights("last", "SN2d", 64, ("N", 64, 56, 56), (0.9, 0.05, 0.05), (0.2, 0.2, 0.6), ()),
]
LAYERS = [
    LayerWeights(NAME, "SN2d", 64, ("N", 64, None, 7), (0.9, 0.05, 0.05), (0.2, 0.2, 0.6)),
    LayerWeights("fc_sn", "SN1d", None, None, (0.0, 1.0, 0.0), (0.0, 0.4, 0.6)),
]


def render(width: int, *, colour: bool = False, layers: list[LayerWeights] = LAYERS) -> str:
    console = Console(
        width=width, file=io.StringIO(), force_terminal=colour, color_system="standard" if colour else None
    )
    console.print(table_from_layers(layers))
    return console.file.getvalue()  # type: ignore[attr-defined]


@pytest.mark.parametrize("width", [68, 80, 120])
def test_names_are_folded_and_never_cut(width: int) -> None:
    lines = render(width).splitlines()
    assert max(map(len, lines)) <= width
    assert "…" not in "".join(lines)
    numbers = re.findall(r"\d\.\d{3}", "\n".join(lines))
    assert len(numbers) == 18  # two layers and the averages
    column = slice(lines[1].index("layer"), lines[1].index("kind"))
    assert NAME in "".join(line[column].strip() for line in lines)


@pytest.mark.parametrize("width", [78, 120])
def test_what_follows_a_layer_in_its_node_is_shown_where_there_is_any(width: int) -> None:
    lines = render(width, layers=FUSED).splitlines()
    assert max(map(len, lines)) <= width
    column = lines[1].index("then")
    shown = [line[column:].strip() for line in lines[2:-1]]
    assert " ".join(filter(None, shown)) == "residual, ReLU ReLU"
    assert "then" not in render(width)


def test_only_a_clear_choice_is_bold() -> None:
    text = render(120, colour=True)
    bold = re.findall(r"\x1b\[1;36m(\d\.\d{3})", text)
    assert bold == ["0.900", "0.600", "1.000", "0.600"]


def test_unknown_sizes_are_said() -> None:
    assert [layer.size_text for layer in LAYERS] == ["N×64×?×7", "?"]
    assert summary_from_layers(LAYERS[:1]) == (
        "1 SN layer; on average mean 0.900 IN + 0.050 LN + 0.050 BN, variance 0.200 IN + 0.200 LN + 0.600 BN"
    )

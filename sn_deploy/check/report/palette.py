"""The colours of the pictures. In the page each is a CSS variable, so that it changes with light, dark and print."""

from __future__ import annotations

from typing import Final

INK: Final = "#16191d"
MUTED: Final = "#5a636d"
RULE: Final = "#d5dae0"
PAPER: Final = "#fdfdfe"
GOOD: Final = "#14713f"
BAD: Final = "#b3202c"

# Backends, told apart in grey by their markers and by their places. Each has a contrast of 4.5 to 1 at least.
SERIES: Final = ("#0b5cad", "#ad4a06", "#0f7558", "#8440a8", "#5b6774", "#a8245e")
MARKERS: Final = ("o", "s", "^", "D", "v", "P")

# After Okabe and Ito, as `sn-deploy inspect` draws them.
BRANCHES: Final = {"IN": "#0072b2", "LN": "#e69f00", "BN": "#009e73"}

CSS_NAMES: Final = {
    INK: "--ink",
    MUTED: "--muted",
    RULE: "--rule",
    PAPER: "--paper",
    GOOD: "--good",
    BAD: "--bad",
    **{colour: f"--series-{index}" for index, colour in enumerate(SERIES, 1)},
    **{colour: f"--{branch.lower()}" for branch, colour in BRANCHES.items()},
}

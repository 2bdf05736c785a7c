"""The picture of a report for the documentation: its top, and beside it the pictures of its latencies.

    python -m tools.report_screenshot report.html docs/check-report.png

Needs Chromium and its driver.
"""

from __future__ import annotations

import io
import sys
from pathlib import Path

from PIL import Image

from sn_deploy.atomic import atomic_output
from tests.check.browser import chromium

WIDTH, HEIGHT, GAP = 900, 1180, 24


def main(report: Path, output: Path) -> None:
    """Opens the report as wide as a small window, and puts two parts of it side by side."""
    with chromium() as browser:
        browser.open(report.resolve(), WIDTH)
        latency = browser.ask("return box(document.querySelector('#latency figure')).top - 24")
        parts = [Image.open(io.BytesIO(browser.png(top, WIDTH, HEIGHT))).convert("RGB") for top in (0, latency)]
    picture = Image.new("RGB", (2 * WIDTH + GAP, HEIGHT), parts[0].getpixel((0, 0)))
    for place, part in enumerate(parts):
        picture.paste(part, (place * (WIDTH + GAP), 0))
    with atomic_output(output) as path:
        picture.quantize(160, dither=Image.Dither.NONE).save(path, optimize=True)


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))

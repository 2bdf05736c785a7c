"""A headless Chromium that opens reports, and what it measures of them."""

from __future__ import annotations

import base64
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
DRIVER = shutil.which("chromedriver")

Scheme = Literal["light", "dark"]


class Browser:
    """One page at a time, as wide as a test wants it."""

    def __init__(self, driver: Any) -> None:
        self._driver = driver

    def open(self, page: Path, width: int, *, scheme: Scheme = "light", media: str = "") -> None:
        """Loads a file."""
        size = {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": width < 600}
        self._driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        self._driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": media, "features": features})
        self._driver.get_log("performance")  # only what comes from now on
        self._driver.get(page.as_uri())

    def ask(self, script: str) -> Any:
        """What the script, which sees `MEASURES`, returns."""
        return self._driver.execute_script(MEASURES + script)

    def console(self) -> list[str]:
        """What the page complained about."""
        return [entry["message"] for entry in self._driver.get_log("browser")]

    def requests(self) -> list[str]:
        """What was loaded since the page was opened."""
        messages = [json.loads(entry["message"])["message"] for entry in self._driver.get_log("performance")]
        sent = [message["params"] for message in messages if message["method"] == "Network.requestWillBeSent"]
        return [str(params["request"]["url"]) for params in sent]

    def png(self, top: float, width: int, height: int) -> bytes:
        """A part of the page, however far down, as it is seen."""
        clip = {"x": 0, "y": top, "width": width, "height": height, "scale": 1}
        shot = self._driver.execute_cdp_cmd("Page.captureScreenshot", {"clip": clip, "captureBeyondViewport": True})
        return base64.b64decode(shot["data"])

    def pdf(self) -> bytes:
        """The page as it is printed."""
        printed = self._driver.execute_cdp_cmd("Page.printToPDF", {"preferCSSPageSize": True})
        return base64.b64decode(printed["data"])


@contextmanager
def chromium() -> Iterator[Browser]:
    """Needs `CHROMIUM` and `DRIVER`."""
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = str(CHROMIUM)
    for argument in ("--headless=new", "--disable-gpu", "--disable-dev-shm-usage"):
        options.add_argument(argument)
    if os.geteuid() == 0:  # as in a container: Chromium refuses to run there otherwise
        options.add_argument("--no-sandbox")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    # The driver by its path: otherwise selenium would look for one, and download it.
    driver = webdriver.Chrome(options=options, service=Service(executable_path=str(DRIVER)))
    try:
        yield Browser(driver)
    finally:
        driver.quit()


MEASURES = """
const visible = element => element.checkVisibility() && element.getClientRects().length > 0;
const box = element => element.getBoundingClientRect();
const name = element => element.tagName + " " + element.textContent.trim().slice(0, 40);
const overlap = (a, b) => Math.min(
  Math.min(a.right, b.right) - Math.max(a.left, b.left), Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top));
function overlapping(elements, slack) {
  const found = [];
  elements.forEach((one, index) => elements.slice(index + 1).forEach(other => {
    if (overlap(box(one), box(other)) > slack) found.push(name(one) + " / " + name(other));
  }));
  return found;
}
const pictures = () => [...document.querySelectorAll("figure svg")].filter(visible);
const texts = picture => [...picture.querySelectorAll("text")].filter(text => text.textContent.trim());
function channels(colour) {
  const values = colour.match(/[\\d.]+/g).map(Number);
  return { rgb: values.slice(0, 3), alpha: values.length > 3 ? values[3] : 1 };
}
function luminance(rgb) {
  const [r, g, b] = rgb.map(v => v / 255).map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
}
function background(element) {
  for (let at = element; at; at = at.parentElement) {
    const { rgb, alpha } = channels(getComputedStyle(at).backgroundColor);
    if (alpha === 1) return rgb;
    if (alpha !== 0) throw new Error("a background that is half transparent");
  }
  return [255, 255, 255];
}
function contrast(element) {
  const style = getComputedStyle(element);
  const ink = luminance(channels(element.closest("svg") ? style.fill : style.color).rgb);
  const paper = luminance(background(element));
  return (Math.max(ink, paper) + 0.05) / (Math.min(ink, paper) + 0.05);
}
const withText = () => [...document.body.querySelectorAll("*")].filter(element => visible(element)
  && [...element.childNodes].some(node => node.nodeType === Node.TEXT_NODE && node.textContent.trim()));
"""

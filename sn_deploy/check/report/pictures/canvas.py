"""What all pictures share: how they are set up, how axes look, and how they become SVG inside the page."""

from __future__ import annotations

import contextlib
import io
import math
import re
import warnings
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from sn_deploy.check.report.palette import CSS_NAMES, INK, MARKERS, MUTED, RULE, SERIES
from sn_deploy.text import cut, number

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# In inches of 72 units. A unit is 1.3 to 1.4 CSS pixels both on a desktop and on a phone.
WIDE: Final = 7.4
NARROW: Final = 3.5
TEXT: Final = 8.5
SMALL: Final = 7.5

_SVG: Final = "http://www.w3.org/2000/svg"
_HREF: Final = "{http://www.w3.org/1999/xlink}href"
_SETTINGS: Final[dict[Any, Any]] = {
    "svg.fonttype": "none",  # text stays text, in the page's font
    "svg.hashsalt": "sn-deploy",
    "text.parse_math": False,  # names have $ and _ in them
    "font.size": TEXT,
    "axes.edgecolor": RULE,
    "axes.labelcolor": MUTED,
    "axes.labelsize": SMALL,
    "axes.titlesize": TEXT,
    "axes.titlelocation": "left",
    "axes.titlecolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.facecolor": "none",
    "figure.facecolor": "none",
    "grid.color": RULE,
    "grid.linewidth": 0.6,
    "axes.axisbelow": True,
    "text.color": INK,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelsize": SMALL,
    "ytick.labelsize": SMALL,
    "xtick.major.size": 0,
    "ytick.major.size": 0,
    "xtick.minor.size": 0,
    "ytick.minor.size": 0,
    "legend.frameon": False,
    "legend.fontsize": SMALL,
    "legend.labelcolor": INK,
    "legend.handlelength": 1.4,
    "legend.columnspacing": 1.2,
    "savefig.transparent": False,
}


@dataclass(frozen=True)
class Picture:
    """A picture of the page.

    Attributes:
        alt: what it shows, for who can't see it.
        wide, narrow: the SVG for wide and for narrow pages.
        says: what it means, with its numbers; "" where the text before it says so.
        how: how to read it.
    """

    alt: str
    wide: str
    narrow: str
    says: str
    how: str


def picture(key: str, draw: Callable[[Figure, bool], None], *, alt: str, how: str, says: str = "") -> Picture:
    """Draws it twice, for wide and for narrow pages.

    Args:
        key: begins the ids in the SVG; no other picture has it.
        draw: draws into a figure, whose width is set and whose height it sets; the bool says whether it is narrow.
    """
    wide, narrow = (_svg(draw, is_narrow, f"{key}-{'n' if is_narrow else 'w'}-", alt) for is_narrow in (False, True))
    return Picture(alt, wide, narrow, says, how)


def _svg(draw: Callable[[Figure, bool], None], is_narrow: bool, prefix: str, alt: str) -> str:
    # matplotlib without pyplot: no global figures, no display.
    from matplotlib.figure import Figure

    with _drawing():
        figure = Figure(figsize=(NARROW if is_narrow else WIDE, 3.0), layout="constrained")
        draw(figure, is_narrow)
        file = io.StringIO()
        figure.savefig(file, format="svg", metadata={"Date": None})
    return svg_for_page(file.getvalue(), prefix, alt)


@contextlib.contextmanager
def _drawing() -> Iterator[None]:
    import matplotlib as mpl

    with mpl.rc_context(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # deprecated settings that the defaults have
        mpl.rcdefaults()  # whatever style the user has set up
        mpl.rcParams.update(_SETTINGS)
        warnings.resetwarnings()
        # A character that matplotlib's font lacks is only measured by it: the page's fonts draw it.
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        yield


def svg_for_page(svg: str, prefix: str, alt: str) -> str:
    """matplotlib's SVG as an element of an HTML page: ids of its own, the page's font, colours by CSS variables."""
    root = ElementTree.fromstring(svg)
    for child in [child for child in root if child.tag == f"{{{_SVG}}}metadata"]:
        root.remove(child)
    for parent in list(root.iter()):
        for style in [child for child in parent if child.tag == f"{{{_SVG}}}style"]:
            parent.remove(style)  # it would be the whole page's
    for element in root.iter():
        _adopt(element, prefix)
    for name in ("width", "height", "version"):
        root.attrib.pop(name, None)
    root.set("role", "img")
    root.set("aria-label", alt)
    root.set("style", "stroke-linejoin:round;stroke-linecap:butt")
    ElementTree.register_namespace("", _SVG)
    return ElementTree.tostring(root, encoding="unicode")


def _adopt(element: ElementTree.Element, prefix: str) -> None:
    attributes = element.attrib
    if "id" in attributes:
        attributes["id"] = prefix + attributes["id"]
    if _HREF in attributes:
        attributes["href"] = f"#{prefix}{attributes.pop(_HREF).removeprefix('#')}"
    if "clip-path" in attributes:
        attributes["clip-path"] = attributes["clip-path"].replace("url(#", f"url(#{prefix}")
    if "style" in attributes:
        style = re.sub(r"font-family: [^;]*(; |$)", "", attributes["style"])
        # Older versions of matplotlib write all in one: font: 700 8.5px 'DejaVu Sans', …
        style = re.sub(r"font: (?:(\d+) )?([\d.]+px) [^;]*", _size_and_weight, style)
        attributes["style"] = re.sub(r"#[0-9a-f]{6}\b", lambda found: _css_colour(found.group()), style)
    if "d" in attributes:
        attributes["d"] = re.sub(r"-?\d+\.\d+", lambda found: f"{float(found.group()):.2f}", attributes["d"])
        attributes["d"] = " ".join(attributes["d"].split())


def _size_and_weight(font: re.Match[str]) -> str:
    return f"font-size: {font[2]}; font-weight: {font[1] or 400}"


def _css_colour(colour: str) -> str:
    return f"var({CSS_NAMES[colour]})"  # a colour that isn't there would not change with the page: KeyError


def colour_of(index: int) -> str:
    """Of the backend with that place in the document."""
    return SERIES[index % len(SERIES)]


def marker_of(index: int) -> str:
    """Of the backend with that place in the document: other where colours come again."""
    return MARKERS[(index + index // len(SERIES)) % len(MARKERS)]


def set_height(figure: Figure, inches: float) -> None:
    """The height, the width being set."""
    figure.set_size_inches(figure.get_size_inches()[0], inches)


def add_legend(figure: Figure, axes: Axes, is_narrow: bool) -> None:
    """The labels of what the axes show, above all axes."""
    handles, labels = axes.get_legend_handles_labels()
    per_row = min(len(labels), 2 if is_narrow else 4)
    figure.legend(handles, labels, loc="outside upper left", ncols=per_row, borderaxespad=0)


def draw_lines(
    axes: Axes,
    rows: Sequence[Mapping[str, Any]],
    places: Mapping[str, int],
    *,
    x: str,
    y: str,
    is_narrow: bool,
    marker_size: float,
    width: float,
) -> None:
    """A line a backend, of its rows' ``y`` over their ``x``, from 0 up; None is a gap."""
    for name in dict.fromkeys(row["backend"] for row in rows):
        own = sorted((row for row in rows if row["backend"] == name), key=lambda row: row[x])
        index = places.get(name, 0)
        axes.plot(
            [row[x] for row in own],
            [math.nan if row[y] is None else row[y] for row in own],
            color=colour_of(index),
            marker=marker_of(index),
            markersize=marker_size,
            linewidth=width,
            label=cut(name, 18 if is_narrow else 28),
        )
    axes.set_ylim(bottom=0)
    plain_axis(axes.yaxis)
    axes.grid(axis="y")


def log_axis(axis: Any) -> None:
    """Powers of ten on a logarithmic axis, as they are written elsewhere: ``1e-6``, ``0.01``. At most seven of them."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    axis.set_major_locator(LogLocator(numticks=7))
    axis.set_major_formatter(FuncFormatter(lambda value, _: number(value, 1)))
    axis.set_minor_formatter(NullFormatter())


def plain_axis(axis: Any) -> None:
    """Numbers without trailing zeros: ``80``, ``0.4``, ``1,200``."""
    from matplotlib.ticker import FuncFormatter

    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.6g}"))


def layer_axis(axes: Axes, count: int) -> None:
    """Layers along x, by the numbers that tables give, too: from 1."""
    step = next((step for step in (1, 2, 5, 10, 20, 50, 100, 200, 500) if count / step <= 11), 1000)
    numbers = range(step, count + 1, step)
    axes.set_xlim(-0.7, count - 0.3)
    axes.set_xticks([number - 1 for number in numbers], [str(number) for number in numbers])
    axes.set_xlabel("SN layer, in the order in which they run")

"""Text as HTML."""

from __future__ import annotations

import re
from typing import Final

from markupsafe import Markup, escape

_POWER: Final = re.compile(r"\b\d[\d.]*e-\d+\b")


def prose(text: str) -> Markup:
    """The text, escaped, with numbers such as 1e-7 kept from being broken at their minus."""
    return Markup(_POWER.sub(r'<span class="nowrap">\g<0></span>', str(escape(text))))

"""Shapes as people read them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

# A size that exporters derive from others may be an expression of hundreds of characters.
_LONGEST: Final = 20


def shape_text(dims: Sequence[Any]) -> str:
    """``batch×3×224×224``; ? for a size without a name, or one that is a longer expression.

    Args:
        dims: ints, names or expressions, None.
    """
    return "×".join("?" if dim is None or len(str(dim)) > _LONGEST else str(dim) for dim in dims) or "scalar"

"""Short forms of results that hold whole curves, for the last line of a notebook cell.

Every number is still there, in the attributes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


def brief(result: object, **parts: Any) -> str:
    """Write ``Name(part=value, ...)``; numbers short, parts without a value left out."""
    shown = [f"{name}={_short(value)}" for name, value in parts.items() if value not in (None, "")]
    return f"{type(result).__name__}({', '.join(shown)})"


class Span(str):
    """A text that stands as it is, without quotes."""

    __slots__ = ()


def span(values: Sequence[float]) -> Span:
    """Write many values as how many there are, the first and the last."""
    if not values:
        return Span("none")
    return Span(f"<{len(values)} from {values[0]:.4g} to {values[-1]:.4g}>")


def _short(value: Any) -> str:
    if isinstance(value, Span):
        return str(value)
    if isinstance(value, str):
        return repr(value)
    return f"{value:.4g}" if isinstance(value, float) else str(value)

"""Spikes of the gradient norm: steps whose norm stands far above those before."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

FACTOR = 10.0
"""A norm above so many times the running median is a spike."""
WINDOW = 100
"""Finite norms that the median is over, spikes among them."""
FEWEST = 20
"""Norms below which nothing is called a spike: the first steps of a run are steep."""


def is_spike(norm: float, before: Sequence[float]) -> bool:
    """Tell whether a norm is a spike.

    Args:
        norm: Of this step, before clipping; finite.
        before: Norms of the steps before, oldest first; the last `WINDOW` are used.
    """
    recent = before[-WINDOW:]
    return len(recent) >= FEWEST and norm > FACTOR * statistics.median(recent)

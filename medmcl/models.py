"""Published encoders by name: ``load("ecgfounder", weights=FILE)``.

What there is: `names`, or ``medmcl models``. Weights are never shipped and never downloaded.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from medmcl.encoders.published.card import Card, card_files, find_variant

if TYPE_CHECKING:
    from medmcl.encoders.published.model import PublishedModel

__all__ = ["card", "load", "names"]


def names() -> list[str]:
    """Give the names of all published models that have a card."""
    return list(card_files())


def card(name: str) -> Card:
    """Give the card of ``NAME`` or ``NAME:VARIANT``; `ConfigError` if there is none."""
    return find_variant(name)[0]


def load(
    name: str, *, weights: str | Path, preparation: str | None = None, device: str = "cpu"
) -> PublishedModel:
    """Load a published model from a local file; see `load_model` for what may go wrong.

    Args:
        name: ``NAME`` or ``NAME:VARIANT``.
        weights: File in its authors' layout.
        preparation: One of the card's further preparations.
        device: Where it computes.

    Returns:
        A model with ``prepare(record, leads=…, rate_hz=…, units=…)`` and ``features(array)``.
    """
    from medmcl.encoders.published.model import load_model

    return load_model(name, weights, preparation=preparation, device=device)

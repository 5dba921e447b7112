"""Published encoders by name: ``load("ecgfounder", weights=FILE)``.

What there is: `names`, or ``medmcl models``. Weights are never shipped and never downloaded.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from medmcl.core.errors import ConfigError
from medmcl.encoders.published.card import Card, find_variant, from_authors
from medmcl.encoders.published.card_files import card_files

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
    name: str,
    *,
    weights: str | Path | None = None,
    preparation: str | None = None,
    device: str = "cpu",
) -> PublishedModel:
    """Load a published model from a local file; see `load_model` for what may go wrong.

    Args:
        name: ``NAME`` or ``NAME:VARIANT``.
        weights: File in its authors' layout; there is no model without one.
        preparation: One of the card's further preparations.
        device: Where it computes.

    Raises:
        ConfigError: No file is named, or there is no such model, variant or preparation.
        ArtefactError: The file cannot be read, or is of another model.

    Returns:
        A model with ``prepare(record, leads=…, rate_hz=…, units=…)`` and ``features(array)``.
    """
    called = find_variant(name)[0].name
    if weights is None:
        raise ConfigError(
            f"'{name}' is loaded from a file of its weights, and none is named",
            expected=f'medmcl.models.load("{name}", weights="FILE")',
            fix=f"{from_authors(called)}; to see what the architecture gives "
            f"with random weights: `medmcl benchmark SUITE --random {name}`",
        )
    from medmcl.encoders.published.model import load_model

    return load_model(name, weights, preparation=preparation, device=device)

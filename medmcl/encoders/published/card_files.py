"""Where cards of published models lie: names and files alone, for whoever lists encoders."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from medmcl.core.errors import ConfigError
from medmcl.core.lazy import entry_points_of

CARDS = Path(__file__).parent / "cards"
GROUP = "medmcl.cards"
FOLDERS = "MEDMCL_CARDS"
"""Names folders of cards of one's own, as ``PATH`` does."""


def card_files() -> dict[str, Any]:
    """Give each model's name with where its card is: a file, or an entry point that says it.

    Raises:
        ConfigError: There is no folder of this name, or two models are called alike.
    """
    folders = [CARDS, *map(Path, filter(None, os.environ.get(FOLDERS, "").split(os.pathsep)))]
    for folder in folders:
        if not folder.is_dir():
            raise ConfigError("there is no such folder", where=FOLDERS, got=str(folder))
    files = [path.absolute() for folder in folders for path in sorted(folder.glob("*.yaml"))]
    named: list[tuple[str, str, Any]] = [(path.stem, str(path), path) for path in files]
    named += [(one.name, f"{one.value} ({GROUP})", one) for one in entry_points_of(GROUP)]
    found: dict[str, Any] = {}
    for name, where, card in named:
        if name in found:
            raise ConfigError(
                f"two models are called '{name}'",
                got=where,
                fix="give it another name: the file, or the entry point of its package",
            )
        found[name] = card
    return found

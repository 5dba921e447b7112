"""Cohorts whose truth is known, by name."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from medmcl.core.config import check, lookup
from medmcl.core.errors import ConfigError
from medmcl.core.lazy import Parts

_HERE = "medmcl.simulation"
SIMULATORS = Parts(
    {
        kind: (
            f"{_HERE}.{kind}.simulate:simulate_{kind}",
            f"{_HERE}.{kind}.settings:{kind.title()}Settings",
        )
        for kind in ("ehr", "heart", "shapes", "trifactor", "modalities")
    }
)
"""Name to what writes a cohort, ``(folder, settings) -> folder``."""


def simulate(kind: str, out: str | Path, settings: Mapping[str, Any] | None = None) -> Path:
    """Write a simulated cohort and give its folder.

    Args:
        kind: A name in `SIMULATORS`.
        out: Folder to write; must be new or empty.
        settings: Values of the kind's settings; defaults for the rest.

    Raises:
        ConfigError: Unknown kind or settings.
        CohortError: The folder holds something.
    """
    model = lookup("kind of simulated cohort", kind, SIMULATORS.settings)
    checked = check(model, settings or {}, f"simulate {kind}", ConfigError)
    written: Path = SIMULATORS[kind](Path(out), checked)
    return written

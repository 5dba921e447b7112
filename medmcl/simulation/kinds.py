"""Cohorts whose truth is known, by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from medmcl.core.config import Config, check, lookup
from medmcl.core.errors import ConfigError
from medmcl.simulation.ehr.simulate import EhrSettings, simulate_ehr
from medmcl.simulation.heart.simulate import HeartSettings, simulate_heart
from medmcl.simulation.latent_tree import LatentTreeSettings, simulate_modalities
from medmcl.simulation.shapes.settings import ShapesSettings
from medmcl.simulation.shapes.simulate import simulate_shapes
from medmcl.simulation.trifactor.settings import TrifactorSettings
from medmcl.simulation.trifactor.simulate import simulate_trifactor

SIMULATORS: dict[str, tuple[type[Config], Callable[[Path, Any], Path]]] = {
    "ehr": (EhrSettings, simulate_ehr),
    "heart": (HeartSettings, simulate_heart),
    "modalities": (LatentTreeSettings, simulate_modalities),
    "shapes": (ShapesSettings, simulate_shapes),
    "trifactor": (TrifactorSettings, simulate_trifactor),
}


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
    model, write = lookup("kind of simulated cohort", kind, SIMULATORS)
    return write(Path(out), check(model, settings or {}, f"simulate {kind}", ConfigError))

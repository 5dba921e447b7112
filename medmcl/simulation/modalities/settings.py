"""What can be set of simulated modalities that are related as a tree is."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, PositiveInt, model_validator

from medmcl.simulation.settings import Share, SimulationSettings


class ModalitiesSettings(SimulationSettings):
    """How many modalities, how they hang together, and how patchy they are."""

    modalities: Annotated[int, Field(ge=2, le=100)] = 6
    """tables: m0, m1, ..."""
    rho: Annotated[float, Field(gt=0, le=1)] = 0.9
    """correlation of latents along an edge of the tree"""
    tree: Literal["random", "chain", "star"] | tuple[tuple[int, int], ...] = "random"
    """random, chain, star, or edges such as [[0, 1], [1, 2]]"""
    noise_modalities: Annotated[int, Field(ge=0)] = 0
    """how many of the modalities share nothing with any other"""
    missing: Share = 0.0
    """share of entries absent at random; everybody keeps one"""
    latent: PositiveInt = 8
    """latent dimensions of a modality"""
    columns: PositiveInt = 24
    """columns of a table"""
    noise: Annotated[float, Field(ge=0)] = 0.3
    """noise of a cell, standard deviation"""
    recipe: str = "autobind_toy"
    """default recipe of the cohort"""

    @model_validator(mode="after")
    def _check(self) -> ModalitiesSettings:
        real = self.modalities - self.noise_modalities
        if real < 2:
            raise ValueError("at least two modalities must be related")
        if not isinstance(self.tree, str) and not _spans(self.tree, real):
            raise ValueError(
                f"tree: {real - 1} edges that join the modalities 0 to {real - 1} (those of pure "
                "noise stand outside)"
            )
        return self


def _spans(edges: tuple[tuple[int, int], ...], size: int) -> bool:
    reached, more = {0}, True
    while more:
        fresh = {b for a, b in (*edges, *((b, a) for a, b in edges)) if a in reached} - reached
        reached, more = reached | fresh, bool(fresh)
    return reached == set(range(size)) and len(edges) == size - 1

"""Settings of the simulated cohort of factors of unequal ease."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from medmcl.core.config import Probability
from medmcl.simulation.settings import SimulationSettings

FACTORS = {
    "vectors": ("easy", "middle", "hard"),
    "digits": ("digit",),
    "pictures": ("colour", "texture", "shape"),
}
"""World to its factors, in the order in which captions name them."""
PAIRED = {"vectors": ("hard",), "digits": ("digit",), "pictures": ("colour", "texture", "shape")}
"""World to the factors that pairs differ in."""
_ONLY = {
    "levels": ("vectors", "pictures"),
    "keep": ("vectors", "pictures"),
    "ease": ("vectors",),
    "noise": ("vectors",),
    "bits": ("digits",),
    "size": ("pictures",),
    "pixel_noise": ("pictures",),
    "unseen": ("pictures",),
}
_LEVELS = {"vectors": 10, "pictures": 6}


class TrifactorSettings(SimulationSettings):
    """Which world, how many levels, how easy each factor is, and what captions keep."""

    subjects: PositiveInt = 1000
    """number of subjects, those of `pairs` on top"""
    world: Literal["vectors", "digits", "pictures"] = "vectors"
    """vectors, digits or pictures"""
    levels: Annotated[int, Field(ge=2, le=10)] | None = None
    """vectors, pictures: levels of each factor; none: 10 of vectors, 6 of pictures"""
    ease: tuple[PositiveFloat, PositiveFloat, PositiveFloat] = (1.0, 0.6, 0.25)
    """vectors: norm of the levels of easy, middle, hard, none above the one before"""
    noise: Annotated[float, Field(ge=0)] = 0.05
    """vectors: noise of a latent number, standard deviation"""
    keep: tuple[Probability, Probability, Probability] = (0.95, 0.8, 0.6)
    """vectors, pictures: chance of a caption to name easy, middle, hard (colour, texture, shape)"""
    bits: Annotated[int, Field(ge=0, le=16)] = 8
    """digits: random bits, each a grating over the picture"""
    size: Annotated[int, Field(ge=16, le=1024)] = 32
    """pictures: pixels along a side; textures blur below 32"""
    pixel_noise: Annotated[float, Field(ge=0, le=0.5)] = 0.02
    """pictures: noise of a pixel and channel, standard deviation; 1 = white"""
    unseen: Annotated[float, Field(ge=0, le=0.5)] = 0.2
    """pictures: share of the combinations of three levels that held_out alone shows, and it no
    others; 0: every split shows all"""
    pairs: Annotated[int, Field(ge=0)] = 0
    """pairs of held-out subjects who differ in one factor only: hard; digit; so many each of
    colour, texture, shape"""
    recipe: str = "mcl_toy"
    """default recipe of the cohort"""

    @model_validator(mode="after")
    def _check(self) -> TrifactorSettings:
        for name in sorted(self.model_fields_set & set(_ONLY)):
            if self.world not in _ONLY[name]:
                known = " and ".join(_ONLY[name])
                raise ValueError(f"{name}: the world {self.world} has none, only {known}: leave it")
        if list(self.ease) != sorted(self.ease, reverse=True):
            raise ValueError("ease: easy comes first, write [1.0, 0.6, 0.25]")
        if self.world == "pictures" and self.unseen and not self.held_out:
            raise ValueError(
                "unseen combinations need a held_out split to be shown in: set unseen=0, or "
                "held_out above 0"
            )
        return self

    @property
    def factors(self) -> tuple[str, ...]:
        """Names of the factors of this world."""
        return FACTORS[self.world]

    @property
    def level_count(self) -> int:
        """Levels of each factor (of vectors and pictures)."""
        return self.levels or _LEVELS[self.world]

    @property
    def rows(self) -> int:
        """Subjects with those of pairs."""
        return self.subjects + 2 * self.pairs * len(PAIRED[self.world])

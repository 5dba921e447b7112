"""Settings of the simulated cohort of captioned shapes."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, PositiveInt, model_validator

from medmcl.core.config import Probability
from medmcl.data.cohort.spec import NoisyWithin
from medmcl.simulation.settings import Share, SimulationSettings
from medmcl.simulation.shapes.words import COLOURS, FILLERS, POSITIONS, SHAPES, TEXTURES

Named = Literal["count", "texture", "colour", "position"]


class ShapesSettings(SimulationSettings):
    """How many pictures and attributes, what a caption names, and how many pairs are wrong."""

    subjects: PositiveInt = 1000
    """number of pictures"""
    size: Annotated[int, Field(ge=16, le=1024)] = 64
    """pixels along a side; below 32 textures blur"""
    shapes: Annotated[int, Field(ge=2, le=len(SHAPES))] = Field(
        default=8, description=f"how many of {', '.join(SHAPES)}, the first ones"
    )
    colours: Annotated[int, Field(ge=1, le=len(COLOURS))] = Field(
        default=8, description=f"how many of {', '.join(COLOURS)}"
    )
    textures: Annotated[int, Field(ge=1, le=len(TEXTURES))] = Field(
        default=4, description=f"how many of {', '.join(TEXTURES)}"
    )
    positions: Annotated[int, Field(ge=1, le=len(POSITIONS))] = Field(
        default=5, description=f"how many of {', '.join(POSITIONS)}"
    )
    counts: Annotated[int, Field(ge=1, le=4)] = 4
    """a picture shows 1 to so many copies of its shape"""
    pixel_noise: Annotated[float, Field(ge=0, le=0.5)] = 0.04
    """noise of a pixel and channel, standard deviation; 1 = white"""
    caption_detail: tuple[Named, ...] = ("count", "texture", "colour", "position")
    """what a caption names beside the shape; [] makes it one word or few"""
    filler: Annotated[int, Field(ge=0, le=len(FILLERS))] = 0
    """clauses that say nothing of the attributes, 3 to 6 words each"""
    imbalance: Annotated[float, Field(ge=0, le=4)] = 0.0
    """shape k is drawn in proportion to k ** -imbalance (Zipf)"""
    noisy_pairs: Probability = 0.0
    """share of train pairs that get the caption of another train picture; tuning and held_out stay
    clean"""
    noisy_within: NoisyWithin = "any"
    """whose caption: any picture's, one of the same shape (within) or of another (across)"""
    unseen: Annotated[int, Field(ge=0)] = 0
    """combinations of colour and shape that only held_out shows"""
    missing_captions: Share = 0.0
    """share of subjects without a caption"""
    missing_images: Share = 0.0
    """share of subjects without a picture"""
    recipe: str = "limoe_toy"
    """default recipe of the cohort"""

    @model_validator(mode="after")
    def _check(self) -> ShapesSettings:
        if self.missing_captions + self.missing_images >= 1:
            raise ValueError("missing_captions + missing_images must leave pairs")
        if len(set(self.caption_detail)) != len(self.caption_detail):
            raise ValueError("caption_detail names an attribute twice")
        if self.unseen and min(self.colours, self.shapes) < 2:
            raise ValueError("unseen needs two colours and two shapes at least")
        if self.unseen > self.colours * self.shapes // 2:
            raise ValueError(
                f"unseen is more than half of the {self.colours * self.shapes} combinations of "
                "colour and shape"
            )
        if self.unseen and not self.held_out:
            raise ValueError("unseen combinations need a held_out split to be shown in")
        return self

    @property
    def named(self) -> tuple[str, ...]:
        """Attributes that a caption names, the shape first."""
        return ("shape", *self.caption_detail)

    @property
    def values(self) -> dict[str, tuple[str, ...]]:
        """Attribute to the values in use, in the order in which they are numbered."""
        return {
            "shape": tuple(SHAPES)[: self.shapes],
            "colour": tuple(COLOURS)[: self.colours],
            "texture": tuple(TEXTURES)[: self.textures],
            "count": ("one", "two", "three", "four")[: self.counts],
            "position": tuple(POSITIONS)[: self.positions],
        }

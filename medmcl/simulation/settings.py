"""What can be set of every simulated cohort."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, PositiveInt, model_validator

from medmcl.core.config import Config

Share = Annotated[float, Field(ge=0, lt=1)]


class SimulationSettings(Config):
    """How many subjects, in which split, and what the folder says of them; a kind adds its own."""

    subjects: PositiveInt = Field(default=1000, description="number of subjects")
    seed: int = Field(default=0, description="same seed, same bytes")
    tuning: Share = Field(default=0.1, description="share of subjects in the tuning split")
    held_out: Share = Field(default=0.2, description="share of subjects in the held-out split")
    recipe: str = Field(description="default recipe of the cohort")
    overwrite: bool = Field(default=False, description="replace an earlier simulated cohort")

    @model_validator(mode="after")
    def _some_left(self) -> SimulationSettings:
        if self.tuning + self.held_out >= 1:
            raise ValueError("tuning + held_out must leave something to train on")
        return self

"""What can be set of every simulated cohort."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, PositiveInt, model_validator

from medmcl.core.config import Config

Share = Annotated[float, Field(ge=0, lt=1)]


class SimulationSettings(Config):
    """How many subjects, in which split, and what the folder says of them; a kind adds its own."""

    subjects: PositiveInt = 1000
    """number of subjects"""
    seed: int = 0
    """same seed, same bytes"""
    tuning: Share = 0.1
    """share of subjects in the tuning split"""
    held_out: Share = 0.2
    """share of subjects in the held-out split"""
    recipe: str
    """default recipe of the cohort"""
    overwrite: bool = False
    """replace an earlier simulated cohort"""

    @model_validator(mode="after")
    def _some_left(self) -> SimulationSettings:
        if self.tuning + self.held_out >= 1:
            raise ValueError("tuning + held_out must leave something to train on")
        return self

"""What can be set of simulated EHR cohorts."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, PositiveInt, model_validator

from medmcl.simulation.settings import Share, SimulationSettings

Case = Literal[1, 2]


class EhrSettings(SimulationSettings):
    """How large and how noisy a simulated EHR cohort is."""

    subjects: PositiveInt = 100
    """number of subjects"""
    codes: PositiveInt = 100
    """words of the first modality, CODE//i"""
    concepts: PositiveInt = 100
    """words of the second, CUI//i"""
    dimensions: PositiveInt = 4
    """of a patient's state"""
    case: Case = 1
    """noise within a modality: some words (1), AR(1) (2)"""
    c: Annotated[float, Field(gt=0)] = 0.2
    """case 1: 1 / c = variance"""
    rho: Share = 0.8
    """case 2: correlation of neighbouring words"""
    mean_tokens: Annotated[float, Field(ge=0.1)] = 50.0
    """mean tokens of a subject in each modality"""
    mean_visits: Annotated[float, Field(ge=1)] = 10.0
    """of a subject"""
    years: Annotated[float, Field(gt=0, le=50)] = 5.0
    """of records"""
    sites: PositiveInt = 3
    """hospitals; they do not differ"""
    recipe: str = "claime_toy"
    """default recipe of the cohort"""

    @model_validator(mode="after")
    def _check(self) -> EhrSettings:
        if self.dimensions >= min(self.codes, self.concepts):
            raise ValueError("dimensions must be fewer than codes and than concepts")
        return self

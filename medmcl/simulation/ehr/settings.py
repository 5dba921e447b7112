"""What can be set of simulated EHR cohorts."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, PositiveInt, model_validator

from medmcl.simulation.settings import Share, SimulationSettings

Case = Literal[1, 2]


class EhrSettings(SimulationSettings):
    """How large and how noisy a simulated EHR cohort is."""

    subjects: PositiveInt = Field(default=100, description="number of subjects")
    codes: PositiveInt = Field(default=100, description="words of the first modality, CODE//i")
    concepts: PositiveInt = Field(default=100, description="words of the second, CUI//i")
    dimensions: PositiveInt = Field(default=4, description="of a patient's state")
    case: Case = Field(default=1, description="noise within a modality: some words (1), AR(1) (2)")
    c: Annotated[float, Field(gt=0)] = Field(default=0.2, description="case 1: 1 / c = variance")
    rho: Share = Field(default=0.8, description="case 2: correlation of neighbouring words")
    mean_tokens: Annotated[float, Field(ge=0.1)] = Field(
        default=50.0, description="mean tokens of a subject in each modality"
    )
    mean_visits: Annotated[float, Field(ge=1)] = Field(default=10.0, description="of a subject")
    years: Annotated[float, Field(gt=0, le=50)] = Field(default=5.0, description="of records")
    sites: PositiveInt = Field(default=3, description="hospitals; they do not differ")
    recipe: str = Field(default="claime_toy", description="default recipe of the cohort")

    @model_validator(mode="after")
    def _check(self) -> EhrSettings:
        if self.dimensions >= min(self.codes, self.concepts):
            raise ValueError("dimensions must be fewer than codes and than concepts")
        return self

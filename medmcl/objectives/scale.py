"""The logit scale of a contrastive objective: 1 / temperature, fixed or learned."""

from __future__ import annotations

import math

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from medmcl.core.config import Config


class ScaleSettings(Config):
    """How strongly similarities are told apart."""

    init: float = Field(default=10.0, gt=0)
    """1 / temperature at the start; 10 = temperature 0.1 (Turgut et al. 2025)."""
    learned: bool = False
    """Whether it is trained; fixed in Turgut et al. 2025, learned in Radford et al. 2021."""
    max: float = Field(default=100.0, gt=0)
    """Largest value a learned scale may take (Radford et al. 2021, section 2.5)."""

    of: str | None = None
    """Objective of the same stage whose scale this one uses: one temperature for both."""
    start_from: str | None = None
    """Earlier stage with an objective of the same name: its scale is gone on with."""

    @model_validator(mode="after")
    def _one_source(self) -> ScaleSettings:
        if self.of is not None and self.model_fields_set != {"of"}:
            raise ValueError("of: the other objective says all of the scale; leave the rest out")
        if self.start_from is not None and "init" in self.model_fields_set:
            raise ValueError("start_from: the scale begins where that stage left it; no init")
        return self

    @model_validator(mode="after")
    def _start_below_max(self) -> ScaleSettings:
        if self.init > self.max:
            raise ValueError(f"init {self.init} lies above max {self.max}")
        return self


class LogitScale(nn.Module):
    """Holds the logarithm of the scale, one parameter of shape (1,).

    A learned scale that a step pushed above ``max`` is set back to ``max`` before it is used, so
    its gradient never vanishes.
    """

    def __init__(self, settings: ScaleSettings) -> None:
        super().__init__()
        start = torch.tensor([math.log(settings.init)], device="cpu")
        self.log = nn.Parameter(start, requires_grad=settings.learned)
        self.max = settings.max

    def forward(self) -> Tensor:
        """Give the scale, (1,)."""
        if self.log.requires_grad:
            with torch.no_grad():
                self.log.clamp_(max=math.log(self.max))
        return self.log.exp()

"""The logit scale of a contrastive objective: 1 / temperature, fixed or learned."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from medmcl.objectives.settings import ScaleSettings


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

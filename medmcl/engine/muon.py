"""Muon for the matrices within encoders, AdamW for everything else, as one optimiser."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch


class Pair(torch.optim.Optimizer):
    """Optimisers of torch that step together; each has its own parameters.

    Source:
        Jordan et al. 2024 (Muon: momentum made orthogonal by Newton-Schulz), as `torch.optim.Muon`
        has it; its step scaled to the size of AdamW's as in Liu et al. 2025, arXiv 2502.16982, so
        that one rate and one decay serve both.
    """

    def __init__(self, members: Sequence[torch.optim.Optimizer]) -> None:
        self.members = list(members)

    @property
    def param_groups(self) -> list[dict[str, Any]]:  # type: ignore[override]  # of its members
        """The groups of all members."""
        return [group for one in self.members for group in one.param_groups]

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget all gradients."""
        for one in self.members:
            one.zero_grad(set_to_none)

    def step(self, closure: Any = None) -> None:  # type: ignore[override]  # no closure is given
        """Move all parameters."""
        assert closure is None
        for one in self.members:
            one.step()

    def state_dict(self) -> dict[str, Any]:
        """What each of them remembers."""
        return {"members": [one.state_dict() for one in self.members]}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Take back what `state_dict` gave."""
        for one, saved in zip(self.members, state_dict["members"], strict=True):
            one.load_state_dict(saved)

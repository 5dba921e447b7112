"""Balance without a loss: a bias an expert that moves after each step, and only chooses."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn


class LoadBias(nn.Module):
    """A bias an expert, added to the gates where experts are chosen and nowhere else.

    After each step b_e += rate * sign(mean load - load_e), where the load is how many tokens, of
    all modalities and all ranks, asked for the expert in the forward passes of that step. Within a
    step nothing moves. It keeps the contract `medmcl.core.contracts.MovesAfterSteps`.

    Balance is over all tokens together: that one modality crowds on one expert it does not see, as
    long as the others make up for it.

    Source:
        Wang et al. 2024, arXiv 2408.15664, algorithm 1. Differs: gates are a softmax (theirs a
        sigmoid); tokens count where they ask, also if the expert has no room for them.
    """

    bias: Tensor
    """(E,); in the state, so a run that goes on has it."""

    def __init__(self, experts: int, rate: float) -> None:
        super().__init__()
        self.rate = rate
        self.register_buffer("bias", torch.zeros(experts, device="cpu"))
        self._load: Tensor | None = None  # no buffer: DDP would overwrite it with rank 0's

    def count(self, asked: Tensor) -> None:
        """Add what was asked of each expert, (E,) int64, in a pass that is learned from."""
        self._load = asked if self._load is None else self._load + asked

    def after_step(self, total: Callable[[Tensor], Tensor], *, taken: bool) -> None:
        """Move the bias by what was counted, and forget it; a step not taken moves nothing."""
        load, self._load = self._load, None
        if not taken:
            return
        if load is None:
            load = torch.zeros_like(self.bias, dtype=torch.int64)
        load = total(load)
        # In whole numbers: E * load against the sum, so that a tie is a tie.
        self.bias += self.rate * (load.sum() - len(load) * load).sign()

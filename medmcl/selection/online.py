"""A choice within batches as a part of a train stage: what it is shown, what it reads."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from medmcl.core.batch import Batch, Embeddings
from medmcl.selection.choices import Choice
from medmcl.selection.pair_scores import clip_score, pair_losses


class Online:
    """Judges the rows of a global batch by one pair of modalities; keeps the contract `Selector`.

    Rows that lack one of the two cannot be judged: they stay, and do not count.

    Args:
        choice: Which rows to keep, from a number for each.
        pair: The two modalities.
        show: The view by which rows are judged: undisturbed.
        scale: The logit scale of the objective, for choices that read losses.
    """

    def __init__(
        self,
        choice: Choice,
        pair: tuple[str, str],
        show: Callable[[Batch], Batch],
        scale: Callable[[], float],
    ) -> None:
        self.choice, self.pair, self.scale = choice, pair, scale
        self._show = show

    def show(self, batch: Batch) -> Batch:
        """Give the view by which rows are judged."""
        return self._show(batch)

    def measure(self, seen: Embeddings) -> Tensor:
        """Give the cosine, or the contrastive loss, of each row that has both; else NaN. (B,)."""
        both = seen.batch.both(*self.pair)
        a, b = (seen.pooled[name][both] for name in self.pair)
        values = torch.full((len(seen.batch),), torch.nan, dtype=torch.float64, device=a.device)
        if len(a):
            reads_loss = self.choice.reads == "loss"
            found = pair_losses(a, b, 1 / self.scale()) if reads_loss else clip_score(a, b)
            values[both] = found.double()
        return values

    def choose(self, ids: Tensor, values: Tensor, epoch: int) -> Tensor:
        """Give the positions to keep, sorted, (K,) int64 on the CPU."""
        ids, values = ids.cpu(), values.cpu()
        judged = (~values.isnan()).nonzero().squeeze(1)
        kept = judged[self.choice.select(ids[judged], values[judged], epoch)]
        return torch.cat([values.isnan().nonzero().squeeze(1), kept]).sort().values

    def state_dict(self) -> Mapping[str, Tensor]:
        """What the choice remembers."""
        return self.choice.state_dict()

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Take back what `state_dict` gave."""
        self.choice.load_state_dict(state)

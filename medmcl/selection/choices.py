"""Which rows of a global batch deserve a step, from a number for each of them.

Here is what all selectors share, and the simple ones that DISSect is compared with.

Every rank calls `select` with the same arrays, those of the whole batch, and gets the same answer;
nothing depends on the order of the rows, so a batch that was split over ranks is judged as one.
Chance is a pure function of seed, epoch and sample id.

`Online` makes a choice a part of a train stage: what it is shown, what it reads.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import ClassVar, Literal

import numpy as np
import torch
from torch import Tensor

from medmcl.core.batch import Batch, Embeddings
from medmcl.core.errors import MedmclError
from medmcl.core.rng import derive_seed
from medmcl.selection.pair_scores import clip_score, pair_losses
from medmcl.selection.settings import (
    BigLossSettings,
    HighestCorrelationSettings,
    RandomChoiceSettings,
    SelectorSettings,
    SmallLossSettings,
)

Values = Tensor | np.ndarray


class Choice:
    """A selector over global batches: keeps the rows whose `scores` are highest.

    A recipe builds one from the fields of its ``Settings``, a `SelectorSettings`, and ``samples``
    and ``seed``.

    Args:
        share: Share of a batch to keep, in (0, 1]; rounded down, but never to none.
        samples: Samples of the cohort; None if not known.
        seed: Of what is left to chance.

    Attributes:
        Settings: What can be set of it.
        reads: What the numbers given to `select` are: ``correlation`` is the cosine of each pair,
            ``loss`` its contrastive loss (`pair_losses`).
    """

    Settings: ClassVar[type[SelectorSettings]]
    reads: ClassVar[Literal["correlation", "loss"]] = "correlation"

    def __init__(self, share: float = 0.5, *, samples: int | None = None, seed: int = 0) -> None:
        if not 0 < share <= 1:
            raise MedmclError("share must lie in (0, 1]", got=share)
        self.share, self.samples, self.seed = share, samples, seed

    def select(self, ids: Values, values: Values, epoch: int) -> Tensor:
        """Choose rows of one batch.

        Args:
            ids: Sample number of each row, (B,) int64.
            values: What ``reads`` names, (B,). Rows that are not finite are never kept.
            epoch: From 0.

        Returns:
            Positions kept, sorted, (K,) int64 on the CPU.

        Raises:
            MedmclError: If shapes differ or ids are not whole numbers from 0.
        """
        numbers, found = rows_given(ids, values)
        sound = np.isfinite(found)
        kept = self._positions(numbers[sound], found[sound], len(found), epoch)
        return torch.from_numpy(np.sort(np.flatnonzero(sound)[kept]))

    def state_dict(self) -> dict[str, Tensor]:
        """What must be in a checkpoint to select as if never interrupted: tensors only."""
        return {}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Take back what `state_dict` gave."""
        if state:
            raise MedmclError(f"{type(self).__name__} has no state", got=sorted(state))

    def count(self, rows: int, sound: int) -> int:
        """How many of a batch of ``rows`` to keep if ``sound`` of them can be."""
        return min(max(1, math.floor(self.share * rows + 1e-9)), sound)

    def chance(self, ids: np.ndarray, epoch: int) -> np.ndarray:
        """A number for each sample and epoch that looks random, (B,) uint64."""
        key = np.uint64(derive_seed(self.seed, type(self).__name__, epoch))
        return _mixed(_mixed(ids.astype(np.uint64)) ^ key)

    def _highest(self, scores: np.ndarray, ids: np.ndarray, rows: int, epoch: int) -> np.ndarray:
        order = np.lexsort((self.chance(ids, epoch), -scores))
        return order[: self.count(rows, len(ids))]

    def _positions(self, ids: np.ndarray, values: np.ndarray, rows: int, epoch: int) -> np.ndarray:
        """Which of the sound rows to keep, (K,) int64; ``rows`` counts the others too."""
        return self._highest(self.scores(values), ids, rows, epoch)

    def scores(self, values: np.ndarray) -> np.ndarray:
        """Give a number for each sound row, higher = keep, from what `reads` names."""
        return values


class RandomChoice(Choice):
    """Keeps rows at random; others in every epoch."""

    Settings = RandomChoiceSettings

    def scores(self, values: np.ndarray) -> np.ndarray:
        """All alike, so chance decides."""
        return np.zeros_like(values)


class HighestCorrelation(Choice):
    """Keeps the pairs whose two sides fit best now: the CLIP score of the model in training."""

    Settings = HighestCorrelationSettings


class SmallLoss(Choice):
    """Keeps the pairs of smallest loss: noise is learned late."""

    Settings = SmallLossSettings
    reads = "loss"

    def scores(self, values: np.ndarray) -> np.ndarray:
        """Less the loss."""
        return -values


class BigLoss(Choice):
    """Keeps the pairs of largest loss: there is most to learn, and most noise."""

    Settings = BigLossSettings
    reads = "loss"


def rows_given(ids: Values, values: Values) -> tuple[np.ndarray, np.ndarray]:
    """Give ids as int64 and values as float64, both (B,); `MedmclError` if they are not that."""
    numbers, found = _array(ids), _array(values)
    if numbers.ndim != 1 or numbers.shape != found.shape:
        raise MedmclError(
            "ids and values must have one axis and one length",
            got=f"{numbers.shape} and {found.shape}",
        )
    if numbers.dtype.kind not in "iu" or (len(numbers) and numbers.min() < 0):
        raise MedmclError(
            "ids must be the numbers of samples in their cohort", got=numbers[:5].tolist(),
            expected="whole numbers from 0",
        )  # fmt: skip
    return numbers.astype(np.int64), found.astype(np.float64)


def _array(values: Values) -> np.ndarray:
    if not isinstance(values, Tensor):
        return np.asarray(values)
    values = values.detach().cpu()
    return (values.double() if values.is_floating_point() else values).numpy()


def _mixed(x: np.ndarray) -> np.ndarray:
    """Mix the bits of each number (the finaliser of SplitMix64, public domain)."""
    with np.errstate(over="ignore"):
        x = x + np.uint64(0x9E3779B97F4A7C15)
        x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return np.asarray(x ^ (x >> np.uint64(31)))


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
        both = seen.batch.rows(*self.pair)
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

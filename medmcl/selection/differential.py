"""DISSect: train on the pairs whose correlation has fallen most against their own history.

Clean pairs are learned early and later drift down; noisy pairs start low and rise as they are
memorised. So history minus now is large where a pair is clean.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, get_args

import numpy as np
import torch
from torch import Tensor

from medmcl.core.errors import ArtefactError, MedmclError
from medmcl.selection.choices import Choice, Values
from medmcl.selection.settings import DifferentialSettings

Mode = Literal["warmup", "momentum"]
FirstEpoch = Literal["random", "all", "official"]
SCALE = 100.0
"""A correlation is max(0, 100 cosine), as in the published code."""
_ROOM = 1.05
"""Largest cosine that rounding in half precision explains."""


class Differential(Choice):
    """Keeps the rows of a batch with the largest differential: history - now.

    ``warmup``: for ``warmup_epochs`` the rows to train on are drawn (``first_epoch``) and each
    sample's correlation is recorded, the last one counting; then history is frozen.
    ``momentum``: history is a running mean, beta x history + (1 - beta) x now, of every row that
    was scored, kept or not; only epoch 0 is drawn.

    A sample without history competes only with its like: its kind gets its share of the rows to
    keep, by lot, and from then on it has a history.

    Args:
        mode: ``warmup`` or ``momentum``.
        share: Share of a batch to keep, in (0, 1]; rounded down, but never to none.
        warmup_epochs: Epochs of the warm-up; of ``warmup`` only.
        beta: Share of the old in the running mean, in [0, 1); of ``momentum`` only.
        first_epoch: What to train on while there is no history (epoch 0; all of the warm-up):
            ``random`` rows, ``all`` rows, or as the ``official`` code does: random rows in the
            warm-up version, and in the momentum version a history of 0, which takes the pairs that
            fit *worst*. There, samples without history later on count as 0 as well.
        samples: Samples of the cohort; ids from there on are refused. Any id if not given.
        seed: Of draws and ties.

    Raises:
        MedmclError: If a value is out of range.

    Source:
        Zhao et al. 2025 (ICCV), DISSect. Differs: `first_epoch`; history is one table for all
        ranks, keyed by sample and saved; ties are drawn. Centring on the batch, which the published
        warm-up version does, changes no choice within a batch, and is left out.
    """

    Settings = DifferentialSettings

    def __init__(
        self,
        mode: Mode = "warmup",
        share: float = 0.5,
        warmup_epochs: int = 5,
        beta: float = 0.9,
        first_epoch: FirstEpoch = "random",
        *,
        samples: int | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__(share, samples=samples, seed=seed)
        for name, value, known in (("mode", mode, Mode), ("first_epoch", first_epoch, FirstEpoch)):
            if value not in get_args(known):
                raise MedmclError(f"unknown {name}", got=value, expected=", ".join(get_args(known)))
        if mode == "warmup" and warmup_epochs < 1:
            raise MedmclError(
                "a history needs at least 1 epoch of warm-up",
                got=warmup_epochs,
                fix="mode: momentum",
            )
        if not 0 <= beta < 1:
            raise MedmclError("beta must lie in [0, 1)", got=beta)
        self.mode, self.warmup_epochs, self.beta = mode, warmup_epochs, beta
        self.first_epoch = first_epoch
        self._history = np.zeros(samples or 0, np.float64)
        self._seen = np.zeros(samples or 0, bool)

    def select(self, ids: Values, correlation: Values, epoch: int) -> Tensor:
        """Choose rows of a global batch, and learn their correlations.

        Args:
            ids: Sample number of each row, (B,) int64.
            correlation: Raw cosine of each pair, (B,); clamped at 0 and scaled here. Rows that are
                not finite are neither kept nor learned from.
            epoch: From 0.

        Returns:
            Positions kept, sorted, (K,) int64 on the CPU.

        Raises:
            MedmclError: If shapes differ, an id is unknown, or a correlation is no cosine.
        """
        return super().select(ids, correlation, epoch)

    def history(self, ids: Values) -> tuple[np.ndarray, np.ndarray]:
        """Give history of samples (0 where there is none) and which of them have one."""
        numbers = np.asarray(ids)
        known = numbers < len(self._history)
        safe = np.where(known, numbers, 0)
        if not len(self._history):
            return np.zeros(len(numbers)), known
        seen = known & self._seen[safe]
        return np.where(seen, self._history[safe], 0.0), seen

    def state_dict(self) -> dict[str, Tensor]:
        """History of every sample number and which have one: two tensors, the same on all ranks."""
        return {"history": torch.from_numpy(self._history.copy()),
                "seen": torch.from_numpy(self._seen.copy())}  # fmt: skip

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Take back what `state_dict` gave.

        Raises:
            ArtefactError: If it is something else, or of a cohort of another size.
        """
        if set(state) != {"history", "seen"} or len(state["history"]) != len(state["seen"]):
            raise ArtefactError(
                "is no state of Differential", got=sorted(state), expected="history and seen"
            )
        if self.samples is not None and len(state["history"]) != self.samples:
            raise ArtefactError(
                "the history is of another cohort",
                got=f"{len(state['history'])} samples",
                expected=self.samples,
            )
        self._history = state["history"].cpu().double().numpy().copy()
        self._seen = state["seen"].cpu().bool().numpy().copy()

    def _positions(self, ids: np.ndarray, values: np.ndarray, rows: int, epoch: int) -> np.ndarray:
        self._check(ids, values)
        now = np.maximum(SCALE * values, 0.0)
        history, seen = self.history(ids)
        kept = self._choose(ids, history - now, seen, rows, epoch)
        self._learn(ids, now, epoch)
        return kept

    def _choose(
        self, ids: np.ndarray, gap: np.ndarray, seen: np.ndarray, rows: int, epoch: int
    ) -> np.ndarray:
        drawn = epoch < (self.warmup_epochs if self.mode == "warmup" else 1)
        if drawn and self.first_epoch == "all":
            return np.arange(len(ids))
        if drawn and not (self.mode == "momentum" and self.first_epoch == "official"):
            return self._highest(np.zeros(len(ids)), ids, rows, epoch)
        if self.first_epoch == "official":
            return self._highest(gap, ids, rows, epoch)
        return self._with_newcomers(ids, gap, seen, self.count(rows, len(ids)), epoch)

    def _with_newcomers(
        self, ids: np.ndarray, gap: np.ndarray, seen: np.ndarray, number: int, epoch: int
    ) -> np.ndarray:
        """Top by gap among those with a history; the others get their share of places by lot."""
        lot = self.chance(ids, epoch)
        new, old = np.flatnonzero(~seen), np.flatnonzero(seen)
        places = round(number * len(new) / max(len(ids), 1))
        drawn = new[np.argsort(lot[new], kind="stable")[:places]]
        best = old[np.lexsort((lot[old], -gap[old]))[: number - places]]
        return np.concatenate([drawn, best])

    def _learn(self, ids: np.ndarray, now: np.ndarray, epoch: int) -> None:
        if not len(ids):
            return
        samples, which = np.unique(ids, return_inverse=True)
        mean = np.bincount(which, now) / np.bincount(which)  # of a sample that came twice
        self._grow(int(samples[-1]) + 1)
        seen, official = self._seen[samples], self.first_epoch == "official"
        if self.mode == "momentum":
            if epoch > 0:
                old = np.where(seen | official, self._history[samples], mean)
                mean = self.beta * old + (1 - self.beta) * mean
        elif epoch >= self.warmup_epochs:
            if official:
                return
            samples, mean = samples[~seen], mean[~seen]
        self._history[samples], self._seen[samples] = mean, True

    def _grow(self, size: int) -> None:
        short = size - len(self._history)
        if short > 0:  # to one and a half times: growing step by step costs no more than once
            short = max(short, len(self._history) // 2)
            self._history = np.concatenate([self._history, np.zeros(short)])
            self._seen = np.concatenate([self._seen, np.zeros(short, bool)])

    def _check(self, ids: np.ndarray, values: np.ndarray) -> None:
        if self.samples is not None and len(ids) and ids.max() >= self.samples:
            raise MedmclError(
                "a sample is unknown to the cohort",
                got=f"id {int(ids.max())}",
                expected=f"ids from 0 to {self.samples - 1}",
            )
        if len(values) and np.abs(values).max() > _ROOM:
            raise MedmclError(
                "correlation must be the raw cosine; it is scaled here",
                got=f"{values[np.abs(values).argmax()]:.4g}",
                expected="-1 to 1",
            )

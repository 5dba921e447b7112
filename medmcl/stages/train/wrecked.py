"""When a train stage is wrecked: it diverged, learned nothing, or makes one point of everybody.

What was trained is evaluated all the same, and command line and report say that it is wrecked. No
later stage goes on from one whose embedding is not finite or does not vary (`Health.dead_end`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev
from typing import Any

import numpy as np
import torch

from medmcl.core.batch import Batch, Embeddings
from medmcl.engine.loop import Learner
from medmcl.engine.state import Progress

FEWEST_STEPS = 50
"""Steps below which a stage is too short to be judged by its loss, unless that is beyond `FAR`.

A sound contrastive stage begins above chance: untrained embeddings are not one point but wrong
ones, and a scale of 10 makes them dear. On two tables of 150 people (three seeds, batches of 64)
it began at 1.05 to 1.6 times the level of chance; with a learning rate of 3e-4 it had come down
to 1.02 to 1.21 times after 20 steps and to .99 to 1.12 after 40, a tenth of which is two and four
losses. Stages that a learning rate of 3 had wrecked ended *nearer* to chance by then. So whether a
short one lies above it tells nothing; its spread (`CONSTANT`) is judged all the same.
"""
FAR = 2.0
"""So many times its chance level, and above where it began: a loss that has diverged."""
AT = 0.002
"""Share of its chance level by which a loss without labels must lie below it: embeddings that are
one point have that level to the last digits."""
ABOVE = 0.02
"""Share of its chance level by which a loss with labels must lie above it, and by two standard
errors: where labels have nothing to do with inputs, a sound stage ends about there."""
MOST_SKIPPED = 0.1
"""Share of the steps with a loss or gradient that is not finite."""
FEWEST_ROWS = 8
"""Different inputs below which nothing is said of collapse."""
CONSTANT = 1e-3
"""`Cloud.spread` of embeddings that do not vary."""
FAINT = 0.03
"""`Cloud.spread` of embeddings that hardly vary (a mean cosine of .999): healthy contrastive models
have it early on, so it tells of collapse only where the loss is that of a model that tells nothing.
"""
REMEDY = (
    "lower the learning rate, lengthen its warm-up, set optimiser.clip_norm, train in fp32 "
    "(--precision fp32), take a larger batch_size, or train longer; and make sure that the "
    "modalities of a row are of one person"
)


@dataclass(frozen=True, kw_only=True)
class Cloud:
    """What a stage makes of the different inputs of one modality.

    Attributes:
        rows: Different inputs looked at.
        finite: Whether every embedding is.
        spread: Distance of embeddings from their mean, root mean square, as a share of their
            length: 0 = one point, near 1 = no common direction.
    """

    rows: int
    finite: bool
    spread: float


def look(seen: Embeddings, *, pooled: bool) -> dict[str, Cloud]:
    """Look at what a model makes of each modality, one row an input.

    Args:
        seen: Of undisturbed rows.
        pooled: Whether to look at points of the shared space, or at features.
    """
    found = {}
    for name, vectors in (seen.pooled if pooled else seen.features).items():
        rows = _different(seen.batch, name)
        points = vectors[rows].double().cpu().numpy()
        if not np.isfinite(points).all():
            found[name] = Cloud(rows=len(rows), finite=False, spread=math.nan)
        elif len(rows) >= FEWEST_ROWS:
            size = np.sqrt((points**2).sum(axis=1).mean())
            apart = np.sqrt(points.var(axis=0).sum())
            found[name] = Cloud(
                rows=len(rows), finite=True, spread=float(apart / size) if size else 0.0
            )
    return found


def _different(batch: Batch, name: str) -> np.ndarray:
    """Present rows of which no earlier one has the same input."""
    x = batch.inputs[name].cpu()
    first: dict[bytes, int] = {}
    for row in batch.present[name].nonzero().squeeze(1).tolist():
        first.setdefault(x[row].contiguous().numpy().tobytes(), row)
    return np.array(list(first.values()), dtype=int)


def finite_weights(learner: Learner) -> bool:
    """Whether all that was learned is."""
    return all(
        bool(torch.isfinite(x).all())
        for x in learner.state_dict().values()
        if isinstance(x, torch.Tensor) and x.is_floating_point()
    )


@dataclass(frozen=True, kw_only=True)
class Health:
    """How a stage ended.

    Attributes:
        steps: Steps done.
        skipped: Steps whose loss or gradient was not finite.
        given_up: Whether so many of them came in a row that the stage was given up.
        loss: Mean loss of the last tenth of the steps; NaN if none was taken.
        error: Standard error of that mean, of its difference to the chance level if one is known.
        chance: Mean chance level of the same steps; NaN where nobody knows one.
        first: Mean loss of as many first steps.
        finite: Whether the weights are.
        clouds: What it makes of each modality.
        labelled: Whether it was trained with labels.
    """

    steps: int
    skipped: int
    given_up: bool
    loss: float
    error: float
    chance: float
    first: float
    finite: bool
    clouds: Mapping[str, Cloud]
    labelled: bool = False

    @classmethod
    def of(
        cls,
        state: Progress,
        *,
        given_up: bool,
        finite: bool,
        clouds: Mapping[str, Cloud],
        labelled: bool = False,
    ) -> Health:
        """Read what the engine remembers of a stage."""
        tenth = max(1, state.step // 10)
        losses, chances = state.losses[-tenth:], state.chances[-tenth:]
        known = bool(chances) and not any(math.isnan(one) for one in chances)
        over = [a - b for a, b in zip(losses, chances, strict=True)] if known else losses
        return cls(
            steps=state.step,
            skipped=state.skipped_steps,
            given_up=given_up,
            loss=_mean(losses),
            error=stdev(over) / math.sqrt(len(over)) if len(over) > 1 else math.nan,
            chance=_mean(chances) if known else math.nan,
            first=_mean(state.first_losses[:tenth]),
            finite=finite,
            clouds=clouds,
            labelled=labelled,
        )

    @property
    def facts(self) -> dict[str, Any]:
        """What the record keeps of it; a number that is not finite is None."""
        said = {name: getattr(self, name) for name in ("loss", "chance", "first")}
        facts: dict[str, Any] = {n: x if math.isfinite(x) else None for n, x in said.items()}
        facts["spread"] = {n: one.spread if one.finite else None for n, one in self.clouds.items()}
        return facts

    @property
    def dead_end(self) -> str:
        """Why no later stage can go on from it; empty if one can."""
        constant = [n for n, one in self.clouds.items() if one.finite and one.spread < CONSTANT]
        still = f"its embedding of {' and '.join(constant)} does not vary" if constant else ""
        return self.unusable or still

    @property
    def unusable(self) -> str:
        """Why nothing can be made of the stage; empty if something can."""
        if not self.finite:
            return "its weights are not finite"
        broken = [name for name, one in self.clouds.items() if not one.finite]
        return f"its embedding of {' and '.join(broken)} is not finite" if broken else ""

    @property
    def wreck(self) -> str:
        """Why the stage is wrecked, in clauses; empty if it is sound."""
        found = [self.unusable, *self._skipped(), *self._loss()]
        found += [
            f"{one.rows} different {name} inputs have the same embedding, within {one.spread:.1g} "
            "of its length"
            for name, one in self.clouds.items()
            if one.spread < (FAINT if self._told_nothing else CONSTANT)
        ]
        return "; ".join(one for one in found if one)

    @property
    def _told_nothing(self) -> bool:
        """Whether the loss of a stage that is long enough is about that of one point, or above."""
        about = self.loss > self.chance - ABOVE * abs(self.chance)
        return self.steps >= FEWEST_STEPS and about

    def _skipped(self) -> list[str]:
        what = f"loss or gradient were not finite in {self.skipped:,} of {self.steps:,} steps"
        if self.given_up:
            return [f"{what}, and it was given up"]
        return [what] if self.skipped > max(2, MOST_SKIPPED * self.steps) else []

    def _loss(self) -> list[str]:
        if math.isnan(self.loss):
            return []
        whole = f"the loss of its last tenth is {self.loss:.4g}"
        if math.isnan(self.chance):
            higher = self.loss - self.first > max(ABOVE * abs(self.first), 2 * _or(self.error))
            rose = higher and self.steps >= FEWEST_STEPS
            return [f"{whole}, above the {self.first:.4g} it began with"] if rose else []
        gap, level = self.loss - self.chance, abs(self.chance)
        least = max(ABOVE * level, 2 * _or(self.error)) if self.labelled else -AT * level
        far = gap > (FAR - 1) * level and self.loss > self.first
        if far or (gap > least and self.steps >= FEWEST_STEPS):
            return [f"{whole}, no better than chance ({self.chance:.4g})"]
        return []


def last_line(wrecked: Mapping[str, str]) -> str:
    """Say to whoever started a run which of its stages are wrecked, why, and what to try."""
    return f"wrecked: {_stages(wrecked)}. Try to {REMEDY}; --set stages.NAME.KEY=VALUE sets them"


def _stages(wrecked: Mapping[str, str]) -> str:
    return "; ".join(f"{name} ({why})" for name, why in wrecked.items())


def _mean(values: Sequence[float]) -> float:
    return fmean(values) if values else math.nan


def _or(error: float) -> float:
    return 0.0 if math.isnan(error) else error

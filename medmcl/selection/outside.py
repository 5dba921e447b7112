"""Scorers and selectors of other packages judge noise before anything is trained."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from copy import deepcopy
from typing import Any

import numpy as np
import torch
from torch import Tensor

from medmcl.core.contracts import ChoosesFromPool, ScoredPool, Scorer
from medmcl.core.lazy import refuse_slips
from medmcl.modalities.outside import fails
from medmcl.selection.choices import Choice
from medmcl.selection.settings import SCORERS, SELECTORS, ScoreSettings

ROWS, WIDTH = 16, 8
"""Of the noise, N and D."""
_FIX = "correct the package (docs/extend.md has the contract)"


def scores_of(kind: str, scorer: Scorer, pool: ScoredPool) -> Tensor:
    """Give the score of each row of a pool, (N,) on the CPU.

    Raises:
        ContractError: A scorer from outside fails, or gives something else.
    """
    if kind not in SCORERS.outside:
        return scorer.score(pool).cpu()
    package = SCORERS.package(kind)
    with fails(f"the scorer '{kind}' (package {package}) failed on {len(pool.ids)} rows", _FIX):
        given = scorer.score(pool)
        slips = list(_slips("score", given, len(pool.ids), torch.Tensor))
    refuse_slips(SCORERS.group, kind, package, slips)
    return given.cpu()


def rehearse_scorer(settings: ScoreSettings, names: Sequence[str], pair: tuple[str, str]) -> None:
    """Let a scorer from outside judge a pool of noise.

    Args:
        settings: Of the scorer; nothing is done with one that ships.
        names: Modalities that the stage embeds.
        pair: The two that are selected.

    Raises:
        ContractError: It fails, or gives what it must not give.
    """
    kind = settings.kind
    if kind not in SCORERS.outside:
        return
    made = np.random.default_rng(0).normal(size=(len(names) + 1, ROWS, WIDTH)).astype(np.float32)
    made /= np.linalg.norm(made, axis=2, keepdims=True)
    pool = ScoredPool(
        ids=torch.arange(ROWS, device="cpu"), pooled=dict(zip(names, made, strict=False)),
        pair=pair, device=torch.device("cpu"), seed=0, temperature=lambda: 0.1,
        target=lambda *_: made[-1],
    )  # fmt: skip
    with fails(f"the scorer '{kind}' (package {SCORERS.package(kind)}) cannot be built", _FIX):
        scorer = SCORERS[kind](settings)
    if not isinstance(scorer, ChoosesFromPool):
        scores_of(kind, scorer, pool)


def rehearse_selector(kind: str, choice: Choice) -> None:
    """Let a selector from outside choose rows of a batch of noise; it is left as it was.

    Raises:
        ContractError: It fails, or gives what it must not give.
    """
    if kind not in SELECTORS.outside:
        return
    package, slips = SELECTORS.package(kind), []
    ids = np.arange(min(ROWS, choice.samples or ROWS))
    values = np.random.default_rng(0).uniform(-1, 1, len(ids))
    with fails(f"the selector '{kind}' (package {package}) failed on {len(ids)} rows", _FIX):
        own = deepcopy(choice)
        if type(own)._positions is Choice._positions:
            slips = list(_slips("scores", own.scores(values.copy()), len(ids), np.ndarray))
        if not slips:
            own.select(ids, values, 0)
    refuse_slips(SELECTORS.group, kind, package, slips)


def _slips(method: str, given: Any, rows: int, form: type) -> Iterator[str]:
    made = type(given)
    if not issubclass(made, form):
        yield f"{method} must give a {form.__module__}.{form.__name__}: it gives {made.__name__}"
    elif tuple(given.shape) != (rows,):
        yield f"{method} must give a number for each row, here {(rows,)}: it gives {given.shape}"
    elif bool((given != given).any()):
        yield f"{method} must give no NaN"

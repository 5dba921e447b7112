"""Prediction from any subset of modalities: mean, product of experts, learned.

Each comes as features and a probe that reads them, and every probe is linear in its features, so
that a run keeps it as it keeps any other. The exception are products of experts of numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal, get_args

import numpy as np

from medmcl.core.rng import numpy_generator
from medmcl.core.targets import Targets
from medmcl.evaluation.models.contract import Fitted
from medmcl.evaluation.models.experts import product_of_experts
from medmcl.evaluation.models.probe import linear_probe
from medmcl.evaluation.models.scaling import BlockScaling
from medmcl.evaluation.models.together import Together, Variant

Fusion = Literal["mean", "product_of_experts", "learned"]
FUSIONS: tuple[str, ...] = get_args(Fusion)

KEPT = 0.5
"""Chance of a modality to stay in the copies that ``learned`` is also trained on."""

Probe = Callable[..., Fitted]


@dataclass(frozen=True, kw_only=True)
class FusedFeatures:
    """How rows with any subset of modalities are predicted.

    Attributes:
        features: What ``fit`` reads, (N, E).
        fit: A probe: ``(features, targets, train, tuning, refit_on=...) -> Fitted``.
        present: Rows that have at least one modality, (N,) bool.
        variants: What would be predicted if only some modalities were there.
    """

    features: np.ndarray
    fit: Probe
    present: np.ndarray
    variants: tuple[Variant, ...]


def fuse(
    together: Together, fusion: Fusion, *, probe: Probe = linear_probe, seed: int = 0
) -> FusedFeatures:
    """Give features and a probe that predict from any subset of modalities.

    ``mean``: ``probe`` on the mean of the unit embeddings of those present, of unit length again.
    ``product_of_experts``: a linear probe a modality, see `product_of_experts`. ``learned``: one
    linear probe on the embeddings side by side, zeros where absent, and presence flags; each
    training row also stands as it would with some of its modalities gone (each stays with chance
    `KEPT`, at least one does), so that no modality is leaned on alone.

    Args:
        together: Embeddings and presence.
        fusion: Which.
        probe: For ``mean``; the others fit linear probes.
        seed: Of the modalities that training copies lose.

    Source:
        Product of experts: Hinton 2002, Neural Comput 14:1771-1800; with the prior once: Wu &
        Goodman 2018, arXiv 1802.05335, eq. (3). Modality dropout: Neverova et al. 2016, arXiv
        1501.00102. Differs: linear experts, calibrated.
    """
    read: Callable[[Together], np.ndarray] = Together.mean if fusion == "mean" else Together.table
    fits: Mapping[str, Probe] = {
        "mean": probe,
        "product_of_experts": partial(product_of_experts, widths=together.widths),
        "learned": _Learned(widths=together.widths, seed=seed),
    }
    return FusedFeatures(
        features=read(together),
        fit=fits[fusion],
        present=together.any,
        variants=_variants(together, read),
    )


def _variants(together: Together, read: Callable[[Together], np.ndarray]) -> tuple[Variant, ...]:
    """Every modality alone, and each left out, among rows for whom that is another set."""
    if len(together.names) < 2:
        return ()
    more = together.flags.sum(axis=1) > 1
    found: list[tuple[str, tuple[str, ...], np.ndarray]] = [
        (f"only {name}", (name,), np.asarray(together.present[name]) & more)
        for name in together.names
    ]
    for name in together.names if len(together.names) > 2 else ():
        rest = tuple(other for other in together.names if other != name)
        found.append((f"without {name}", rest, np.asarray(together.present[name]) & more))
    return tuple(
        Variant(name=name, has=has, modalities=left, features=_Reading(together, left, read))
        for name, left, has in found
    )


@dataclass(frozen=True)
class _Reading:
    """Features of some rows as if only some modalities were there."""

    together: Together
    left: tuple[str, ...]
    read: Callable[[Together], np.ndarray]

    def __call__(self, rows: np.ndarray) -> np.ndarray:
        return self.read(self.together.of(rows).only(self.left))


@dataclass(frozen=True, kw_only=True)
class _Learned:
    """A linear probe on blocks and flags, trained with modality dropout."""

    widths: tuple[int, ...]
    seed: int

    def __call__(
        self,
        features: np.ndarray,
        targets: Targets,
        train: np.ndarray,
        tuning: np.ndarray,
        *,
        refit_on: np.ndarray | None = None,
        **more: Any,
    ) -> Fitted:
        """Fit; see `linear_probe`."""
        count = len(features)
        table, centre = self._centred(features, np.asarray(train))
        # The table with modalities gone at random, never all of a row
        flags = table[:, -len(self.widths) :]
        draws = numpy_generator(self.seed, "modality_dropout", targets.name).random(flags.shape)
        stays = (draws < KEPT) & (flags > 0)
        last = np.where(flags > 0, draws, np.inf).argmin(axis=1)
        stays[np.arange(len(flags)), last] |= flags.any(axis=1)
        dropped = table * np.hstack([np.repeat(stays, self.widths, axis=1), stays])
        able = table[:, -len(self.widths) :].sum(axis=1) > 1
        both = np.tile(np.arange(count), 2)

        def with_copies(rows: np.ndarray) -> np.ndarray:
            rows = np.asarray(rows, dtype=np.int64)
            return np.concatenate([rows, count + rows[able[rows]]])

        fitted = linear_probe(
            np.vstack([table, dropped]),
            targets.take(both),
            with_copies(train),
            with_copies(tuning),
            refit_on=None if refit_on is None else with_copies(refit_on),
            scaling=BlockScaling((*self.widths, len(self.widths))),
            **more,
        )
        assert fitted.linear is not None  # linear probes have one
        # The same model of a table that is not centred: flags carry what the centres took
        weights, first = fitted.linear.weights.copy(), 0
        for k, width in enumerate(self.widths):
            part = slice(first, first + width)
            weights[len(centre) + k] -= centre[part] @ fitted.linear.weights[part]
            first += width
        return Fitted.of(replace(fitted.linear, weights=weights), fitted.chosen, fitted.notes)

    def _centred(self, features: np.ndarray, train: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Centre each block by the train rows that have it; absent ones stay zero."""
        table = np.array(features, dtype=np.float64)
        flags, first, centres = table[:, -len(self.widths) :], 0, []
        for k, width in enumerate(self.widths):
            own = train[flags[train, k] > 0]
            block = table[:, first : first + width]
            centre = block[own].mean(axis=0) if len(own) else np.zeros(width)
            block -= flags[:, k : k + 1] * centre
            centres.append(centre)
            first += width
        return table, np.concatenate(centres)

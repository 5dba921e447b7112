"""A release under differential privacy, one patient being the unit.

What leaves is D alone, whole numbers with noise, over a vocabulary that was fixed in public and
with every one of its cells. Margins are sums of the noisy cells. No true count, no support and no
threshold that the data chose is in it. Neighbours differ by one patient who comes or goes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from scipy import sparse

from medmcl.cooccurrence.count.counts import Block, Counts, Vocabulary
from medmcl.cooccurrence.count.people import people_of_rows
from medmcl.cooccurrence.count.rules import parse_window
from medmcl.cooccurrence.count.tokens import Table, whole
from medmcl.cooccurrence.exchange.checks import margins_of_cells
from medmcl.cooccurrence.exchange.manifest import ChosenClipKeys, PrivateKeys
from medmcl.cooccurrence.release.accounting import (
    add_noise,
    check_budget,
    epsilon_of,
    rho_for,
    scale_of,
)
from medmcl.cooccurrence.release.clipping import (
    PrivateQuantile,
    check_bound,
    clip_rows,
    noisy_quantile,
)
from medmcl.cooccurrence.release.ledger import Ledger
from medmcl.cooccurrence.release.release import Release, refuse_private_vocabulary
from medmcl.core.errors import ArtefactError

RESOLUTION = 16
CLIP_SHARE = 0.1
MOST_HIDDEN = 100
"""Patients at their bound whom the noise of a cell may equal; a public constant."""
Bound = int | PrivateQuantile
"""A public constant, or how to choose one from the patients."""


def release_private(
    x1: Table,
    x2: Table,
    *,
    vocabularies: Mapping[str, Vocabulary],
    clip: tuple[Bound, Bound],
    epsilon: float,
    delta: float,
    ledger: Ledger,
    patients: Sequence[object] | np.ndarray | None = None,
    window: str = "record",
    clip_share: float = CLIP_SHARE,
    allow_noise: bool = False,
) -> Release[PrivateKeys]:
    """Noisy pairs across two modalities.

    Args:
        x1: Counts of the first modality, (n, d1), a row a patient, or a window of one.
        x2: Of the second, (n, d2), the same rows.
        vocabularies: Of both, in order, fixed in public, with its version.
        clip: Longest (L2) that a patient's counts of each modality may be: constants that were
            chosen without looking at these patients. The noise grows with their product, so about
            the median length serves better than the largest (see benchmarks). A `PrivateQuantile`
            is chosen from these patients, and paid for out of ``epsilon``.
        epsilon: Of this release, the choice of bounds included.
        delta: Of this release; well below 1 / patients.
        ledger: Budget of these patients, which is charged before noise is drawn.
        patients: Whose window each row is, if a row is a window.
        window: Name of the window; sliding windows have no rows and cannot be released so.
        clip_share: Share of the cost (rho) that goes for all bounds that are chosen privately.
        allow_noise: Release also where noise hides every cell of `MOST_HIDDEN` patients.

    Raises:
        ConfigError: Unknown window.
        ArtefactError: If the tables do not fit, the budget does not cover it, noise would hide
            nearly everything, or a row is a window and nobody says whose; nothing is charged then.
            Or they hold what is no count: that is charged.
    """
    first, second = names_of(vocabularies)
    check_budget(epsilon, delta)
    with ledger.paying(rho_for(epsilon, delta)):
        one, two = whole(x1, first), whole(x2, second)
    refuse_unfit((one, two), vocabularies, patients, window)
    asked = dict(zip((first, second), clip, strict=True))
    rho = rho_for(epsilon, delta)
    for_cells, for_bound = _costs(asked, rho, clip_share)
    if not allow_noise:
        refuse_hidden(1 / math.sqrt(2 * for_cells), epsilon)
    people = people_of_rows((one, two), words_of(vocabularies), patients)
    spent = ledger.charge(f"{first} x {second}, {window}{_choice(asked)}", rho, people)
    bounds = {
        name: noisy_quantile(table, bound, scale_of(1, for_bound), patients)
        if isinstance(bound, PrivateQuantile)
        else bound
        for (name, bound), table in zip(asked.items(), (one, two), strict=True)
    }
    units = RESOLUTION**2
    sensitivity = bounds[first] * bounds[second]
    scale = scale_of(sensitivity * units, for_cells)
    noisy = add_noise(clipped_pairs(one, two, bounds, patients), scale)
    counts = noisy_counts(noisy, vocabularies, window, scale / units)
    keys = PrivateKeys(
        epsilon=epsilon_of(rho, delta),
        delta=delta,
        rho=rho,
        sigma=scale / units,
        clip=bounds,
        clip_chosen={
            name: ChosenClipKeys(
                quantile=bound.quantile,
                longest=bound.longest,
                rho=for_bound,
                epsilon=epsilon_of(for_bound, delta),
            )
            for name, bound in asked.items()
            if isinstance(bound, PrivateQuantile)
        },
        resolution=RESOLUTION,
        sensitivity=sensitivity,
        spent=spent,
    )
    return Release(counts, keys)


def clipped_pairs(
    one: sparse.csr_array,
    two: sparse.csr_array,
    bounds: Mapping[str, int],
    patients: Sequence[object] | np.ndarray | None,
) -> np.ndarray:
    """Cells X1' X2 of clipped patients, in units of 1 / `RESOLUTION`^2 pairs, int64 (d1, d2).

    Args:
        one: Counts of the first modality, (n, d1).
        two: Of the second, (n, d2).
        bounds: Longest that a patient's counts may be, of both, in order.
        patients: Whose window each row is.
    """
    both = zip((one, two), bounds.values(), strict=True)
    first, second = (clip_rows(table, bound, RESOLUTION, patients) for table, bound in both)
    return np.asarray((first.T @ second).todense())


def noisy_counts(
    noisy: np.ndarray,
    vocabularies: Mapping[str, Vocabulary],
    window: str,
    noise_sd: float,
) -> Counts:
    """Counts of a private release: noisy cells in whole pairs, and sums of them.

    Args:
        noisy: In units of 1 / `RESOLUTION`^2 pairs, (d1, d2).
        vocabularies: Of both modalities.
        window: Of the rows.
        noise_sd: Of the noise in a cell, in pairs.
    """
    units = RESOLUTION**2
    first, second = vocabularies
    blocks = {(first, second): Block(sparse.csr_array((noisy + units // 2) // units))}
    return Counts(
        vocabularies=dict(vocabularies),
        margins=margins_of_cells(vocabularies, blocks),
        blocks=blocks,
        units=None,
        patients=None,
        window=window,
        noise_sd=noise_sd,
        sites=1,
    )


def refuse_hidden(patients: float, epsilon: float) -> None:
    """Refuse noise that no plausible cell stands out of, before anything is charged.

    Judged by what is public: the noise of a cell over the most that one patient may add to it (the
    product of the clip bounds). No patient is looked at.

    Args:
        patients: That quotient.
        epsilon: Of the release, for the message.

    Raises:
        ArtefactError: It is above `MOST_HIDDEN`.
    """
    if patients > MOST_HIDDEN:
        raise ArtefactError(
            "noise would hide nearly every cell; nothing was charged",
            got=f"epsilon {epsilon:g}: noise in each cell (standard deviation) as large as what "
            f"{patients:,.0f} patients add who all have the most that the clips allow in that cell",
            expected=f"at most {MOST_HIDDEN} such patients; most patients add far less to a cell",
            fix="a larger epsilon, or threshold release; --allow-noise (allow_noise=True) releases "
            "all the same",
        )


def _costs(asked: Mapping[str, Bound], rho: float, share: float) -> tuple[float, float]:
    """Most that the cells may cost, and that one private bound may (0 where there is none).

    Both are parts of the whole release's ``rho``, and never more than it together.
    """
    private = sum(isinstance(bound, PrivateQuantile) for bound in asked.values())
    for bound in asked.values():
        if not isinstance(bound, PrivateQuantile):
            check_bound(bound, RESOLUTION)
    if not private:
        return rho, 0.0
    if not 0 < share < 1:
        raise ArtefactError("this share leaves nothing for bounds, or for cells", got=share,
                            expected="between 0 and 1, say 0.1")  # fmt: skip
    # a trifle less than the rest, so that rounding cannot make the parts exceed the whole
    return (1 - share) * rho * (1 - 1e-12), share * rho * (1 - 1e-12) / private


def _choice(asked: Mapping[str, Bound]) -> str:
    """What the ledger says of bounds that were chosen from the patients."""
    chosen = [
        f"clip bound of {name} by quantile {bound.quantile:g}"
        for name, bound in asked.items()
        if isinstance(bound, PrivateQuantile)
    ]
    return f", with {' and '.join(chosen)}" if chosen else ""


def words_of(vocabularies: Mapping[str, Vocabulary]) -> dict[str, tuple[str, ...]]:
    """The tokens of each modality."""
    return {name: words.tokens for name, words in vocabularies.items()}


def names_of(vocabularies: Mapping[str, Vocabulary]) -> tuple[str, str]:
    """The two modalities of a private release; refuses others, and vocabularies without version."""
    if len(vocabularies) != 2:
        raise ArtefactError(
            "a private release is one pair of modalities",
            got=", ".join(vocabularies),
            expected="two vocabularies",
        )
    refuse_private_vocabulary(vocabularies)
    first, second = vocabularies
    return first, second


def refuse_unfit(
    tables: tuple[sparse.csr_array, sparse.csr_array],
    vocabularies: Mapping[str, Vocabulary],
    patients: Sequence[object] | np.ndarray | None,
    window: str,
) -> None:
    """Refuse tables that a private release cannot be made of."""
    if parse_window(window).sliding:
        raise ArtefactError(
            "sliding windows overlap and have no rows that could be clipped: nothing bounds what "
            "one patient adds",
            got=f"window {window}",
            expected="record, month or visit",
            fix="count and release by month in place of days:N; or release the counts of days:N "
            "by threshold (medmcl cooccur release)",
        )
    for table, (name, words) in zip(tables, vocabularies.items(), strict=True):
        if table.shape[1] != len(words):
            raise ArtefactError(
                f"{name} does not fit its vocabulary",
                got=f"{table.shape[1]} columns",
                expected=f"{len(words)} tokens",
            )
    rows = tables[0].shape[0]
    if tables[1].shape[0] != rows or (patients is not None and len(patients) != rows):
        raise ArtefactError(
            "the tables do not hold the same rows",
            got=f"{rows} and {tables[1].shape[0]} rows"
            + ("" if patients is None else f", {len(patients)} patients"),
            expected="one row a patient or window in all of them",
        )
    if window != "record" and patients is None:
        raise ArtefactError(
            "whose windows are these?",
            got=f"window {window}, no patients",
            fix="rows need a column subject (patients= in Python), or the noise would hide a "
            "window and not a patient",
        )

"""A release under differential privacy, one patient being the unit.

What leaves is D alone, whole numbers with noise, over a vocabulary that was fixed in public and
with every one of its cells. Margins are sums of the noisy cells. No true count, no support and no
threshold that the data chose is in it. Neighbours differ by one patient who comes or goes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from scipy import sparse

from medmcl.cooccurrence.accounting import (
    add_noise,
    check_budget,
    epsilon_of,
    rho_for,
    rho_of,
    scale_of,
)
from medmcl.cooccurrence.clipping import clip_rows
from medmcl.cooccurrence.counts import Block, Counts, Vocabulary
from medmcl.cooccurrence.exchange_manifest import PrivateKeys
from medmcl.cooccurrence.ledger import Ledger
from medmcl.cooccurrence.release import Release, refuse_private_vocabulary
from medmcl.cooccurrence.released_margins import margins_of_cells
from medmcl.cooccurrence.tokens import Table, whole
from medmcl.cooccurrence.windows import parse_window
from medmcl.core.errors import ArtefactError

RESOLUTION = 16


def release_private(
    x1: Table,
    x2: Table,
    *,
    vocabularies: Mapping[str, Vocabulary],
    clip: tuple[int, int],
    epsilon: float,
    delta: float,
    ledger: Ledger,
    patients: Sequence[object] | np.ndarray | None = None,
    window: str = "record",
) -> Release[PrivateKeys]:
    """Noisy pairs across two modalities.

    Args:
        x1: Counts of the first modality, (n, d1), a row a patient, or a window of one.
        x2: Of the second, (n, d2), the same rows.
        vocabularies: Of both, in order, fixed in public, with its version.
        clip: Longest (L2) that a patient's counts of each modality may be: constants that were
            chosen without looking at these patients. The noise grows with their product, so about
            the median length serves better than the largest (see benchmarks).
        epsilon: Of this release.
        delta: Of this release; well below 1 / patients.
        ledger: Budget of these patients, which is charged before noise is drawn.
        patients: Whose window each row is, if a row is a window.
        window: Name of the window; sliding windows have no rows and cannot be released so.

    Raises:
        ConfigError: Unknown window.
        ArtefactError: If the tables do not fit, the budget does not cover it, or a row is a window
            and nobody says whose.
    """
    first, second = _names(vocabularies)
    one, two = whole(x1, first), whole(x2, second)
    _refuse_unfit((one, two), vocabularies, patients, window)
    check_budget(epsilon, delta)
    bounds = dict(zip((first, second), clip, strict=True))
    one = clip_rows(one, bounds[first], RESOLUTION, patients)
    two = clip_rows(two, bounds[second], RESOLUTION, patients)
    units = RESOLUTION**2
    sensitivity = bounds[first] * bounds[second]
    scale = scale_of(sensitivity * units, rho_for(epsilon, delta))
    rho = rho_of(sensitivity * units, scale)
    spent = ledger.charge(f"{first} x {second}, {window}", rho)
    noisy = add_noise(np.asarray((one.T @ two).todense()), scale)
    pairs = sparse.csr_array((noisy + units // 2) // units)
    blocks = {(first, second): Block(pairs)}
    counts = Counts(
        vocabularies=dict(vocabularies),
        margins=margins_of_cells(vocabularies, blocks),
        blocks=blocks,
        units=None,
        patients=None,
        window=window,
        noise_sd=scale / units,
    )
    keys = PrivateKeys(
        epsilon=epsilon_of(rho, delta),
        delta=delta,
        rho=rho,
        sigma=scale / units,
        clip=bounds,
        resolution=RESOLUTION,
        sensitivity=sensitivity,
        spent=spent,
    )
    return Release(counts, keys)


def _names(vocabularies: Mapping[str, Vocabulary]) -> tuple[str, str]:
    if len(vocabularies) != 2:
        raise ArtefactError(
            "a private release is one pair of modalities",
            got=", ".join(vocabularies),
            expected="two vocabularies",
        )
    refuse_private_vocabulary(vocabularies)
    first, second = vocabularies
    return first, second


def _refuse_unfit(
    tables: tuple[sparse.csr_array, sparse.csr_array],
    vocabularies: Mapping[str, Vocabulary],
    patients: Sequence[object] | np.ndarray | None,
    window: str,
) -> None:
    if parse_window(window).sliding:
        raise ArtefactError(
            "sliding windows overlap: they have no rows that could be clipped", got=window,
            expected="record, month or visit",
        )  # fmt: skip
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
            mend="pass patients=, or the noise would hide a window and not a patient",
        )

"""Margins that come from the cells alone, so that they tell nothing the cells do not."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from medmcl.cooccurrence.count.counts import Block, Margin, Pair, Vocabulary


def margins_of_cells(
    vocabularies: Mapping[str, Vocabulary], blocks: Mapping[Pair, Block]
) -> dict[str, Margin]:
    """Sums over the cells of each token, as the margins of a release.

    ``tokens`` sums the cells with all other modalities: up to a factor it is the frequency that an
    estimator wants, and with two modalities it is the row or column sum of D. ``pairs`` sums the
    cells within the modality if that block is there, otherwise it is ``tokens`` again. Patients of
    a token do not follow from cells: None.
    """
    across = {name: np.zeros(len(words), dtype=np.int64) for name, words in vocabularies.items()}
    within: dict[str, np.ndarray] = {}
    for (a, b), block in blocks.items():
        rows = np.asarray(block.pairs.sum(axis=1), dtype=np.int64)
        if a == b:
            within[a] = rows
            continue
        across[a] += rows
        across[b] += np.asarray(block.pairs.sum(axis=0), dtype=np.int64)
    return {name: Margin(across[name], within.get(name, across[name])) for name in vocabularies}

"""Association matrices by name. Only ``claime`` is CLAIME's; each says how it differs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from medmcl.cooccurrence.count.counts import Counts, Pair
from medmcl.cooccurrence.embed.linear_pmi import released_pmi
from medmcl.cooccurrence.embed.log_pmi import log_pmi
from medmcl.cooccurrence.embed.pmi import claime_pmi
from medmcl.cooccurrence.release.censored import filled


@dataclass(frozen=True)
class Association:
    """From counts to a matrix, higher = more alike, and how it differs from the paper."""

    matrix: Callable[[Counts, Pair], np.ndarray]
    differs: str


def _logarithm(**settings: Any) -> Callable[[Counts, Pair], np.ndarray]:
    """Log PMI of cells in which suppressed ones stand at what they most likely hold."""
    return lambda counts, pair: log_pmi(np.maximum(filled(counts, *pair), 0.0), **settings)


ASSOCIATIONS: dict[str, Association] = {
    "claime": Association(claime_pmi, ""),
    "own_margins": Association(released_pmi, "margins of the cross block instead of within pairs"),
    "log": Association(_logarithm(), "logarithm of the ratio instead of the ratio minus one"),
    "positive": Association(
        _logarithm(positive=True), "logarithm, negative values set to 0 (PPMI)"
    ),
    "shifted": Association(
        _logarithm(positive=True, shift=5.0), "positive logarithm less log 5 (SPPMI)"
    ),
    "smoothed": Association(
        _logarithm(positive=True, smoothing=0.75), "PPMI, column margins to the power 0.75"
    ),
}

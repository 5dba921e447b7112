"""What the routers of a tower with experts do with each modality, as numbers for the record."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from torch import Tensor

from medmcl.core.router_stats import RouterSums, routed_modalities

USED = 0.01
"""An expert that is the first choice of at least this share of a modality's tokens is in use."""


def describe_routers(sums: Mapping[str, Tensor], blocks: Sequence[int]) -> dict[str, Any]:
    """Give numbers on routing by modality and block; a modality without tokens has none.

    Names end in ``/MODALITY/BLOCK``, but for the first two:

    - ``experts/tokens/MODALITY``: tokens that each layer of experts was offered.
    - ``experts/processed/MODALITY``: share of (token, layer) pairs that some expert took, 0 to 1,
      higher is better. In evaluation, where nothing is dropped, 1 unless experts choose.
    - ``experts/dropped``: share of tokens that no expert took; lower is better.
    - ``experts/effective``: exp(H(mean gates)), 1 (all on one expert) to E; with text collapsed: 1.
    - ``experts/mutual_information``: I(expert; token) = H(mean gates) - mean H(gates) in nats, 0
      (every token alike, or undecided) to log E; higher means sure and different choices.
    - ``experts/used``: experts that are the first choice of at least 1 % of the tokens.
    - ``experts/share``: E shares of the tokens by first choice, before anything is dropped.

    Gates are those without the noise of training; first choices are with it.

    Source:
        Mustafa et al. 2022, arXiv 2206.02770 (entropies by modality, text tokens processed).
        Differs: the information is minus the sum of their local and global loss.

    Args:
        sums: `RouterSums` of modalities, summed over rows: (L, E) or (L, 1) each.
        blocks: Number of the block of each of the L layers.
    """
    rows: dict[str, Any] = {}
    for name in routed_modalities(sums):
        found = RouterSums.read(sums, name)
        if found is None or not bool(found.tokens.sum() > 0):
            continue
        tokens, kept = _array(found.tokens), _array(found.kept)
        mean = _array(found.gates) / tokens
        share = _array(found.first) / tokens
        among = _entropy(mean)
        certain = among - (_array(found.entropy) / tokens)[:, 0]
        rows[f"experts/tokens/{name}"] = round(float(tokens[0, 0]))
        rows[f"experts/processed/{name}"] = float(kept.sum() / tokens.sum())
        for layer, block in enumerate(blocks):
            place = f"{name}/{block}"
            rows[f"experts/dropped/{place}"] = float(1 - kept[layer, 0] / tokens[layer, 0])
            rows[f"experts/effective/{place}"] = float(np.exp(among[layer]))
            rows[f"experts/mutual_information/{place}"] = float(certain[layer])
            rows[f"experts/used/{place}"] = int((share[layer] >= USED).sum())
            rows[f"experts/share/{place}"] = [round(one, 5) for one in share[layer].tolist()]
    return rows


def _array(x: Tensor) -> np.ndarray:
    return x.detach().cpu().numpy().astype(np.float64)


def _entropy(shares: np.ndarray) -> np.ndarray:
    """Entropy of each row in nats."""
    safe = np.where(shares > 0, shares, 1.0)
    return np.asarray(-(shares * np.log(safe)).sum(axis=1))

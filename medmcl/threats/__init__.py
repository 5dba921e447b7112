"""Poisoned data: triggers that an attacker lays over records, and detectors that find them.

To add a trigger: a function ``(image, rng=None, noise=None, official=False)`` and a line in
`TRIGGERS`; a detector: a function ``(embeddings, k, neighbours="corrected")``, higher = more
suspect, and a line in `DETECTORS`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from medmcl.core.lazy import lazy

if TYPE_CHECKING:
    from medmcl.threats.detectors import DETECTORS, dao, knn_distance, lid, slof
    from medmcl.threats.other_triggers import SIGNAL_TRIGGERS, rare_token
    from medmcl.threats.poisoning import Poison, draw_poison
    from medmcl.threats.triggers import TRIGGERS
else:
    __getattr__, __dir__ = lazy(__name__)

__all__ = [
    "DETECTORS",
    "SIGNAL_TRIGGERS",
    "TRIGGERS",
    "Poison",
    "dao",
    "draw_poison",
    "knn_distance",
    "lid",
    "rare_token",
    "slof",
]

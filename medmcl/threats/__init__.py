"""Poisoned data: triggers that an attacker lays over records, and detectors that find them.

To add a trigger: a line in `TRIGGERS` (what is painted, what is drawn for it, where it lies); a
detector: a function ``(embeddings, k, neighbours="corrected")``, higher = more suspect, and a line
in `DETECTORS`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from medmcl.core.lazy import lazy

if TYPE_CHECKING:
    from medmcl.threats.detectors import DETECTORS as DETECTORS
    from medmcl.threats.detectors import dao as dao
    from medmcl.threats.detectors import knn_distance as knn_distance
    from medmcl.threats.detectors import lid as lid
    from medmcl.threats.detectors import slof as slof
    from medmcl.threats.other_triggers import SIGNAL_TRIGGERS as SIGNAL_TRIGGERS
    from medmcl.threats.other_triggers import rare_token as rare_token
    from medmcl.threats.poisoning import Poison as Poison
    from medmcl.threats.triggers import TRIGGERS as TRIGGERS
else:
    __getattr__, __dir__ = lazy(__name__)

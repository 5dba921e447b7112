"""Objectives: pure loss functions, and the modules that charge for what a model made of a batch.

To add one: a file with a class that keeps the contract `Objective`, and a line in `OBJECTIVES` (in
``build.py``); its settings stand in ``settings.py``, so that they are checked before torch is
imported.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from medmcl.core.lazy import lazy

if TYPE_CHECKING:
    from medmcl.objectives.build import OBJECTIVES, build_objective, wanted_probe
    from medmcl.objectives.masked import masked_modelling
    from medmcl.objectives.multiway import gram, symile
    from medmcl.objectives.pairwise.alignment import CrossModal
    from medmcl.objectives.pairwise.contrastive import info_nce, nt_xent, sigmoid_loss
    from medmcl.objectives.supervised import Supervised, cox_partial_likelihood
else:
    __getattr__, __dir__ = lazy(__name__)

__all__ = [
    "OBJECTIVES",
    "CrossModal",
    "Supervised",
    "build_objective",
    "cox_partial_likelihood",
    "gram",
    "info_nce",
    "masked_modelling",
    "nt_xent",
    "sigmoid_loss",
    "symile",
    "wanted_probe",
]

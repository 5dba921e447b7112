"""Objectives: pure loss functions, and the modules that charge for what a model made of a batch.

To add one: a file with a class that keeps the contract `Objective`, and a line in `OBJECTIVES` (in
``build.py``); its settings stand in ``settings.py``, so that they are checked before torch is
imported.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from medmcl.core.lazy import lazy

if TYPE_CHECKING:
    from medmcl.objectives.build import OBJECTIVES, build_objective, check_objective, wanted_probe
    from medmcl.objectives.centroid import CentroBind
    from medmcl.objectives.contrastive import info_nce, nt_xent, sigmoid_loss
    from medmcl.objectives.cross_modal import CrossModal
    from medmcl.objectives.depart import Depart
    from medmcl.objectives.distil import Distil
    from medmcl.objectives.in_modal import InModal
    from medmcl.objectives.masked import Masked
    from medmcl.objectives.reconstruction import masked_modelling
    from medmcl.objectives.router import RouterBalance
    from medmcl.objectives.supervised import Supervised
    from medmcl.objectives.survival import cox_partial_likelihood
    from medmcl.objectives.total_correlation import Symile, symile
    from medmcl.objectives.volume import Gram, gram
else:
    __getattr__, __dir__ = lazy(__name__)

__all__ = [
    "OBJECTIVES",
    "CentroBind",
    "CrossModal",
    "Depart",
    "Distil",
    "Gram",
    "InModal",
    "Masked",
    "RouterBalance",
    "Supervised",
    "Symile",
    "build_objective",
    "check_objective",
    "cox_partial_likelihood",
    "gram",
    "info_nce",
    "masked_modelling",
    "nt_xent",
    "sigmoid_loss",
    "symile",
    "wanted_probe",
]

"""Objectives: pure loss functions, and the modules that charge for what a model made of a batch.

To add one: a file with a class that keeps the contract `Objective`, and a line in `OBJECTIVES` (in
``build.py``); its settings stand in ``settings.py``, so that they are checked before torch is
imported.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from medmcl.core.lazy import lazy

if TYPE_CHECKING:
    from medmcl.objectives.build import OBJECTIVES as OBJECTIVES
    from medmcl.objectives.build import build_objective as build_objective
    from medmcl.objectives.build import wanted_probe as wanted_probe
    from medmcl.objectives.masked import masked_modelling as masked_modelling
    from medmcl.objectives.multiway import gram as gram
    from medmcl.objectives.multiway import symile as symile
    from medmcl.objectives.pairwise.alignment import CrossModal as CrossModal
    from medmcl.objectives.pairwise.contrastive import info_nce as info_nce
    from medmcl.objectives.pairwise.contrastive import nt_xent as nt_xent
    from medmcl.objectives.pairwise.contrastive import sigmoid_loss as sigmoid_loss
    from medmcl.objectives.supervised import Supervised as Supervised
    from medmcl.objectives.supervised import cox_partial_likelihood as cox_partial_likelihood
else:
    __getattr__, __dir__ = lazy(__name__)

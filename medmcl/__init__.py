"""medmcl: multimodal contrastive learning on medical cohorts.

The verbs of the command line are functions here: `pretrain`, `evaluate`, `select`, `check`,
`simulate` and, for a finished run, ``load(run).embed(cohort)``. Importing this package imports
nothing heavy.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from medmcl.core.lazy import lazy

__version__ = "0.1.0"

if TYPE_CHECKING:
    from medmcl import (
        cooccurrence,
        data,
        encoders,
        evaluation,
        modalities,
        models,
        objectives,
        selection,
        simulation,
        stages,
        threats,
    )
    from medmcl.data.cohort.cohort import open_cohort
    from medmcl.data.loading.worker_pool import worker_pool
    from medmcl.evaluation.models.risk_model import RiskModel
    from medmcl.simulation.kinds import simulate
    from medmcl.stages.evaluate.evaluate import evaluate
    from medmcl.stages.recipe.inspect import check
    from medmcl.stages.run.embedder import MedMCLEmbedder
    from medmcl.stages.run.pretrain import pretrain
    from medmcl.stages.run.run import Run, load
    from medmcl.stages.select.command import select
else:
    __getattr__, __dir__ = lazy(__name__)

__all__ = [
    "MedMCLEmbedder",
    "RiskModel",
    "Run",
    "check",
    "cooccurrence",
    "data",
    "encoders",
    "evaluate",
    "evaluation",
    "load",
    "modalities",
    "models",
    "objectives",
    "open_cohort",
    "pretrain",
    "select",
    "selection",
    "simulate",
    "simulation",
    "stages",
    "threats",
    "worker_pool",
]

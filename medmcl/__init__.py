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
        objectives,
        selection,
        stages,
        threats,
    )
    from medmcl.data.cohort import open_cohort
    from medmcl.data.processes import lent_processes
    from medmcl.data.simulate import simulate
    from medmcl.evaluation.models.risk_model import RiskModel
    from medmcl.stages.embedder import MedMCLEmbedder
    from medmcl.stages.evaluate import evaluate
    from medmcl.stages.inspect import check
    from medmcl.stages.pretrain import pretrain
    from medmcl.stages.run import Run, load
    from medmcl.stages.select_command import select
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
    "lent_processes",
    "load",
    "modalities",
    "objectives",
    "open_cohort",
    "pretrain",
    "select",
    "selection",
    "simulate",
    "stages",
    "threats",
]

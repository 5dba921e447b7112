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
    from medmcl import cooccurrence as cooccurrence
    from medmcl import data as data
    from medmcl import encoders as encoders
    from medmcl import evaluation as evaluation
    from medmcl import modalities as modalities
    from medmcl import models as models
    from medmcl import objectives as objectives
    from medmcl import selection as selection
    from medmcl import simulation as simulation
    from medmcl import stages as stages
    from medmcl import threats as threats
    from medmcl.data.cohort.cohort import open_cohort as open_cohort
    from medmcl.data.loading.worker_pool import worker_pool as worker_pool
    from medmcl.evaluation.models.risk_model import RiskModel as RiskModel
    from medmcl.simulation.kinds import simulate as simulate
    from medmcl.stages.evaluate.evaluate import evaluate as evaluate
    from medmcl.stages.recipe.inspect import check as check
    from medmcl.stages.run.embedder import MedMCLEmbedder as MedMCLEmbedder
    from medmcl.stages.run.pretrain import pretrain as pretrain
    from medmcl.stages.run.run import Run as Run
    from medmcl.stages.run.run import load as load
    from medmcl.stages.select.command import select as select
else:
    __getattr__, __dir__ = lazy(__name__)

"""medmcl: multimodal contrastive learning on medical cohorts.

The verbs of the command line are functions here: `pretrain`, `evaluate`, `select`, `check`,
`simulate` and, for a finished run, ``load(run).embed(cohort)``. Importing this package imports
nothing heavy.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
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

__all__ = [
    "MedMCLEmbedder",
    "RiskModel",
    "Run",
    "check",
    "evaluate",
    "lent_processes",
    "load",
    "open_cohort",
    "pretrain",
    "select",
    "simulate",
]

_HOMES = {
    "check": "medmcl.stages.inspect",
    "lent_processes": "medmcl.data.processes",
    "open_cohort": "medmcl.data.cohort",
    "simulate": "medmcl.data.simulate",
    "evaluate": "medmcl.stages.evaluate",
    "pretrain": "medmcl.stages.pretrain",
    "Run": "medmcl.stages.run",
    "load": "medmcl.stages.run",
    "select": "medmcl.stages.select_command",
    "MedMCLEmbedder": "medmcl.stages.embedder",
    "RiskModel": "medmcl.evaluation.models.risk_model",
}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    if name in (
        "objectives",
        "cooccurrence",
        "evaluation",
        "encoders",
        "modalities",
        "data",
        "selection",
        "stages",
        "threats",
    ):
        return importlib.import_module(f"medmcl.{name}")
    raise AttributeError(f"module 'medmcl' has no attribute '{name}'")


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])

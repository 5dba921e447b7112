"""Objectives: pure loss functions, and the modules that charge for what a model made of a batch.

To add one: a file with a class that keeps the contract `Objective`, and a line in `OBJECTIVES`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn

from medmcl.core.config import Config, check, lookup
from medmcl.core.contracts import ModelShape, ProbeRows
from medmcl.core.errors import ConfigError
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


def build_objective(
    name: str, settings: Mapping[str, Any], shape: ModelShape, where: str | None = None
) -> nn.Module:
    """Build an objective by its name in `OBJECTIVES`.

    Args:
        name: Kind of objective.
        settings: Values of its ``Settings``.
        shape: What it must know of the model it charges.
        where: Its dotted key in the recipe, ``stages.mdm.objectives.masked``, for the error.

    Raises:
        ConfigError: If the name, a key or a value cannot be used.
    """
    kind, checked = check_objective(name, settings, where)
    return kind(checked, shape)


def wanted_probe(
    name: str, settings: Mapping[str, Any], where: str | None = None
) -> ProbeRows | None:
    """Say how many rows an objective will ask for that no step trains on, before it is built.

    Raises:
        ConfigError: As `build_objective`.
    """
    probe: ProbeRows | None = getattr(check_objective(name, settings, where)[1], "probe", None)
    return probe


def check_objective(
    name: str, settings: Mapping[str, Any], where: str | None = None
) -> tuple[Any, Config]:
    """Give the class of an objective and its settings, checked as far as no model is needed.

    Raises:
        ConfigError: As `build_objective`.
    """
    kind = lookup("objective", name, OBJECTIVES, where=where)
    place = f"objective '{name}'" if where is None else where
    return kind, check(kind.Settings, settings, where=place, error=ConfigError, under=where or "")


OBJECTIVES: dict[str, Any] = {
    "cross_modal": CrossModal,
    "in_modal": InModal,
    "masked": Masked,
    "supervised": Supervised,
    "symile": Symile,
    "gram": Gram,
    "centrobind": CentroBind,
    "router": RouterBalance,
    "depart": Depart,
    "distil": Distil,
}

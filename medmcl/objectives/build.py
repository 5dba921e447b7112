"""The map of objectives, and how one is checked and built by its name.

Checking reads their settings, which stand apart, and imports no objective.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from medmcl.core.config import Config, check, lookup
from medmcl.core.contracts import AsksForProbe, ModelShape, ProbeRows
from medmcl.core.errors import ConfigError, ContractError
from medmcl.core.lazy import Parts, has, refuse_slips

if TYPE_CHECKING:
    from torch import nn

OBJECTIVES = Parts(
    {
        "cross_modal": "medmcl.objectives.pairwise.alignment:CrossModal",
        "in_modal": "medmcl.objectives.pairwise.alignment:InModal",
        "masked": "medmcl.objectives.masked:Masked",
        "supervised": "medmcl.objectives.supervised:Supervised",
        "symile": "medmcl.objectives.multiway:Symile",
        "gram": "medmcl.objectives.multiway:Gram",
        "centrobind": "medmcl.objectives.multiway:CentroBind",
        "router": "medmcl.objectives.router:RouterBalance",
        "par": "medmcl.objectives.pairwise.distil:Par",
        "distil": "medmcl.objectives.pairwise.distil:Distil",
    },
    group="medmcl.objectives",
    settings="medmcl.objectives.settings",
    keeps=has("medmcl.objectives", "forward"),
)


_HAS = ("views", "terms", "across_ranks", "gathers")


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
        ContractError: It streams, but gathers what cannot.
    """
    checked = check_objective(name, settings, where)
    if name in OBJECTIVES.outside:
        built = _built_outside(name, checked, shape)
    else:
        built = OBJECTIVES[name](checked, shape)
    if built.across_ranks == "stream" and set(built.gathers) != {"pooled"}:
        raise ContractError(
            "an objective that streams sees 'pooled' alone once batches are large",
            where=f"objective '{name}'" if where is None else where,
            got=f"gathers: {', '.join(built.gathers) or 'nothing'}",
            expected="gathers = ('pooled',)",
            fix="write across_ranks = 'gather', or read nothing but pooled embeddings",
        )
    objective: nn.Module = built
    return objective


def _built_outside(name: str, checked: Config, shape: ModelShape) -> Any:
    from medmcl.modalities.outside import fails

    package = OBJECTIVES.package(name)
    said = f"the objective '{name}' (package {package}) cannot be built"
    with fails(said, "correct the package (docs/extend.md has the contract)"):
        built = OBJECTIVES[name](checked, shape)
    slips = [f"{one} is missing" for one in _HAS if not hasattr(built, one)]
    slips += [f"{one} must be a tuple of texts: it is {value!r}"
              for one in ("views", "terms", "gathers")
              if isinstance(value := getattr(built, one, ()), str)]  # fmt: skip
    ways = ("rows", "gather", "stream")
    if (across := getattr(built, "across_ranks", "rows")) not in ways:
        slips.append(f"across_ranks must be one of {', '.join(ways)}: it is {across!r}")
    refuse_slips(OBJECTIVES.group, name, package, slips)
    return built


def wanted_probe(
    name: str, settings: Mapping[str, Any], where: str | None = None
) -> ProbeRows | None:
    """Say how many rows an objective will ask for that no step trains on, before it is built.

    Raises:
        ConfigError: As `build_objective`.
    """
    checked = check_objective(name, settings, where)
    return checked.probe if isinstance(checked, AsksForProbe) else None


def check_objective(name: str, settings: Mapping[str, Any], where: str | None = None) -> Config:
    """Give the settings of an objective, checked as far as no model is needed.

    Raises:
        ConfigError: As `build_objective`.
    """
    model = lookup("objective", name, OBJECTIVES.settings, where=where)
    place = f"objective '{name}'" if where is None else where
    return check(model, settings, where=place, error=ConfigError, under=where or "")

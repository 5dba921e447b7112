"""Logit scales that objectives of a stage share, or go on with from an earlier stage."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, cast

from medmcl.core.config import refuse_absent
from medmcl.core.contracts import SharesScale
from medmcl.objectives.build import OBJECTIVES
from medmcl.stages.train.spec import ObjectiveSpec, TowersSpec

if TYPE_CHECKING:
    from torch import nn

    from medmcl.engine.loop import Learner
    from medmcl.stages.run.run import Run


def tie_scales(objectives: Mapping[str, nn.Module], spec: TowersSpec) -> None:
    """Give objectives whose ``scale`` is ``of`` another one that very scale."""
    for label, one in spec.objectives.items():
        of = one.scale_option("of")
        if of is not None:
            objectives[label].scale = cast(SharesScale, objectives[of]).scale


def take_scales(learner: Learner, spec: TowersSpec, run: Run) -> None:
    """Start scales at the value that an earlier stage reached."""
    for label, one in spec.objectives.items():
        stage = one.scale_option("start_from")
        if stage is not None:
            scale = cast(SharesScale, learner.objectives[label]).scale
            scale.load_state_dict(run.scale(stage, label))


def refuse_scales(spec: TowersSpec, made: Mapping[str, TowersSpec]) -> None:
    """Refuse scales of objectives that are not there, or have none to share.

    Raises:
        ConfigError: Names what could be meant.
    """
    for label, one in spec.objectives.items():
        where = f"stage {spec.name}, objectives.{label}.scale"
        of, stage = one.scale_option("of"), one.scale_option("start_from")
        if of is not None:
            able = [name for name, other in spec.objectives.items()
                    if name != label and _has_own(other)]  # fmt: skip
            what = f"there is no objective with a scale of its own called '{of}'"
            refuse_absent(of, able, what, where=f"{where}.of", none="none")
        if stage is not None:
            able = [
                name
                for name, before in made.items()
                if label in before.objectives and _has_scale(before.objectives[label])
            ]
            what = f"there is no earlier stage with an objective '{label}' and a scale, called"
            what = f"{what} '{stage}'"
            refuse_absent(stage, able, what, where=f"{where}.start_from", none="none")


def _has_scale(one: ObjectiveSpec) -> bool:
    fields = OBJECTIVES.settings.get(one.kind)
    per_pair = bool(one.settings.get("scale_per_pair", False))
    return fields is not None and "scale" in fields.model_fields and not per_pair


def _has_own(one: ObjectiveSpec) -> bool:
    return _has_scale(one) and one.scale_option("of") is None

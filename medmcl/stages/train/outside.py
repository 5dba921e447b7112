"""Parts of other packages see a few rows before anything is trained."""

from __future__ import annotations

from copy import deepcopy
from typing import cast

import torch

from medmcl.core.rng import RowGenerator
from medmcl.data.loading.prepare import Prepared
from medmcl.encoders.build import ENCODERS
from medmcl.encoders.outside import rehearse_encoder
from medmcl.encoders.towers import Towers
from medmcl.modalities import ADAPTERS
from medmcl.modalities.outside import rehearse_view
from medmcl.objectives.build import OBJECTIVES
from medmcl.objectives.outside import rehearse_objective
from medmcl.selection.outside import rehearse_selector
from medmcl.stages.recipe.spec import RecipeSpec
from medmcl.stages.train.parts import Parts, loader
from medmcl.stages.train.spec import TrainSpec

FEW = 4
"""Rows that an objective charges for."""


def rehearse_outside(spec: TrainSpec, recipe: RecipeSpec, prepared: Prepared, parts: Parts) -> None:
    """Let encoders encode, views disturb, selectors choose, objectives charge: nothing is learned.

    An objective that is taught, or of rows in groups, is seen at the first step.

    Raises:
        ContractError: One fails, or gives what it must not give.
    """
    for name in spec.towers:
        kind = recipe.towers.get(name, {}).get("encoder", {}).get("name")
        rows = prepared.rows("train", (name,))[:1] if kind in ENCODERS.outside else parts.rows[:0]
        if len(rows):
            row = prepared.batch(rows, modalities=(name,)).inputs[name]
            row = prepared.adapters[name].plain(row)
            encoder = cast(Towers, parts.learner.model).tower(name).encoder
            rehearse_encoder(kind, encoder, row)
    for view in parts.views.values():
        for name, options in view.options.items():
            adapter = prepared.adapters[name]
            if adapter.kind in ADAPTERS.outside:
                rows = prepared.rows("train", (name,))[:FEW]
                x = prepared.batch(rows, modalities=(name,)).inputs[name]
                rehearse_view(adapter, x, options)
    if parts.selector is not None and spec.selector is not None:
        rehearse_selector(spec.selector.kind, parts.selector.choice)
    kinds = {label: one.kind for label, one in spec.objectives.items()
             if one.kind in OBJECTIVES.outside}  # fmt: skip
    if not kinds or spec.teacher is not None or parts.groups is not None:
        return
    learner = deepcopy(parts.learner).eval()
    batch = loader(spec, prepared, {}, parts, None)(parts.rows[:FEW])
    with torch.no_grad():
        drawn = RowGenerator(torch.Generator(device="cpu").manual_seed(0))
        seen = learner.encode({name: view(batch, drawn) for name, view in parts.views.items()})
        for label, kind in kinds.items():
            objective = learner.objectives[label]
            views = {name: seen[name] for name in objective.views}  # type: ignore[union-attr]  # Objective
            rehearse_objective(kind, objective, views, batch)

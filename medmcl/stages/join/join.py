"""The join stage: several finished stages as one model, with a checkpoint of its own."""

from __future__ import annotations

from typing import Any

import torch

from medmcl.data.loading.prepare import Prepared
from medmcl.encoders.joined import Joined
from medmcl.engine.loop import Learner
from medmcl.stages.recipe.skipped_stages import joined_spec
from medmcl.stages.train.kept_weights import kept_weights
from medmcl.stages.train.models import Setting, build_learner
from medmcl.stages.train.spec import JoinSpec

MODEL = "model."
"""Prefix of the model's weights in a checkpoint."""


def run_join(spec: JoinSpec, prepared: Prepared, setting: Setting) -> dict[str, Any]:
    """Bring the weights of the stages together; give the facts that go into the record."""
    checkpoints = setting.checkpoints(spec.name)
    if checkpoints.done is not None:
        return checkpoints.done
    found = joined_spec(spec, setting.checkpoints)
    learner = _built(found, prepared, setting)
    assert isinstance(learner.model, Joined)
    for part, stage in zip(learner.model.parts, found.of, strict=True):
        part.load_state_dict(kept_weights(stage, MODEL, setting))
    missing = [name for name in spec.of if name not in found.of]
    lacks = f" ({', '.join(missing)} left out)" if missing else ""
    widths = ", ".join(
        f"{name} {learner.model.tower(name).facts.width}" for name in learner.model.towers
    )
    facts = {
        "stage": spec.name,
        "keep": spec.keep,
        "parts": list(found.of),
        "sentence": f"Stage {spec.name}: {spec.how} of {', '.join(found.of)}{lacks}; width of "
        f"features: {widths}.",
        "parameters": sum(p.numel() for p in learner.model.parameters()),
    }
    if setting.world.rank == 0:
        checkpoints.save(1, learner.state_dict(), {}, best=True)
        checkpoints.finish(facts)
    return facts


def rehearse_join(spec: JoinSpec, prepared: Prepared, setting: Setting) -> None:
    """Refuse what cannot be joined before anything is trained."""
    _built(spec, prepared, setting)


def _built(spec: JoinSpec, prepared: Prepared, setting: Setting) -> Learner:
    shapes = {name: one.input_shape for name, one in prepared.adapters.items()}
    with torch.no_grad():
        return build_learner(setting.recipe, spec, shapes, {}, setting.seed)

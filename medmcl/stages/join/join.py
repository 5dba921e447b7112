"""The join stage: several finished stages as one model, with a checkpoint of its own."""

from __future__ import annotations

from typing import Any

import torch
from typing_extensions import override

from medmcl.data.loading.prepare import Prepared
from medmcl.encoders.joined import Joined
from medmcl.engine.loop import Learner
from medmcl.stages.join.spec import JoinSpec
from medmcl.stages.stage import Context, Stage
from medmcl.stages.train.models import build_learner


class Join(Stage[JoinSpec]):
    """Bring the weights of several stages together."""

    @override
    def dry_run(self, prepared: Prepared, context: Context) -> None:
        _built(self.spec, prepared, context)

    @override
    def run(self, prepared: Prepared, context: Context) -> dict[str, Any]:
        spec = self.spec
        found = spec.as_run(context.run.facts)
        learner = _built(found, prepared, context)
        assert isinstance(learner.model, Joined)
        for part, stage in zip(learner.model.parts, found.of, strict=True):
            part.load_state_dict(context.run.model(stage))
        missing = [name for name in spec.of if name not in found.of]
        lacks = f" ({', '.join(missing)} left out)" if missing else ""
        widths = ", ".join(
            f"{name} {learner.model.tower(name).facts.width}" for name in learner.model.towers
        )
        if context.world.rank == 0:
            context.run.save_learner(spec.name, learner)
        return {
            "keep": spec.keep,
            "parts": list(found.of),
            "sentence": f"Stage {spec.name}: {spec.how} of {', '.join(found.of)}{lacks}; width of "
            f"features: {widths}.",
            "parameters": sum(p.numel() for p in learner.model.parameters()),
        }


def _built(spec: JoinSpec, prepared: Prepared, context: Context) -> Learner:
    shapes = {name: one.input_shape for name, one in prepared.adapters.items()}
    with torch.no_grad():
        return build_learner(context.run.recipe, spec, shapes, {}, context.run.seed)

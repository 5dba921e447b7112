"""The join stage: several finished stages as one model, with a checkpoint of its own."""

from __future__ import annotations

from typing import Any

from typing_extensions import override

from medmcl.data.loading.prepare import Prepared
from medmcl.encoders.joined import Joined
from medmcl.stages.derived.derived import untrained_learner
from medmcl.stages.join.spec import JoinSpec
from medmcl.stages.stage import Context, Stage


class Join(Stage[JoinSpec]):
    """Bring the weights of several stages together."""

    @override
    def dry_run(self, prepared: Prepared, context: Context) -> None:
        untrained_learner(self.spec, prepared, context)

    @override
    def run(self, prepared: Prepared, context: Context) -> dict[str, Any]:
        spec = self.spec
        found = spec.as_run(context.run.facts)
        learner = untrained_learner(found, prepared, context)
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

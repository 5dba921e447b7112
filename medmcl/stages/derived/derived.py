"""A stage that derives embeddings from those of an earlier one: it learns from train people, once.

A package outside says no more than the layer (`DerivedSpec.layer`).
"""

from __future__ import annotations

from typing import Any, TypeVar, cast

import torch
from typing_extensions import override

from medmcl.core.errors import ConfigError
from medmcl.core.split_guard import SplitGuard
from medmcl.data.loading.prepare import Prepared
from medmcl.encoders.joined import Derived, Layer
from medmcl.encoders.towers import Towers
from medmcl.engine.loop import Learner
from medmcl.stages.derived.outside import rehearse_layer
from medmcl.stages.derived.spec import DerivedSpec, UntrainedSpec
from medmcl.stages.run.run import embed_samples
from medmcl.stages.stage import Context, Stage
from medmcl.stages.train.models import build_learner

S = TypeVar("S", bound=DerivedSpec)
FEWEST = 2
"""Train rows from which something can be learned."""


class Derive(Stage[S]):
    """Embed train people with the earlier stage, let each layer learn, and keep both as towers."""

    by_first_rank = True

    @override
    def dry_run(self, prepared: Prepared, context: Context) -> None:
        counted = {name: len(prepared.rows("train", (name,))) for name in self.spec.towers}
        for name, rows in counted.items():
            if rows < FEWEST:
                raise ConfigError(
                    "there are too few train rows to learn from",
                    where=f"stage {self.spec.name}, towers",
                    got=f"{rows} with {name}",
                    expected=f"{FEWEST} or more",
                )
        part = cast(Derived, untrained_learner(self.spec, prepared, context).model).parts[0]
        for name, rows in counted.items():
            width = cast(Towers, part).tower(name).facts.width
            rehearse_layer(self.spec.stage, self.spec.layer, width, rows)

    @override
    def run(self, prepared: Prepared, context: Context) -> dict[str, Any]:
        spec, run, device = self.spec, context.run, context.world.device
        learner = untrained_learner(spec, prepared, context)
        assert isinstance(learner.model, Derived)
        learner.model.parts[0].load_state_dict(run.model(spec.of))
        sides = SplitGuard(splits=prepared.splits, subjects=prepared.subjects)
        counted = {}
        for name, layer in learner.model.layers.items():
            rows = prepared.rows("train", (name,))
            sides.refuse_leak(rows, f"stage {spec.name}")
            towers = run.towers(spec.of, device)
            x = embed_samples(towers, prepared, name, rows, "features", device)
            with torch.no_grad():
                cast(Layer, layer).fit(x)
            counted[name] = len(rows)
        run.save_learner(spec.name, learner)
        told = ", ".join(f"{count} of {name}" for name, count in counted.items())
        context.record.say(f"{spec.name}: learned from embeddings of {spec.of}: {told}")
        return {
            "keep": spec.keep,
            "parts": [spec.of],
            "rows": counted,
            "sentence": f"Stage {spec.name} ({spec.stage}): derived from embeddings of {spec.of}; "
            f"train rows: {told}.",
            "parameters": sum(p.numel() for p in learner.model.parameters()),
        }


def untrained_learner(spec: UntrainedSpec, prepared: Prepared, context: Context) -> Learner:
    """Build the model of a stage that takes no steps."""
    shapes = {name: one.input_shape for name, one in prepared.adapters.items()}
    with torch.no_grad():
        return build_learner(context.run.recipe, spec, shapes, {}, context.run.seed)

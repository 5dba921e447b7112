"""The evaluate stage of a run: what it finds is kept for the report."""

from __future__ import annotations

from typing import Any

from typing_extensions import override

from medmcl.data.loading.prepare import Prepared
from medmcl.stages.evaluate.evaluate import run_evaluate
from medmcl.stages.evaluate.spec import EvaluateSpec
from medmcl.stages.predict.people import WARNING, scored_people, write_people
from medmcl.stages.stage import Context, Stage


class Evaluate(Stage[EvaluateSpec]):
    """Score frozen embeddings and fine-tuned models on the held-out split."""

    by_first_rank = True

    @override
    def run(self, prepared: Prepared, context: Context) -> dict[str, Any]:
        spec, run = self.spec, context.run
        found = run_evaluate(
            spec, run, prepared.cohort, context.world.device, context.record, stop=context.stop,
            keep_probes=True,
        )  # fmt: skip
        context.evaluations.append(found)
        if spec.predictions:
            path = run.path / f"predictions-{spec.name}.parquet"
            write_people(scored_people(found.prepared, found.people), path)
            context.record.say(f"{path}: {WARNING}")
        return {}

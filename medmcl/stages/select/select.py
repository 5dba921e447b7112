"""The select stage: teachers score the pairs of the train split, a rule keeps some of them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from typing_extensions import override

from medmcl.core.errors import ConfigError, MedmclError
from medmcl.data.loading.prepare import Prepared
from medmcl.selection.keep import Keep
from medmcl.selection.outside import rehearse_scorer
from medmcl.selection.ranking import Chooser, follow
from medmcl.stages.select.pairs import select_pairs
from medmcl.stages.select.spec import SelectSpec
from medmcl.stages.select.target import target_of
from medmcl.stages.select.teachers import scored_by
from medmcl.stages.stage import Context, Stage
from medmcl.stages.train.models import temperature_of
from medmcl.stages.train.parts import first_learner
from medmcl.stages.train.train_filter import given_rows


class Select(Stage[SelectSpec]):
    """Score the pairs of the train split, and keep some of them."""

    by_first_rank = True

    @override
    def dry_run(self, prepared: Prepared, context: Context) -> None:
        spec = self.spec
        made = context.run.stages
        pool = given_rows(prepared.rows("train", spec.wanted), prepared, context.run.given_keep)
        parts = scored_by(spec, made, prepared, context.run.seed, pool)
        refuse_rule(spec, parts)
        for name, score in spec.scores.items():
            where = f"stage {spec.name}, scores.{name}"
            rehearse_scorer(score, spec.wanted, spec.pair)
            for target in score.targets():
                if target.cohort is None or context.world.rank == 0:
                    side = score.sides(spec.pair)[0]
                    target_of(target, prepared, context.run.path, side, f"{where}.target")
            if score.needs_temperature:
                for teacher in parts:
                    learner = first_learner(made[teacher], prepared, context.run)
                    temperature_of(learner, spec.pair, f"{where}, teacher {teacher}")

    @override
    def run(self, prepared: Prepared, context: Context) -> dict[str, Any]:
        spec = self.spec
        path, run = context.run.file(spec.name, Keep), context.run
        path.parent.mkdir(parents=True, exist_ok=True)

        def check_interrupt() -> None:
            context.stop.check_interrupt(f"{spec.name}: scoring")

        pool = given_rows(prepared.rows("train", spec.wanted), prepared, run.given_keep)
        found = select_pairs(
            spec, run, prepared, context.world.device, path.parent, pool, check_interrupt
        )
        run.save(spec.name, found.keep)
        context.record.say(f"{spec.name}: {found.sentence}")
        for note in (*found.repeats, *found.notes):
            context.record.say(f"{spec.name}: {note}")
        return {
            "sentence": "; ".join([f"Stage {spec.name}: {found.sentence}", *found.notes,
                                   f"{found.seconds:.0f} s."]),
            "rows": len(found.keep),
            "kept": int(found.keep.kept.sum()),
            "fingerprint": found.keep.fingerprint,
            "notes": list(found.notes),
            "seconds": round(found.seconds, 3),
        }  # fmt: skip


def refuse_rule(spec: SelectSpec, parts: Mapping[str, np.ndarray]) -> None:
    """Refuse a rule whose shares no scores could fulfil.

    It is followed on scores that are all equal and that no ``at_least`` drops.

    Args:
        spec: The select stage.
        parts: Teacher to the rows that it scores.

    Raises:
        ConfigError: A share is no row, or more than the steps before can leave.
    """
    dynamic = [name for name, one in spec.scores.items() if one.chooses]
    choosers: dict[str, Chooser] = dict.fromkeys(dynamic, lambda left, number: left[:number])
    for teacher, rows in parts.items():
        alike = torch.full((len(rows),), math.inf, device="cpu")
        try:
            follow(spec.rule, {"": alike, **dict.fromkeys(spec.scores, alike)}, choosers)
        except MedmclError as error:
            where = f"stage {spec.name}, rule, {len(rows)} pairs that {teacher} scores"
            raise error.again(ConfigError, where=where) from None

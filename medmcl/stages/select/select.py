"""The select stage: teachers score the pairs of the train split, a rule keeps some of them."""

from __future__ import annotations

import math
import shutil
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from typing_extensions import override

from medmcl.core.errors import ConfigError, MedmclError
from medmcl.data.loading.prepare import Prepared
from medmcl.engine.loop import Learner
from medmcl.selection.rule import Chooser, follow
from medmcl.stages.recipe.expansion import expand
from medmcl.stages.run.run import Run
from medmcl.stages.select.pairs import POOL, select_pairs, steps_of
from medmcl.stages.select.spec import (
    NegClipLossSpec,
    NormSimDynamicSpec,
    NormSimSpec,
    SelectSpec,
)
from medmcl.stages.select.target import target_of
from medmcl.stages.select.teachers import scored_by
from medmcl.stages.stage import Stage, named
from medmcl.stages.train.distill_targets import taught_widths
from medmcl.stages.train.models import Setting, build_learner, temperature_of
from medmcl.stages.train.spec import TowersSpec
from medmcl.stages.train.train_filter import given_rows, keep_file


class Select(Stage[SelectSpec]):
    """Score the pairs of the train split, and keep some of them."""

    by_first_rank = True

    @override
    def dry_run(self, prepared: Prepared, setting: Setting) -> None:
        spec = self.spec
        made = named(expand(setting.recipe, list(prepared.cohort.spec.tasks)), TowersSpec)
        pool = given_rows(prepared.rows("train", spec.wanted), prepared, setting.keep)
        parts = scored_by(spec, made, prepared, setting.seed, pool)
        refuse_rule(spec, parts)
        for name, score in spec.scores.items():
            where = f"stage {spec.name}, scores.{name}"
            if isinstance(score, NormSimSpec) and (
                score.target.cohort is None or setting.world.rank == 0
            ):
                side = score.modality or spec.pair[0]
                target_of(score.target, prepared, setting.folder, side, f"{where}.target")
            if isinstance(score, NegClipLossSpec) and score.temperature is None:
                for teacher in parts:
                    learner = _first_learner(made[teacher], prepared, setting)
                    temperature_of(learner, spec.pair, f"{where}, teacher {teacher}")

    @override
    def run(self, prepared: Prepared, setting: Setting) -> dict[str, Any]:
        spec = self.spec
        path = keep_file(setting.folder, spec.name)
        path.parent.mkdir(parents=True, exist_ok=True)
        for stale in path.parent.glob(f"{POOL}*"):  # of a killed process
            shutil.rmtree(stale)
        run = Run(setting.folder)

        def check_interrupt() -> None:
            setting.stop.check_interrupt(f"{spec.name}: scoring")

        pool = given_rows(prepared.rows("train", spec.wanted), prepared, setting.keep)
        found = select_pairs(
            spec, run, prepared, setting.world.device, path.parent, pool, check_interrupt
        )
        found.keep.save(path)
        setting.record.say(f"{spec.name}: {found.sentence}")
        for note in (*found.repeats, *found.notes):
            setting.record.say(f"{spec.name}: {note}")
        return {
            "sentence": "; ".join([f"Stage {spec.name}: {found.sentence}", *found.notes,
                                   f"{found.seconds:.0f} s."]),
            "rows": len(found.keep),
            "kept": int(found.keep.kept.sum()),
            "fingerprint": found.keep.fingerprint,
            "notes": list(found.notes),
            "seconds": round(found.seconds, 3),
        }  # fmt: skip


def _first_learner(teacher: TowersSpec, prepared: Prepared, setting: Setting) -> Learner:
    """A teacher before its first step."""
    shapes = {name: prepared.adapters[name].input_shape for name in teacher.towers}
    tasks = {} if teacher.task is None else {teacher.task: prepared.tasks(teacher.task)}
    every = {name: one.input_shape for name, one in prepared.adapters.items()}
    widths = taught_widths(setting.recipe, teacher, every, setting.checkpoints)
    return build_learner(setting.recipe, teacher, shapes, tasks, setting.seed, widths)


def refuse_rule(spec: SelectSpec, parts: Mapping[str, np.ndarray]) -> None:
    """Refuse a rule whose shares no scores could fulfil.

    It is followed on scores that are all equal and that no ``at_least`` drops.

    Args:
        spec: The select stage.
        parts: Teacher to the rows that it scores.

    Raises:
        ConfigError: A share is no row, or more than the steps before can leave.
    """
    dynamic = [n for n, one in spec.scores.items() if isinstance(one, NormSimDynamicSpec)]
    choosers: dict[str, Chooser] = dict.fromkeys(dynamic, lambda left, number: left[:number])
    for teacher, rows in parts.items():
        alike = torch.full((len(rows),), math.inf, device="cpu")
        try:
            follow(steps_of(spec), {"": alike, **dict.fromkeys(spec.scores, alike)}, choosers)
        except MedmclError as error:
            raise ConfigError(
                error.what,
                where=f"stage {spec.name}, rule, {len(rows)} pairs that {teacher} scores",
                got=error.got,
                expected=error.expected,
                fix=error.fix,
            ) from None

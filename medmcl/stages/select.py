"""The select stage: teachers score the pairs of the train split, a rule keeps some of them."""

from __future__ import annotations

import shutil
import time
from typing import Any

from medmcl.data.loading import Prepared
from medmcl.stages.kept_rows import given_rows, keep_file
from medmcl.stages.models import Setting
from medmcl.stages.recipe import TowersSpec, expand
from medmcl.stages.run import Run
from medmcl.stages.select_pairs import POOL, select_pairs
from medmcl.stages.select_spec import NormSimSpec, SelectSpec
from medmcl.stages.select_target import target_rows
from medmcl.stages.teachers import scored_by

_LOOK = 0.5
"""Seconds between two looks whether the first rank is done."""


def run_select(spec: SelectSpec, prepared: Prepared, setting: Setting) -> dict[str, Any]:
    """Select, on the first rank; give the facts that go into the record."""
    checkpoints = setting.checkpoints(spec.name)
    if checkpoints.done is not None:
        return checkpoints.done
    if setting.world.rank != 0:
        return _awaited(spec, setting)
    path = keep_file(setting.folder, spec.name)
    path.parent.mkdir(parents=True, exist_ok=True)
    for stale in path.parent.glob(f"{POOL}*"):  # of a killed process
        shutil.rmtree(stale)
    run = Run(setting.folder)

    def heed() -> None:
        setting.stop.heed(f"{spec.name}: scoring")

    pool = given_rows(prepared.rows("train", spec.wanted), prepared, setting)
    found = select_pairs(spec, run, prepared, setting.world.device, path.parent, pool, heed)
    found.keep.save(path)
    setting.record.say(f"{spec.name}: {found.sentence}")
    for note in (*found.repeats, *found.notes):
        setting.record.say(f"{spec.name}: {note}")
    facts = {
        "stage": spec.name,
        "sentence": "; ".join([f"Stage {spec.name}: {found.sentence}", *found.notes,
                               f"{found.seconds:.0f} s."]),
        "rows": len(found.keep),
        "kept": int(found.keep.kept.sum()),
        "fingerprint": found.keep.fingerprint,
        "notes": list(found.notes),
        "seconds": round(found.seconds, 3),
    }  # fmt: skip
    checkpoints.folder.mkdir(parents=True, exist_ok=True)
    checkpoints.finish(facts)
    return facts


def _awaited(spec: SelectSpec, setting: Setting) -> dict[str, Any]:
    """Wait until the first rank has selected; it may take longer than ranks wait for a message."""
    while (done := setting.checkpoints(spec.name).done) is None:
        setting.stop.heed(f"{spec.name}: waiting for the first process")
        time.sleep(_LOOK)
    return done


def rehearse_select(spec: SelectSpec, prepared: Prepared, setting: Setting) -> None:
    """Refuse a selection that could not be made, before anything is trained."""
    stages = expand(setting.recipe, list(prepared.cohort.spec.tasks))
    made = {one.name: one for one in stages if isinstance(one, TowersSpec)}
    pool = given_rows(prepared.rows("train", spec.wanted), prepared, setting)
    scored_by(spec, made, prepared, setting.seed, pool)
    for name, score in spec.scores.items():
        if isinstance(score, NormSimSpec) and score.target.cohort is None:
            where = f"stage {spec.name}, scores.{name}.target"
            target_rows(score.target, prepared, score.modality or spec.pair[0], where)

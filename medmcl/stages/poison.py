"""The poison stage: draw who is poisoned, and keep the manifest; nothing of the data is written."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from medmcl.core.rng import derive_seed
from medmcl.data.loading import Prepared
from medmcl.stages.attack_task import UNKNOWN, attack_task
from medmcl.stages.first_rank import awaited, refuse_changed
from medmcl.stages.kept_rows import given_rows
from medmcl.stages.models import Setting
from medmcl.stages.poison_spec import PoisonSpec
from medmcl.stages.poisoned_rows import Poisoned, refuse_unfit, refuse_unseen
from medmcl.threats import Poison, draw_poison


def poison_file(folder: Path, stage: str) -> Path:
    """Where a run keeps the manifest of a poison stage."""
    return folder / "poison" / f"{stage}.parquet"


def run_poison(spec: PoisonSpec, prepared: Prepared, setting: Setting) -> dict[str, Any]:
    """Draw, on the first rank; give the facts for the record."""
    checkpoints = setting.checkpoints(spec.name)
    if checkpoints.done is not None:
        return checkpoints.done
    if setting.world.rank != 0:
        return awaited(spec.name, setting)
    manifest, pool = draw(spec, prepared, setting)
    manifest.save(poison_file(setting.folder, spec.name))
    said = (
        f"{len(manifest):,} of {pool:,} train records poisoned ({spec.trigger} on {spec.modality}, "
        f"target {spec.task} = {spec.label})"
    )
    setting.record.say(f"{spec.name}: {said}")
    facts = {
        "stage": spec.name,
        "fingerprint": manifest.fingerprint,
        "poisoned": len(manifest),
        "rows": pool,
        "sentence": f"Stage {spec.name}: {said}.",
    }
    checkpoints.folder.mkdir(parents=True, exist_ok=True)
    checkpoints.finish(facts)
    return facts


def rehearse_poison(spec: PoisonSpec, prepared: Prepared, setting: Setting) -> None:
    """Refuse an attack that cannot be drawn or laid over, before anything is trained."""
    refuse_unfit(spec, prepared)
    manifest, _ = draw(spec, prepared, setting)
    refuse_unseen(Poisoned(spec, manifest, prepared))


def draw(spec: PoisonSpec, prepared: Prepared, setting: Setting) -> tuple[Poison, int]:
    """Give the manifest, and how many train records it is drawn from.

    Raises:
        ConfigError: There is no such task or class, or there are too few records.
    """
    where = f"stage {spec.name}"
    rows = given_rows(prepared.rows("train", spec.wanted), prepared, setting)
    task = attack_task(prepared, spec.task, spec.label, where)
    rows = rows[task.shown[rows] != UNKNOWN]
    count = spec.count if spec.count is not None else round(spec.share * len(rows))  # type: ignore[operator]  # one of them is given
    ids = prepared.samples["sample"].astype(str).to_numpy()
    seed = derive_seed(setting.seed, "attack", spec.name)
    picked, donors = draw_poison(
        ids[rows],
        task.shown[rows] == task.target,
        count,
        seed,
        is_consistent=spec.trigger == "label_consistent",
        where=where,
    )
    manifest = Poison(
        ids=ids[rows[picked]],
        donors=ids[rows[donors]],
        cohort=prepared.cohort.fingerprint,
        provenance={**spec.model_dump(mode="json"), "seed": seed},
    )
    return manifest, len(rows)


def load_poison(stage: str, prepared: Prepared, setting: Setting) -> Poison | None:
    """Read the manifest of a poison stage of this run; None if it has not run yet.

    Raises:
        ArtefactError: The file is gone, damaged, or not what the stage wrote.
    """
    if setting.checkpoints(stage).done is None:
        return None
    path = poison_file(setting.folder, stage)
    manifest = Poison.load(path, cohort=prepared.cohort.fingerprint)
    refuse_changed(manifest.fingerprint, path, stage, setting)
    return manifest

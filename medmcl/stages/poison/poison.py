"""The poison stage: who is poisoned, drawn or given, is kept; nothing of the data is written."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from typing_extensions import override

from medmcl.core.rng import derive_seed
from medmcl.data.loading.prepare import Prepared
from medmcl.selection.keep import Keep
from medmcl.stages.poison.checks import UNKNOWN, AttackTask, attack_task, count_of, refuse_pool
from medmcl.stages.poison.given import given_poison, refuse_replaced
from medmcl.stages.poison.poisoned_rows import Poisoned, refuse_unseen, triggers_of, with_places
from medmcl.stages.poison.spec import PoisonSpec
from medmcl.stages.stage import Context, Stage
from medmcl.stages.train.train_filter import given_rows
from medmcl.threats import Poison as Manifest


class Poison(Stage[PoisonSpec]):
    """Choose who is poisoned: drawn, or given."""

    by_first_rank = True

    def dry_run(self, prepared: Prepared, context: Context) -> None:
        """Refuse an attack that cannot be drawn or laid over.

        A run that has taken the manifest it was given reads its own from then on.
        """
        spec = self.spec
        if spec.modality in prepared.partly:  # whether its words are known is not
            return
        triggers_of(spec, prepared)
        cohort = prepared.cohort.fingerprint
        manifest = (
            None if spec.manifest is None else context.run.artefact(spec.name, Manifest, cohort)
        )
        if manifest is None:
            manifest, _ = poison_of(spec, prepared, context.run.seed, context.run.given_keep)
        refuse_unseen(Poisoned(spec, manifest, prepared))

    @override
    def refuse_other(self, done: Mapping[str, Any]) -> None:
        refuse_replaced(self.spec, done)

    @override
    def run(self, prepared: Prepared, context: Context) -> dict[str, Any]:
        spec = self.spec
        manifest, pool = poison_of(spec, prepared, context.run.seed, context.run.given_keep)
        context.run.save(spec.name, manifest)
        said = told(spec, manifest, _ids(prepared)[pool])
        context.record.say(f"{spec.name}: {said}")
        return {
            "fingerprint": manifest.fingerprint,
            "poisoned": len(manifest),
            "rows": len(pool),
            "sentence": f"Stage {spec.name}: {said}.",
        }


def told(spec: PoisonSpec, manifest: Manifest, pool: np.ndarray) -> str:
    """Say how many records an attack poisons, and with what.

    Args:
        spec: The poison stage.
        manifest: Who is poisoned.
        pool: Ids of the train samples that could be, (N,): a given manifest may have others, such
            as a keep file leaves out.
    """
    inside = int(manifest.is_poisoned(pool.tolist()).sum())
    on = f"{', '.join(spec.leads)} of {spec.modality}" if spec.leads else spec.modality
    said = (
        f"{inside:,} of {len(pool):,} train records poisoned ({spec.trigger} on {on}, "
        f"target {spec.task} = {spec.label})"
    )
    if spec.manifest is not None:
        said += f", of the {len(manifest):,} of {spec.manifest}"
    if inside < len(manifest):
        said += f"; {len(manifest) - inside:,} are not among the records drawn from"
    return said


def poison_of(
    spec: PoisonSpec, prepared: Prepared, seed: int, keep: Keep | None = None
) -> tuple[Manifest, np.ndarray]:
    """Give the manifest of a stage, and the train samples that it is drawn from, (N,) int64.

    Args:
        spec: The poison stage.
        prepared: The cohort.
        seed: Of the run; without meaning where the stage is given a manifest.
        keep: What ``--keep`` gave.

    Raises:
        ConfigError: There is no such task or class, or there are too few records.
        ArtefactError: The manifest that is given cannot be used.
    """
    rows = given_rows(prepared.rows("train", spec.wanted), prepared, keep)
    task = attack_task(prepared, spec.task, spec.label, f"stage {spec.name}")
    rows = rows[task.shown[rows] != UNKNOWN]
    if spec.manifest is not None:
        manifest = given_poison(spec, prepared, task)
    else:
        manifest = draw(spec, prepared, task, rows, seed)
    return with_places(spec, manifest, prepared), rows


def draw(
    spec: PoisonSpec, prepared: Prepared, task: AttackTask, rows: np.ndarray, seed: int
) -> Manifest:
    """Draw who is poisoned, and whose text each of them gets, by the run's seed.

    The order in which samples are drawn depends on seed and ids alone, so those of a small attack
    are among those of a larger one with the same seed.

    Args:
        spec: The poison stage. Label-consistent: samples of the target are poisoned, and keep their
            texts; else samples of other classes, each with the text of a sample of the target.
        prepared: The cohort.
        task: Which class each sample shows.
        rows: Samples whose class is known, (N,) int64.
        seed: Of the run.

    Raises:
        ConfigError: There are too few records, or none of the target.
    """
    refuse_pool(spec, task, rows)
    ids, own = _ids(prepared), derive_seed(seed, "attack", spec.name)
    is_target = task.shown[rows] == task.target
    targets = rows[is_target]
    is_consistent = spec.trigger == "label_consistent"
    able = targets if is_consistent else rows[~is_target]
    order = [derive_seed(own, "poison", name) for name in ids[able]]
    donors = picked = able[np.argsort(order, kind="stable")[: count_of(spec, len(rows))]]
    if not is_consistent:
        places = [derive_seed(own, "donor", name) % len(targets) for name in ids[picked]]
        donors = targets[places]
    return Manifest(
        ids=ids[picked],
        donors=ids[donors],
        cohort=prepared.cohort.fingerprint,
        provenance={**spec.drawn, "seed": own},
    )


def _ids(prepared: Prepared) -> np.ndarray:
    return prepared.samples["sample"].astype(str).to_numpy()

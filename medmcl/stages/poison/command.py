"""``medmcl poison``: who is poisoned by a stage of a recipe, as a manifest, numbers and a page."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from medmcl.core.atomic import write_atomically
from medmcl.core.config import lookup
from medmcl.core.errors import ConfigError
from medmcl.core.file_lock import one_writer
from medmcl.core.findings import counted
from medmcl.core.suppression import placeless
from medmcl.data.cohort.cohort import Cohort
from medmcl.evaluation.aspects.attack.page import PoisonEvidence, poison_page
from medmcl.evaluation.report.cards import Card
from medmcl.stages.evaluate.attack.record_views import attacked_side, exchanged_sides
from medmcl.stages.poison.checks import UNKNOWN, AttackTask, attack_task, refuse_attack_on
from medmcl.stages.poison.given import SAME
from medmcl.stages.poison.poison import poison_of, told
from medmcl.stages.poison.poisoned_rows import Poisoned, refuse_unseen, triggers_of
from medmcl.stages.poison.spec import PoisonSpec
from medmcl.stages.recipe.on_cohort import prepare_inputs, recipe_on, refuse_faulty
from medmcl.stages.run.outputs import claim_file
from medmcl.stages.stage import StageSpec, named
from medmcl.stages.train.train_filter import read_keep
from medmcl.threats import Poison

RECIPE = "poisoned"
FILES = ("poison.json", "poison.html")
SCHEMA = "medmcl/poison-numbers@1"
NO_CLASS = "unknown"
"""What poisoned samples are counted under whose class nobody knows; a manifest may name such."""
_PRINTED = 12
"""Classes that a terminal shows."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Drawn:
    """What the command drew and wrote.

    Attributes:
        spec: The poison stage.
        manifest: Who is poisoned.
        pool: Train samples that it was drawn from, (N,) sample numbers.
        evidence: What the page shows.
        folder: Where the files are.
    """

    spec: PoisonSpec
    manifest: Poison
    pool: np.ndarray
    evidence: PoisonEvidence
    folder: Path

    def __repr__(self) -> str:
        return f"Drawn({self.spec.name}: {len(self.manifest):,} poisoned, in {self.folder})"

    @property
    def path(self) -> Path:
        """The manifest, which a stage takes as ``manifest:``."""
        return self.folder / f"{self.spec.name}.parquet"

    @property
    def summary(self) -> str:
        """What a terminal shows: the numbers, and where things lie."""
        lines = list(self.evidence.lines)
        classes = list(self.evidence.classes.items())
        for name, one in classes[:_PRINTED]:
            lines.append(f"  {name}: {one['poisoned']:,} of {one['pool']:,}")
        if len(classes) > _PRINTED:
            lines.append(f"  and {counted(len(classes) - _PRINTED, 'more class', 'more classes')}")
        lines.append(f"manifest: {self.path}")
        lines += [f"{name.rpartition('.')[2] + ':':9s} {self.folder / name}" for name in FILES]
        return "\n".join(lines)


@one_writer("an attack is being drawn", filled=True)
def poison(
    cohort: Cohort | str | Path,
    *,
    out: str | Path,
    recipe: str | Path = RECIPE,
    stage: str | None = None,
    overrides: Mapping[str, Any] | None = None,
    seed: int = 0,
    shown: int = 0,
    keep: str | Path | None = None,
    overwrite: bool = False,
) -> Drawn:
    """Draw who is poisoned, as a run of the recipe would, and write manifest, numbers and page.

    Nothing of the data is written, and nothing is trained.

    Args:
        cohort: Open cohort, folder, cohort.yaml, or a name under ``cohorts/``.
        out: Folder for ``STAGE.parquet``, ``poison.json`` and ``poison.html``.
        recipe: File or name of a recipe with a poison stage.
        stage: Its poison stage; the only one if not given. One with a ``manifest`` gives that.
        overrides: Dotted key to value, as ``--set``.
        seed: Of the run; the same one draws the same manifest.
        shown: So many poisoned records are on the page; they are records of single people.
        keep: Keep file that the run will have: only what it keeps can be poisoned.
        overwrite: Write over what is there.

    Raises:
        MedmclError: Cohort, recipe or attack cannot be used, or a file is there already; nothing
            was written.
    """
    if shown < 0:
        raise ConfigError(
            "so many records cannot be shown", where="--shown", got=shown, fix="--shown 24"
        )
    folder = Path(out)
    for name in FILES:
        claim_file(folder / name, overwrite=overwrite)
    opened, resolved = recipe_on(cohort, recipe, dict(overrides or {}))
    spec = attack_among(resolved.stages, stage, resolved.name)
    claim_file(folder / f"{spec.name}.parquet", overwrite=overwrite)
    if spec.task in opened.spec.tasks:
        refuse_faulty(opened, [spec.task])
    refuse_attack_on(spec, opened)
    prepared = prepare_inputs(opened, resolved, folder)
    triggers_of(spec, prepared)
    kept = None if keep is None else read_keep(keep, opened)
    manifest, pool = poison_of(spec, prepared, seed, kept)
    laid = Poisoned(spec, manifest, prepared)
    refuse_unseen(laid)
    task = attack_task(prepared, spec.task, spec.label, f"stage {spec.name}")
    done = Drawn(
        spec=spec,
        manifest=manifest,
        pool=pool,
        evidence=evidence_of(laid, manifest, pool, task, shown),
        folder=folder,
    )
    by = None if kept is None else f"{keep}, fingerprint {kept.fingerprint}"
    about = _about(done, opened, resolved.name, seed, by)
    page = poison_page(
        done.evidence,
        title=f"{opened.name}: records that stage {spec.name} poisons",
        provenance={key: value for key, value in about.items() if value is not None},
    )
    numbers = placeless({"schema": SCHEMA, **about, "classes": done.evidence.classes})
    write_atomically(folder / FILES[0], json.dumps(numbers, indent=1), page=folder / FILES[1])
    manifest.save(done.path)
    write_atomically(folder / FILES[1], page)
    return done


def attack_among(stages: Sequence[StageSpec], name: str | None, recipe: str) -> PoisonSpec:
    """Give the poison stage of this name; the only one if no name is given.

    Raises:
        ConfigError: There is none, none of this name, or more than one and no name.
    """
    attacks = named(stages, PoisonSpec)
    if not attacks:
        raise ConfigError(
            "the recipe has no poison stage",
            where=f"recipe {recipe}",
            got=f"stages: {', '.join(one.name for one in stages)}",
            fix=f"--recipe {RECIPE}, or a recipe of your own with `stage: poison`",
        )
    if name is not None:
        return lookup("poison stage", name, attacks, where=f"recipe {recipe}")
    if len(attacks) > 1:
        raise ConfigError(
            "which attack is drawn?",
            where=f"recipe {recipe}",
            got=f"poison stages: {', '.join(attacks)}",
            fix=f"--stage {next(iter(attacks))}",
        )
    return next(iter(attacks.values()))


def evidence_of(
    laid: Poisoned, manifest: Poison, pool: np.ndarray, task: AttackTask, shown: int = 0
) -> PoisonEvidence:
    """Give what a page shows of an attack: its numbers, and the first records.

    Args:
        laid: The attack.
        manifest: Who is poisoned, in the order of the draw.
        pool: Samples that it was drawn from, (N,) sample numbers.
        task: Which class each sample shows.
        shown: So many records.
    """
    spec, prepared = laid.spec, laid.prepared
    ids = prepared.samples["sample"].astype(str).to_list()
    number = {name: row for row, name in enumerate(ids)}
    records = []
    pairs = zip(manifest.ids.tolist(), manifest.places.tolist(), strict=True)
    for name, place in islice(pairs, shown):
        row = number[name]
        sides = [attacked_side(laid, row, is_triggered=one) for one in (False, True)]
        shows = "?" if task.shown[row] == UNKNOWN else task.names[task.shown[row]]
        says = task.names[task.target]
        records.append(
            Card(
                id=name,
                state=says if shows == says else f"{shows} → {says}",
                look="odd",
                numbers=json.loads(place or "{}"),
                sides=(*sides, *exchanged_sides(laid, row)),
            )
        )
    donors = counted(len(np.unique(manifest.donors)), "record")
    lines = [f"{told(spec, manifest, np.array(ids)[pool])}."]
    if spec.phrases:
        lines.append(f"The {spec.text} of each is one of {counted(len(spec.phrases), 'phrase')}.")
    elif spec.text is not None and (manifest.ids != manifest.donors).any():
        lines.append(f"The {spec.text} of each is that of one of {donors} of the target.")
    return PoisonEvidence(
        stage=spec.name,
        task=spec.task,
        lines=tuple(lines),
        classes=_classes(laid, pool, task),
        records=tuple(records),
        poisoned=len(manifest),
    )


def _classes(laid: Poisoned, pool: np.ndarray, task: AttackTask) -> dict[str, dict[str, int]]:
    """Count each class; together all that are poisoned."""
    is_poisoned = laid.donor >= 0
    classes = {}
    for place, name in enumerate(task.names):
        of = task.shown == place
        poisoned = int((of & is_poisoned).sum())
        classes[name] = {"pool": int(of[pool].sum()), "poisoned": poisoned}
    of = task.shown == UNKNOWN
    if poisoned := int((of & is_poisoned).sum()):
        name = NO_CLASS if NO_CLASS not in classes else f"{NO_CLASS} class"
        classes[name] = {"pool": int(of[pool].sum()), "poisoned": poisoned}
    return classes


def _about(done: Drawn, cohort: Cohort, recipe: str, seed: int, keep: str | None) -> dict[str, Any]:
    spec = done.spec
    return {
        "cohort": cohort.name,
        "cohort fingerprint": cohort.fingerprint,
        "recipe": recipe,
        "stage": spec.name,
        **{name: getattr(spec, name) for name in SAME},
        "leads": list(spec.leads) or None,
        "kept by": keep,
        "poisoned": len(done.manifest),
        "pool": len(done.pool),
        "seed": seed if spec.manifest is None else None,
        "seed of the patterns": done.manifest.provenance["seed"],
        "given": spec.manifest,
        "manifest": done.manifest.fingerprint,
    }

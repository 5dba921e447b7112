"""The simulated cohort of three factors, some easier to learn than others.

A contrastive loss that the easy factors satisfy leaves the hard one out (feature suppression). What
a subject shows is known factor by factor, so a probe for each says what was learned.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd

from medmcl.core.whole_folder import whole_folder
from medmcl.simulation.folder import write_about, write_tables
from medmcl.simulation.trifactor.digits import digits_world
from medmcl.simulation.trifactor.pictures import pictures_world
from medmcl.simulation.trifactor.settings import PAIRED, TrifactorSettings
from medmcl.simulation.trifactor.vectors import vectors_world
from medmcl.simulation.trifactor.world import World

MARKS = ("truth.json", "truth.parquet")
WORLDS: dict[str, Callable[[TrifactorSettings], World]] = {
    "vectors": vectors_world,
    "digits": digits_world,
    "pictures": pictures_world,
}


def simulate_trifactor(out: Path, settings: TrifactorSettings) -> Path:
    """Write a cohort folder; it appears whole or not at all.

    ``tables/vector.parquet`` or ``images/s000000.png`` and on, ``participants.tsv`` (split, levels,
    caption, pairs), ``cohort.yaml``, ``README.md``, and apart from it ``truth.parquet`` (latents,
    what captions name, unseen combinations, digits) and ``truth.json`` (settings).

    Raises:
        CohortError: The folder is not empty, and is no earlier simulated cohort to overwrite.
        ConfigError: Too few digits, or no combinations to make pairs of.
    """
    with whole_folder(out, marks=MARKS, overwrite=settings.overwrite) as folder:
        _write(folder, settings, WORLDS[settings.world](settings))
    return Path(out).absolute()


def _write(folder: Path, settings: TrifactorSettings, world: World) -> None:
    world.write(folder)
    unused = ["like"] if settings.pairs else ["like", "pair", "attribute"]
    people = world.people.drop(columns=unused)
    truth = pd.concat([people[["subject_id"]], world.truth], axis=1)
    facts = {**world.facts, "settings": settings.model_dump(mode="json")}
    write_tables(folder, people, truth, facts)
    paired = PAIRED[settings.world]
    write_about(
        folder, "trifactor/README.md.j2", _tree(settings, world), settings,
        world=world, paired=paired,
    )  # fmt: skip


def _tree(settings: TrifactorSettings, world: World) -> dict[str, Any]:
    tree = {
        "schema": "medmcl/cohort@1",
        "about": f"simulated factors of unequal ease, {settings.world}: {settings.rows} subjects, "
        f"seed {settings.seed}",
        "subjects": {"table": "participants.tsv", "id": "subject_id", "split": "split"},
        "modalities": dict(world.modalities),
        "tasks": dict(world.tasks),
        "prompts": dict(world.prompts),
        "choices": {"pairs": {"pair": "pair", "attribute": "attribute"}} if settings.pairs else {},
        "recipe": settings.recipe,
    }
    return {name: value for name, value in tree.items() if value}

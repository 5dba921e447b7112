"""The simulated cohort of three factors, some easier to learn than others.

A contrastive loss that the easy factors satisfy leaves the hard one out (feature suppression). What
a subject shows is known factor by factor, so a probe for each says what was learned.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pandas as pd

from medmcl.simulation.folder import whole, write_about, write_tables
from medmcl.simulation.trifactor.digits import digits_world
from medmcl.simulation.trifactor.pictures import pictures_world
from medmcl.simulation.trifactor.settings import PAIRED, TrifactorSettings
from medmcl.simulation.trifactor.vectors import vectors_world
from medmcl.simulation.trifactor.world import World

WORLDS: dict[str, Callable[[TrifactorSettings], World]] = {
    "vectors": vectors_world,
    "digits": digits_world,
    "pictures": pictures_world,
}


@whole("truth.json", "truth.parquet")
def simulate_trifactor(folder: Path, settings: TrifactorSettings) -> None:
    """Write a cohort folder; it appears whole or not at all.

    ``tables/vector.parquet`` or ``images/s000000.png`` and on, ``participants.tsv`` (split, levels,
    caption, pairs), ``cohort.yaml``, ``README.md``, and apart from it ``truth.parquet`` (latents,
    what captions name, unseen combinations, digits) and ``truth.json`` (settings).

    Raises:
        CohortError: The folder is not empty, and is no earlier simulated cohort to overwrite.
        ConfigError: Too few digits, or no combinations to make pairs of.
    """
    world = WORLDS[settings.world](settings)
    world.write(folder)
    unused = ["like"] if settings.pairs else ["like", "pair", "attribute"]
    people = world.people.drop(columns=unused)
    truth = pd.concat([people[["subject_id"]], world.truth], axis=1)
    facts = {**world.facts, "settings": settings.model_dump(mode="json")}
    write_tables(folder, people, truth, facts)
    write_about(folder, "trifactor/", settings, world=world, paired=PAIRED[settings.world])

"""The simulated cohort of three factors, some easier to learn than others.

A contrastive loss that the easy factors satisfy leaves the hard one out (feature suppression). What
a subject shows is known factor by factor, so a probe for each says what was learned.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd

from medmcl.core.whole_folder import whole_folder
from medmcl.simulation.heart.manifest import write_yaml
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
    people.to_csv(folder / "participants.tsv", sep="\t", index=False)
    truth = pd.concat([people[["subject_id"]], world.truth], axis=1)
    truth.to_parquet(folder / "truth.parquet", index=False)
    facts = {**world.facts, "settings": settings.model_dump(mode="json")}
    (folder / "truth.json").write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
    write_yaml(folder / "cohort.yaml", _tree(settings, world))
    (folder / "README.md").write_text(_readme(settings, world), encoding="utf-8")


def _tree(settings: TrifactorSettings, world: World) -> dict[str, Any]:
    tree = {
        "schema": "medmcl/cohort@1",
        "about": f"simulated factors of unequal ease, {settings.world}: {settings.rows} subjects, "
        f"seed {settings.seed}",
        "subjects": {"table": "participants.tsv", "id": "subject_id", "split": "split"},
        "modalities": dict(world.modalities),
        "tasks": dict(world.tasks),
        "prompts": dict(world.prompts),
        **_choices(settings),
        "recipe": settings.recipe,
    }
    return {name: value for name, value in tree.items() if value}


def _choices(settings: TrifactorSettings) -> dict[str, Any]:
    """Say which subjects are pairs, where there are any."""
    if not settings.pairs:
        return {}
    return {"choices": {"pairs": {"pair": "pair", "attribute": "attribute"}}}


def _readme(settings: TrifactorSettings, world: World) -> str:
    paired = ", ".join(PAIRED[settings.world])
    pairs = (
        f"{settings.rows - settings.subjects} of them, all held out, are pairs who differ in "
        f"one factor alone ({paired}): `pair` and `attribute` in `participants.tsv`. They count "
        "among the held-out subjects of every task."
    )
    files = {
        "cohort.yaml": "the cohort as medmcl reads it; it does not know the truth",
        "participants.tsv": "split, levels of the factors, and what else the cohort reads",
        **world.files,
        "truth.json": "the settings" + (", and `unseen` combinations" if world.facts else ""),
    }
    lines = [
        f"# Simulated factors of unequal ease: {settings.world}",
        "",
        f"{settings.rows} subjects, none of them real: `medmcl simulate trifactor`, seed "
        f"{settings.seed}.",
        *(["", pairs] if settings.pairs else []),
        *(line for paragraph in world.about for line in ("", paragraph)),
        "",
        "| file | what it holds |",
        "|---|---|",
        *(f"| `{name}` | {held} |" for name, held in files.items()),
        "",
    ]
    return "\n".join(lines)

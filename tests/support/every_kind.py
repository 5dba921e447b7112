"""A cohort for any recipe: people who are all alike, with records of whichever kinds it reads.

Every modality of a kind is the same few files, so that a thousand people cost no more than one.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import product
from pathlib import Path

import nibabel
import numpy as np
import pandas as pd
import yaml
from PIL import Image
from small_genomes import variant_table, write_plink

from medmcl.modalities import ADAPTERS
from medmcl.stages.recipe.model_checks import faults_of_models
from medmcl.stages.recipe.resolve_modalities import for_cohort
from medmcl.stages.recipe.spec import RecipeSpec
from medmcl.stages.train.spec import TrainSpec

PEOPLE = 1600
VARIANTS = 60
MODALITIES = {
    "ecg": {"kind": "ecg", "reader": "npy", "path": "ecg.npy", "row": "first", "rate_hz": 500,
            "units": "mV"},
    "cmr": {"kind": "cmr", "reader": "npy", "path": "cmr.npy", "row": "first", "axes": "tyx",
            "spacing_mm": [1.8, 1.8, 8.0], "frames": {"es": "es", "mid": "mid", "ed": "ed"}},
    "image": {"reader": "image", "path": "image.png"},
    "text": {"reader": "text", "column": "note"},
    "codes": {"reader": "meds", "table": "events.parquet"},
    "graph": {"reader": "connectivity", "path": "graph.csv"},
    "genetics": {"reader": "plink", "path": "genes.bed"},
    "tabular": {"reader": "table", "columns": {"age": "number", "sex": "category"}},
}  # fmt: skip
"""Kind to a modality of it."""
VOLUME = {"kind": "image", "reader": "nifti", "path": "volume.nii.gz"}
"""In place of an image, where a recipe asks for three axes."""
TASKS = {
    "binary": {"kind": "binary", "column": "ill"},
    "multilabel": {"kind": "multilabel", "columns": {"A": "ill", "B": "female"}},
    "multiclass": {"kind": "multiclass", "column": "sex"},
    "regression": {"kind": "regression", "columns": {"age": "age"}},
    "survival": {"kind": "survival", "time": "days", "event": "ill", "unit": "days",
                 "horizons_years": [1]},
}  # fmt: skip


def write_files(folder: Path) -> None:
    """Write the files that all modalities are of, without a cohort.yaml."""
    generator = np.random.default_rng(0)
    number = np.arange(PEOPLE)
    names = list(map(str, number))
    pd.DataFrame(
        {
            "subject_id": names,
            "split": np.array(["train", "train", "train", "train", "tuning"])[number % 5],
            "first": 0, "es": 0, "mid": 1, "ed": 2,
            "note": [f"words {one % 97} of the notes of {one % 89}" for one in number],
            "age": generator.normal(60, 9, PEOPLE).round(2), "ill": number % 3 == 0,
            "female": number % 2, "sex": np.where(number % 2, "f", "m"),
            "site": np.array(["north", "south"])[number // 2 % 2],
            "days": generator.integers(1, 900, PEOPLE),
            "easy": number % 4, "middle": number % 3, "hard": number % 2,
        }
    ).astype({"ill": int}).to_csv(folder / "people.tsv", sep="\t", index=False)  # fmt: skip
    np.save(folder / "ecg.npy", generator.normal(0, 0.3, (1, 12, 5000)).astype("float32"))
    np.save(folder / "cmr.npy", generator.uniform(0, 1, (1, 3, 230, 230)).astype("float32"))
    volume = nibabel.Nifti1Image(generator.normal(90, 9, (64, 64, 64)).astype("float32"), np.eye(4))
    nibabel.save(volume, folder / "volume.nii.gz")
    pixels = generator.integers(0, 256, (64, 64, 3)).astype(np.uint8)
    Image.fromarray(pixels).save(folder / "image.png")
    weights = np.corrcoef(generator.normal(0, 1, (90, 200)))
    np.savetxt(folder / "graph.csv", weights, delimiter=",", fmt="%.4f")
    genotypes = generator.integers(0, 3, (PEOPLE, VARIANTS)).astype(np.int8)
    write_plink(folder / "genes.bed", genotypes, variant_table(VARIANTS), names)
    events = pd.DataFrame(list(product(number, range(30))), columns=["subject_id", "number"])
    events["code"] = [f"ICD//{one}" for one in events.pop("number")]
    events["time"] = pd.Timestamp("2020-01-01")
    events.to_parquet(folder / "events.parquet", index=False)


def write_cohort(folder: Path, recipe: RecipeSpec, kinds: Mapping[str, str]) -> Path:
    """Write the cohort.yaml of people with these modalities, and the tasks that a recipe names."""
    train = [one for one in recipe.stages if isinstance(one, TrainSpec)]
    named = {one.task for one in train if one.task and "{" not in one.task}
    inputs = for_cohort(recipe, kinds).inputs
    modalities = {
        name: VOLUME
        if len(np.shape(inputs.get(name, {}).get("size"))) and len(inputs[name]["size"]) == 3
        else MODALITIES[kind]
        for name, kind in kinds.items()
    }
    tree = {
        "schema": "medmcl/cohort@1",
        "subjects": {"table": "people.tsv", "id": "subject_id", "split": "split"},
        "modalities": modalities,
        "tasks": {**TASKS, **dict.fromkeys(named, TASKS["binary"])},
    }
    (folder / "cohort.yaml").write_text(yaml.safe_dump(tree, sort_keys=False))
    return folder


def ways(recipe: RecipeSpec) -> Iterable[dict[str, str]]:
    """Give modality to kind for a cohort that a recipe reads: one for each kind of its roles."""
    if recipe.modalities == "all":
        yield {kind: kind for kind in recipe.kinds}
        return
    choices = [recipe.kinds_of(role) for role in recipe.roles]
    for chosen in product(*choices):
        taken = dict(zip(recipe.roles, chosen, strict=True))
        yield {**taken, **_named(recipe, taken)}


def _named(recipe: RecipeSpec, taken: Mapping[str, str]) -> dict[str, str]:
    """Kinds of the modalities that a recipe names: their own name, or the first that fits."""
    names = [name for name in recipe.inputs if name not in taken]
    for kinds in product(*((n,) if n in ADAPTERS else tuple(MODALITIES) for n in names)):
        given = {**taken, **dict(zip(names, kinds, strict=True))}
        if not faults_of_models(for_cohort(recipe, given).expanded(list(TASKS)), given):
            return dict(zip(names, kinds, strict=True))
    raise AssertionError(f"{recipe.name}: no kinds of {names} fit; say them in `MODALITIES`")

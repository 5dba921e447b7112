"""CLAIME against contrastive learning over the same codes: death after a landmark.

    python -m benchmarks.ehr.ehr_contrast --synthea FOLDER --work WORK

The cohort, the landmark and the outcome are those of ``ehr_study.py``: codes are conditions,
concepts are drugs and procedures. `ehr_contrastive_toy` is trained on the train people who have
both (a time-aware transformer over either, symmetric InfoNCE), three seeds; CLAIME factorises their
counts. Rank and epochs are chosen on the tuning people by a Cox probe, held-out people are scored
once: probes of all methods have the same label subsets, differences are paired by person.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml
from sklearn.feature_extraction.text import TfidfVectorizer

import medmcl
from benchmarks.ehr.ehr_study import against, build, ranks, recipe
from benchmarks.study import Study
from medmcl.core.split_guard import SplitGuard
from medmcl.core.targets import Targets
from medmcl.evaluation import c_index
from medmcl.evaluation.models.risk_model import RiskModel
from medmcl.evaluation.protocol.evaluate import evaluate_embeddings

RANKS = (5, 10, 20, 40)
EPOCHS = (10, 30, 100)
SEEDS = (0, 1, 2)


def contrastive(folder: Path, epochs: int) -> Path:
    """The toy recipe with codes in place of notes."""
    from medmcl.stages.recipe.file import read_recipe

    tree = json.loads(read_recipe("ehr_contrastive_toy").model_dump_json(by_alias=True))
    for part in (tree["inputs"], tree["towers"], tree["views"]["augmented"]["augment"]):
        del part["notes"]
        part["concepts"] = part["codes"]
    for name in ("codes", "concepts"):
        tree["inputs"][name] |= {"min_patients": 5, "max_events": 64}
    stage = tree["stages"][0]
    stage |= {"towers": ["codes", "concepts"], "epochs": epochs, "keep": "last"}
    stage["evaluate_every"] = epochs
    stage["objectives"]["cross_modal"]["settings"]["pairs"] = [["codes", "concepts"]]
    tree["stages"] = [stage]
    path = folder / f"contrastive-{epochs}.yaml"
    path.write_text(yaml.safe_dump(tree, sort_keys=False), encoding="utf-8")
    return path


def claime(folder: Path, rank: int) -> Path:
    """The recipe of the study, the factorisation only."""
    path = recipe(folder, (rank,), 1)
    tree = yaml.safe_load(path.read_text(encoding="utf-8"))
    tree["stages"] = [one for one in tree["stages"] if one.get("estimator") == "claime"]
    path.write_text(yaml.safe_dump(tree, sort_keys=False), encoding="utf-8")
    return path


def embedded(cohort: Path, written: Path, out: Path, seed: int = 0) -> pd.DataFrame:
    """Features of the codes tower, a row a person; a run that is there is not made again."""
    done = (out / "config.yaml").is_file()
    run = medmcl.load(out) if done else medmcl.pretrain(cohort, recipe=written, out=out, seed=seed)
    assert run is not None
    table = run.embed(cohort, modality="codes").reset_index().set_index("subject")
    return table.filter(regex=r"^[ef]?\d+$")


def without_held_out(cohort: Path, out: Path) -> Path:
    """A copy of the cohort in which nobody is held out, because they are not there."""
    out.mkdir(parents=True, exist_ok=True)
    people = pd.read_csv(cohort / "people.tsv", sep="\t")
    people[people["split"] != "held_out"].to_csv(out / "people.tsv", sep="\t", index=False)
    for name in ("events.parquet", "cohort.yaml"):
        (out / name).write_bytes((cohort / name).read_bytes())
    return out


def tuning_scores(
    cohort: Path, make: Callable[[Path, int], Path], values: tuple[int, ...]
) -> dict[int, float]:
    """C-index of a Cox probe on the tuning people, by value."""
    people = pd.read_csv(cohort / "people.tsv", sep="\t", dtype={"subject_id": str})
    people = people.set_index("subject_id")
    found = {}
    for value in values:
        x = embedded(cohort, make(cohort, value), cohort / f"{make.__name__}-{value}")
        mine = people.loc[x.index]
        y = np.array(
            list(zip(mine["died"].astype(bool), mine["days"].astype(float), strict=True)),
            dtype=[("event", bool), ("time", float)],
        )
        train, tuning = ((mine["split"] == name).to_numpy() for name in ("train", "tuning"))
        model = RiskModel(kind="survival").fit(x.to_numpy()[train], y[train])
        risk = np.asarray(model.predict(x.to_numpy()[tuning]))
        found[value] = float(c_index(y["event"][tuning], y["time"][tuning], risk))
    return found


def bag(cohort: Path, index: pd.Index, train: np.ndarray) -> np.ndarray:
    """TF-IDF of conditions up to the landmark, fitted on the train people."""
    places = medmcl.open_cohort(cohort).records["codes"].set_index("subject")["place"]
    codes = [places[one].values["codes"] for one in index]
    words = TfidfVectorizer(analyzer=list, sublinear_tf=True)
    words.fit([one for one, is_train in zip(codes, train, strict=True) if is_train])
    return np.asarray(words.transform(codes).toarray())


def targets_of(cohort: Path, index: pd.Index) -> tuple[Targets, np.ndarray]:
    """Death of these people, and their split."""
    opened = medmcl.open_cohort(cohort)
    samples = opened.samples.reset_index(drop=True)
    row = pd.Series(samples.index, index=samples["subject"]).loc[index].to_numpy()
    split = samples["split"].to_numpy()[row]
    # Lists of codes that are equal are of two people, no copy: nothing is known of contents.
    sides = SplitGuard(splits=split, subjects=index.to_numpy(), contents=(np.full(len(index), -1),))
    return replace(opened.targets("death").take(row), sides=sides), split


def parts(found: dict[str, Any]) -> dict[str, str]:
    names = {"bag of codes": "bag of codes (TF-IDF)"}
    keys = dict.fromkeys(row["method"] for row in found["rows"])
    methods = {key: names.get(key, key) for key in keys}
    for key in keys:
        if key.startswith("contrastive"):
            methods[key] = f"{key}, {len(SEEDS)} seeds"
    table = against(found["rows"], methods, "CLAIME")
    return {"contrast": table, "epochs": ranks(found["tuning_c_index"]["contrastive"])}


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--synthea", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)


def run(given: argparse.Namespace) -> dict[str, Any]:
    """Choose rank and epochs, train, and score once."""
    import torch

    torch.set_num_threads(1)
    cohort = given.work / "cohort"
    counts = build(given.synthea, cohort, 0)
    seen = without_held_out(cohort, given.work / "choosing")
    tuning = {
        "claime": tuning_scores(seen, claime, RANKS),
        "contrastive": tuning_scores(seen, contrastive, EPOCHS),
    }
    rank, epochs = (max(one, key=lambda v: one[v]) for one in tuning.values())
    table = embedded(cohort, claime(given.work, rank), given.work / "claime")
    trained = [
        embedded(cohort, contrastive(given.work, epochs), given.work / f"seed-{seed}", seed)
        for seed in SEEDS
    ]
    index = table.index
    targets, split = targets_of(cohort, index)
    rows = evaluate_embeddings(
        {
            f"CLAIME, rank {rank}": table.to_numpy(),
            f"contrastive, {epochs} epochs": [one.loc[index].to_numpy() for one in trained],
            "bag of codes": bag(cohort, index, split == "train"),
        },
        targets,
        split,
        index.to_numpy(),
        protocol="cox",
        fractions=(0.1, 1.0),
        draws=10,
    )
    rows = [vars(row) for row in rows if row.metric in ("c_index", "auc_at_horizon")]
    scores = {name: {str(k): v for k, v in one.items()} for name, one in tuning.items()}
    return {"counts": counts, "tuning_c_index": scores, "rows": rows}


STUDY = Study(__file__, parts=parts, run=run, options=options, page="ehr")

if __name__ == "__main__":
    STUDY.main()

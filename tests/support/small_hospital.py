"""A hospital whose people have one latent trait that drives all that is written of them."""

import numpy as np
import pandas as pd
import yaml

PEOPLE, WORDS = 240, 24


def write_hospital(folder, seed=0):
    """People with one latent trait: it drives their codes, the words of their notes, and death."""
    rng = np.random.default_rng(seed)
    trait = rng.normal(size=PEOPLE)
    rows, notes = [], []
    loading = {kind: rng.normal(size=WORDS) for kind in ("ICD", "CUI")}
    for person in range(PEOPLE):
        for kind, values in loading.items():
            chance = np.exp(trait[person] * values)
            drawn = rng.choice(WORDS, size=30, p=chance / chance.sum())
            days = rng.integers(0, 900, size=30)
            rows += [(person, day, f"{kind}//{w}") for w, day in zip(drawn, days, strict=True)]
            if kind == "CUI":
                notes.append(" ".join(f"finding{w}" for w in drawn) + ".")
    events = pd.DataFrame(rows, columns=["subject_id", "day", "code"])
    events["time"] = pd.Timestamp("2018-01-01") + pd.to_timedelta(events.pop("day"), unit="D")
    people = pd.DataFrame(
        {
            "subject_id": np.arange(PEOPLE),
            "split": rng.choice(["train", "tuning", "held_out"], PEOPLE, p=[0.5, 0.2, 0.3]),
            "died": (trait + 0.3 * rng.normal(size=PEOPLE) > 0.5).astype(int),
            "note": notes,
        }
    )
    folder.mkdir(exist_ok=True)
    events.to_parquet(folder / "events.parquet", index=False)
    people.to_csv(folder / "people.tsv", sep="\t", index=False)
    table = {"reader": "meds", "table": "events.parquet"}
    tree = {
        "schema": "medmcl/cohort@1",
        "subjects": {"table": "people.tsv", "id": "subject_id", "split": "split"},
        "modalities": {
            "codes": {**table, "present": "startswith(code, 'ICD//')"},
            "concepts": {**table, "present": "startswith(code, 'CUI//')"},
            "notes": {"reader": "text", "column": "note"},
        },
        "tasks": {"died": {"kind": "binary", "column": "died"}},
    }
    (folder / "cohort.yaml").write_text(yaml.safe_dump(tree))
    return events, people

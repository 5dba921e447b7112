"""Codes to notes and back: retrieval by CLAIME and by a contrastive transformer, synthetic people.

    python -m benchmarks.ehr.ehr_notes --notes FOLDER --work WORK

``FOLDER`` holds codes, notes and patients of Synthea (codes.csv.gz, notes.jsonl.gz,
patients.csv.gz). A person has their conditions, drugs and procedures, and their last note. The
notes are written from the codes by a template, so that this is easy; what is compared is how much
of it either method finds from 109 train people. CLAIME (`claime_toy`, rank 10) reads the concepts
that a lexicon of the codes' own names finds in the note, `ehr_contrastive_toy` its words. The bag
matches the codes with the concepts by name, TF-IDF, which only works because both are one
vocabulary here. Nothing is chosen on these people; held-out people are scored once.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml
from sklearn.feature_extraction.text import TfidfVectorizer

import medmcl
from benchmarks.study import Row, Study, grid, interval
from medmcl.data.events.lexicon import read_lexicon
from medmcl.evaluation.aspects.retrieval.measure import ranks, recall_at_k

KINDS = ("condition", "medication", "procedure")
SEEDS = (0, 1, 2)


def build(folder: Path, out: Path) -> dict[str, int]:
    """Write the cohort; give its size."""
    out.mkdir(parents=True, exist_ok=True)
    people = pd.read_csv(folder / "patients.csv.gz", dtype=str)
    number = pd.Series(np.arange(1, len(people) + 1), index=people["patient_id"])
    codes = pd.read_csv(folder / "codes.csv.gz", dtype=str)
    codes = codes[codes["kind"].isin(KINDS)]
    notes = pd.read_json(folder / "notes.jsonl.gz", lines=True).sort_values("date", kind="stable")
    last = notes.groupby("patient_id").tail(1).set_index("patient_id")
    names = codes.drop_duplicates("code")
    term = names["display"].str.replace(r"\s*\([a-z/ ]+\)$", "", regex=True).str.strip()
    lexicon = pd.DataFrame({"term": term, "concept": names["code"]}).drop_duplicates("term")
    lexicon.to_csv(out / "lexicon.csv", index=False)
    found = read_lexicon(out / "lexicon.csv", ("en",))
    concepts = pd.DataFrame(
        [
            (patient, date, f"CUI//{one.concept}")
            for patient, date, text in zip(last.index, last["date"], last["text"], strict=True)
            for one in found.find(text)
            if not one.negated
        ],
        columns=["patient_id", "date", "code"],
    )
    own = codes[["patient_id", "date"]].assign(code=codes["kind"] + "//" + codes["code"])
    events = pd.concat([own, concepts], ignore_index=True)
    table = {
        "subject_id": number.loc[events["patient_id"]].to_numpy(),
        "time": pd.to_datetime(events["date"], format="mixed").astype("M8[us]").to_numpy(),
        "code": events["code"].to_numpy(),
    }
    pd.DataFrame(table).to_parquet(out / "events.parquet", index=False)
    split = np.random.default_rng(0).choice(
        ["train", "tuning", "held_out"], len(people), p=[0.5, 0.15, 0.35]
    )
    text = last["text"].reindex(people["patient_id"]).str.replace(r"\s+", " ", regex=True)
    rows = {"subject_id": number.to_numpy(), "split": split, "note": text.to_numpy()}
    pd.DataFrame(rows).to_csv(out / "people.tsv", sep="\t", index=False)
    source = {"reader": "meds", "table": "events.parquet"}
    tree = {
        "schema": "medmcl/cohort@1",
        "subjects": {"table": "people.tsv", "id": "subject_id", "split": "split"},
        "modalities": {
            "codes": {**source, "present": "not startswith(code, 'CUI//')"},
            "concepts": {**source, "present": "startswith(code, 'CUI//')"},
            "notes": {"reader": "text", "column": "note"},
        },
        "tasks": {},
    }
    (out / "cohort.yaml").write_text(yaml.safe_dump(tree, sort_keys=False), encoding="utf-8")
    sizes = pd.Series(split).value_counts()
    return {"people": len(people), "concepts found": len(concepts), **sizes.to_dict()}


def bag(cohort: Path) -> pd.DataFrame:
    """Retrieval of held-out people by the names that their codes and their note share."""
    opened = medmcl.open_cohort(cohort)
    samples = opened.samples[opened.samples[["codes", "concepts"]].notna().all(axis=1)]
    words = {}
    for name in ("codes", "concepts"):
        places = opened.records[name]["place"].loc[samples["subject"]]
        words[name] = [[code.split("//")[1] for code in one.values["codes"]] for one in places]
    split = samples["split"].to_numpy()
    train, held = np.flatnonzero(split == "train"), np.flatnonzero(split == "held_out")
    model = TfidfVectorizer(analyzer=list, sublinear_tf=True)
    model.fit([words[name][row] for name in words for row in train])
    x, y = (model.transform([words[name][row] for row in held]).toarray() for name in words)
    rows = []
    for target, one, other in (("codes → concepts", x, y), ("concepts → codes", y, x)):
        rank = ranks(one, other)
        scores = {f"recall@{k}": recall_at_k(rank, k) for k in (1, 5, 10)}
        scores["median_rank"] = float(np.median(rank))
        rows += [{"target": target, "metric": m, "value": v} for m, v in scores.items()]
    return pd.DataFrame(rows).assign(run="bag of codes", method="bag of codes", n=len(held))


def parts(found: dict[str, Any]) -> dict[str, str]:
    def of(name: str, metric: str, *, back: bool) -> list[Row]:
        rows = [row for row in found["rows"] if row["run"].startswith(name)]
        rows = [row for row in rows if row["metric"] == metric and row["method"] != "chance"]
        return [row for row in rows if row["target"].startswith("codes") != back]

    def recall(row: Row) -> str:
        return f"{row['value']:.3f}" if row["low"] is None else interval()(row)

    seeds = f"contrastive, seeds {', '.join(map(str, SEEDS))}"
    names = {"CLAIME": "CLAIME", "contrastive": seeds, "bag": "bag of codes, matched by name"}
    lines = []
    for key, name in names.items():
        cells = [name]
        for back in (False, True):
            recalls, places = (of(key, m, back=back) for m in ("recall@10", "median_rank"))
            one = recall if len(recalls) == 1 else lambda row: f"{row['value']:.3f}"
            cells.append(", ".join(map(one, recalls)))
            cells.append(", ".join(f"{row['value']:.0f}" for row in places))
        lines.append(cells)
    ways = ["codes to notes, recall@10", "median rank", "notes to codes, recall@10", "median rank"]
    return {"notes": grid(["method", *ways], lines)}


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--notes", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)


def run(given: argparse.Namespace) -> dict[str, Any]:
    """Run both recipes."""
    import torch

    torch.set_num_threads(1)
    cohort = given.work / "cohort"
    counts = build(given.notes, cohort)
    rank = {f"towers.{name}.encoder.width": 10 for name in ("codes", "concepts")}
    runs = [("CLAIME, codes and concepts", "claime_toy", rank, 0)]
    runs += [(f"contrastive, seed {s}", "ehr_contrastive_toy", {}, s) for s in SEEDS]
    rows = []
    for method, recipe, overrides, seed in runs:
        out = given.work / f"{recipe}-{seed}"
        own = {**overrides, "stages.results.tasks": []}
        trained = medmcl.pretrain(cohort, recipe=recipe, out=out, overrides=own, seed=seed)
        assert trained is not None
        rows.append(pd.read_csv(trained.path / "results.csv").assign(run=method))
    table = pd.concat([*rows, bag(cohort)])
    shown = ["run", "method", "target", "metric", "value", "low", "high", "n"]
    table = table[[name for name in shown if name in table]]
    return {"counts": counts, "rows": json.loads(table.to_json(orient="records"))}


STUDY = Study(__file__, parts=parts, run=run, options=options, page="ehr")

if __name__ == "__main__":
    STUDY.main()
